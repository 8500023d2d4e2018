"""The network driver ``macvlan`` for Pannier: containers as machines on the host's own network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.network import NetworkDriver

__all__ = ["pannier_network_drivers"]


@hookimpl
def pannier_network_drivers() -> Sequence[type[NetworkDriver]]:
    """Supply the driver ``macvlan``."""
    # Imported here, so that a command that needs no driver does not pay for it.
    from pannier_net_macvlan.driver import MacvlanDriver  # noqa: PLC0415

    return [MacvlanDriver]
