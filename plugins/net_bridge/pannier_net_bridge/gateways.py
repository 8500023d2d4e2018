"""How a network's host stands to it: Docker's gateway modes, one for each IP version.

``nat`` translates, and lets in what comes for published ports. ``nat-unprotected`` lets everything
in that comes from outside for the containers' own addresses; other networks stay apart.
``isolated`` gives the bridge no address, so that the host itself is no neighbour of the containers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pannier.errors import InvalidRequest, UnsupportedOperation

if TYPE_CHECKING:
    from pannier.drivers.network import NetworkSpec

__all__ = ["NAT", "GatewayMode", "GatewayModes", "gateway_modes"]

_OPTION: Final = "com.docker.network.bridge.gateway_mode_ipv"


class GatewayMode(StrEnum):
    """See the module."""

    NAT = "nat"
    UNPROTECTED = "nat-unprotected"
    ISOLATED = "isolated"


@dataclass(frozen=True, slots=True)
class GatewayModes:
    """The modes of a network's two halves."""

    four: GatewayMode = GatewayMode.NAT
    six: GatewayMode = GatewayMode.NAT

    def unprotected(self, version: int) -> bool:
        """Whether all that comes from outside is let in."""
        mode = self.four if version == 4 else self.six
        return mode is GatewayMode.UNPROTECTED


NAT: Final = GatewayModes()
"""What a network has that asks for nothing."""


def gateway_modes(spec: NetworkSpec) -> GatewayModes:
    """Read a network's options.

    :raises InvalidRequest: there is no such mode, or not for this network.
    :raises UnsupportedOperation: it is ``routed``.
    """
    return GatewayModes(_mode(spec, 4), _mode(spec, 6))


def _mode(spec: NetworkSpec, version: int) -> GatewayMode:
    text = spec.options.get(f"{_OPTION}{version}") or GatewayMode.NAT
    if text == "routed":
        raise UnsupportedOperation(
            f"network {spec.name}: the bridge driver does not offer {_OPTION}{version}=routed",
            hint="use nat-unprotected, with com.docker.network.bridge.enable_ip_masquerade=false",
        )
    try:
        mode = GatewayMode(text)
    except ValueError:
        raise InvalidRequest(
            f"network {spec.name}: failed to parse {_OPTION}{version} value: {text} (unknown "
            f"gateway mode)",
            hint=f"there are: {', '.join(GatewayMode)}",
        ) from None
    if mode is GatewayMode.ISOLATED and not spec.internal:
        raise InvalidRequest(
            f"network {spec.name}: gateway mode 'isolated' can only be used for an internal "
            f"network",
            hint="add --internal",
        )
    return mode
