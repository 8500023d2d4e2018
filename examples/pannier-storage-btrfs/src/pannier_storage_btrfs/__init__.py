"""The storage driver btrfs for Pannier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.storage import StorageDriver

__all__ = ["pannier_storage_drivers"]


@hookimpl
def pannier_storage_drivers() -> Sequence[type[StorageDriver]]:
    """Supply the driver."""
    from pannier_storage_btrfs.driver import (  # noqa: PLC0415 - a command that needs no driver does not pay
        BtrfsStorage,
    )

    return [BtrfsStorage]
