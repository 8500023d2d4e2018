"""The ``log_files`` drivers: a container's output in files beside it, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.log import LogDriver

__all__ = ["pannier_log_drivers"]


@hookimpl
def pannier_log_drivers() -> Sequence[type[LogDriver]]:
    """Supply the drivers ``json-file`` and ``local``."""
    from pannier_log_files.driver import JsonFile, Local  # noqa: PLC0415 - loaded when asked for

    return [JsonFile, Local]
