"""Layers as folders, united by the kernel's overlay filesystem."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.storage import StorageDriver

__all__ = ["pannier_storage_drivers"]


@hookimpl
def pannier_storage_drivers() -> Sequence[type[StorageDriver]]:
    """Supply the ``overlay`` driver."""
    from pannier_storage_overlay.driver import (  # noqa: PLC0415 - loaded when drivers are asked for
        OverlayStorage,
    )

    return (OverlayStorage,)
