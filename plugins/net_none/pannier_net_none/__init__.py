"""The ``net_none`` driver: containers with a loopback link and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.network import NetworkDriver

__all__ = ["pannier_network_drivers"]


@hookimpl
def pannier_network_drivers() -> Sequence[type[NetworkDriver]]:
    """Supply the driver ``none``."""
    from pannier_net_none.driver import NoneDriver  # noqa: PLC0415 - loaded when asked for

    return [NoneDriver]
