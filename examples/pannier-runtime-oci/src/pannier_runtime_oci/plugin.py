"""What Pannier finds by the entry point: the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers import RuntimeDriver

__all__ = ["pannier_runtime_drivers"]


@hookimpl
def pannier_runtime_drivers() -> Sequence[type[RuntimeDriver]]:
    """Supply the ``runc`` driver."""
    from pannier_runtime_oci.driver import (  # noqa: PLC0415 - loaded when drivers are asked for
        OciRuntime,
    )

    return (OciRuntime,)
