"""What the engine says about itself and its host."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pannier.engine.results import DiskUsage, SystemInfo

__all__ = ["System"]


class System:
    """Answers ``info`` and ``system df``."""

    async def info(self) -> SystemInfo:
        raise NotImplementedError

    async def disk_usage(self) -> DiskUsage:
        raise NotImplementedError
