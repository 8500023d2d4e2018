"""What a user may wish for an endpoint, checked before anything is done."""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import TYPE_CHECKING, Final

from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pannier.drivers.network import EndpointRequest

__all__ = ["check_wishes", "link_local"]

# The lowest bit of the first byte would make it a group's.
_MAC: Final = re.compile(r"[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}")
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_IPV6: Final = 6
_PREFIX4: Final = 16
_PREFIX6: Final = 64


def check_wishes(request: EndpointRequest) -> None:
    """Refuse a MAC address, an interface name or link-local addresses that no link can have.

    :raises InvalidRequest: which of them, and why.
    """
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
        if address.version == _IPV6:
            found.append(IPv6Interface((address.packed, _PREFIX6)))
        else:
            found.append(IPv4Interface((address.packed, _PREFIX4)))
    return found
