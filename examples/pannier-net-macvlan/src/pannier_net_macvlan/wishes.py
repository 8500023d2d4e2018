"""What a user may wish for an endpoint, checked before anything is done."""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import TYPE_CHECKING, Final

from pannier.errors import InvalidRequest, UnsupportedOperation

if TYPE_CHECKING:
    from pannier.drivers.network import EndpointRequest

    from pannier_net_macvlan.networks import MacvlanNetwork

__all__ = ["check_wishes", "link_local"]

# The lowest bit of the first byte would make it a group's.
_MAC: Final = re.compile(r"[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}")
_INTERFACE: Final = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,15}")
_PREFIX: Final = {4: 16, 6: 64}


def check_wishes(network: MacvlanNetwork, request: EndpointRequest) -> None:
    """Refuse what no endpoint of a network can have.

    :raises UnsupportedOperation: published ports, or an IPv6 address on a network without IPv6.
    :raises InvalidRequest: a malformed wish.
    """
    if request.ports:
        raise UnsupportedOperation(
            f"network {network.spec.name}: the macvlan driver publishes no ports: its containers "
            f"are reached by their own addresses",
            hint="leave -p out, or add the container to a bridge network",
        )
    if request.address6 is not None and not network.spec.ipv6:
        raise UnsupportedOperation(
            f"the network {network.spec.name} has no IPv6, and so no address {request.address6}",
            hint="create the network with --ipv6",
        )
    if request.mac is not None and not _MAC.fullmatch(request.mac):
        raise InvalidRequest(
            f'invalid MAC address "{request.mac}"',
            hint="give an address of one interface, such as 02:42:00:00:00:07",
        )
    if request.interface is not None and not _INTERFACE.fullmatch(request.interface):
        raise InvalidRequest(
            f'the interface name "{request.interface}" cannot be a link\'s name',
            hint="use at most 15 letters, digits, dots, dashes and underscores",
        )
    link_local(request)


def link_local(request: EndpointRequest) -> list[IPv4Interface | IPv6Interface]:
    """Return the link-local addresses that are asked for, with their usual prefixes.

    :raises InvalidRequest: one of them is none.
    """
    found: list[IPv4Interface | IPv6Interface] = []
    for text in request.link_local:
        try:
            address = ip_address(text)
        except ValueError:
            address = None
        if address is None or not address.is_link_local:
            raise InvalidRequest(
                f"invalid link-local IP address: {text}",
                hint="give one of 169.254.0.0/16 or fe80::/64",
            )
        interface = IPv4Interface if address.version == 4 else IPv6Interface
        found.append(interface((address.packed, _PREFIX[address.version])))
    return found
