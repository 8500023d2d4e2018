"""The ``net_host`` driver: containers in the host's network namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.network import NetworkDriver

__all__ = ["pannier_network_drivers"]


@hookimpl
def pannier_network_drivers() -> Sequence[type[NetworkDriver]]:
    """Supply the driver ``host``."""
    from pannier_net_host.driver import HostDriver  # noqa: PLC0415 - loaded when asked for

    return [HostDriver]
