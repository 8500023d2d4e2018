"""Volumes: folders that outlive the containers which use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.engine.model import Volume
    from pannier.engine.results import PruneResult, VolumeUsage

__all__ = ["Volumes"]


class Volumes:
    """Creates, removes and knows the volumes of the ``local`` driver."""

    def list(self, filters: Mapping[str, tuple[str, ...]]) -> list[Volume]:
        raise NotImplementedError

    def get(self, name: str) -> Volume:
        raise NotImplementedError

    async def create(
        self,
        name: str = "",
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        raise NotImplementedError

    async def remove(self, name: str, *, force: bool = False) -> None:
        raise NotImplementedError

    async def prune(self, filters: Mapping[str, tuple[str, ...]]) -> PruneResult:
        raise NotImplementedError

    async def usage(self, name: str) -> VolumeUsage:
        raise NotImplementedError
