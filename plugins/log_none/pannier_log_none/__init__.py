"""The ``log_none`` driver: a container's output is kept nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.log import LogDriver

__all__ = ["pannier_log_drivers"]


@hookimpl
def pannier_log_drivers() -> Sequence[type[LogDriver]]:
    """Supply the driver ``none``."""
    from pannier_log_none.driver import NoneDriver  # noqa: PLC0415 - loaded when asked for

    return [NoneDriver]
