"""The ``runtime_native`` driver: containers made with system calls, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.runtime import RuntimeDriver

__all__ = ["pannier_runtime_drivers"]


@hookimpl
def pannier_runtime_drivers() -> Sequence[type[RuntimeDriver]]:
    """Return the driver."""
    from pannier_runtime_native.driver import NativeRuntime  # noqa: PLC0415 - loaded when asked for

    return (NativeRuntime,)
