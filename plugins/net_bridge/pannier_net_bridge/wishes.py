"""What a user may wish for an endpoint, checked before anything is done."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pannier.drivers.network import EndpointRequest

__all__ = ["check_wishes"]

# The lowest bit of the first byte would make it a group's.
_MAC: Final = re.compile(r"[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}")
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")


def check_wishes(request: EndpointRequest) -> None:
    """Refuse a MAC address or an interface name that no link can have.

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
