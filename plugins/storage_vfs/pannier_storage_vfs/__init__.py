"""Layers and containers as whole copies, for hosts on which nothing better works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.storage import StorageDriver

__all__ = ["pannier_storage_drivers"]


@hookimpl
def pannier_storage_drivers() -> Sequence[type[StorageDriver]]:
    """Supply the ``vfs`` driver."""
    from pannier_storage_vfs.driver import (  # noqa: PLC0415 - loaded when drivers are asked for
        VfsStorage,
    )

    return (VfsStorage,)
