"""The ``log_syslog`` driver: every line to a syslog server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.log import LogDriver

__all__ = ["pannier_log_drivers"]


@hookimpl
def pannier_log_drivers() -> Sequence[type[LogDriver]]:
    """Supply the driver ``syslog``."""
    from pannier_log_syslog.driver import Syslog  # noqa: PLC0415 - loaded when asked for

    return [Syslog]
