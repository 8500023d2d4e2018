"""The kernel's table of connections, over netlink (linux/netfilter/nfnetlink_conntrack.h)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from pannier.linux.netlink import (
    NLM_F_DUMP,
    Message,
    NetlinkError,
    attribute,
    be16,
    is_errno,
    nested,
    parse,
    u8,
    u32,
)

if TYPE_CHECKING:
    from pannier.linux.netlink import NetlinkSocket

__all__ = ["Flow", "delete_flow", "flows_to_port"]

_SUBSYSTEM: Final = 1
_GET: Final = 1
_DELETE: Final = 2
_FAMILIES: Final = {4: 2, 6: 10}

_CTA_TUPLE_ORIG: Final = 1
_CTA_TUPLE_REPLY: Final = 2
_CTA_ID: Final = 12
_CTA_FILTER: Final = 25
_CTA_FILTER_ORIG_FLAGS: Final = 1
_CTA_FILTER_REPLY_FLAGS: Final = 2
_MATCH_PROTOCOL: Final = 1 << 3
_MATCH_DESTINATION_PORT: Final = 1 << 5

_TUPLE_IP: Final = 1
_TUPLE_PROTOCOL: Final = 2
_IP_SOURCE: Final = {4: 1, 6: 3}
_IP_DESTINATION: Final = {4: 2, 6: 4}
_PROTOCOL_NUMBER: Final = 1
_PROTOCOL_DESTINATION_PORT: Final = 3


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection as its first packet was, and who answers it.

    :param destination: whom the first packet was for, before any translation.
    :param answerer: who it went to in the end.
    """

    destination: IPv4Address | IPv6Address
    answerer: IPv4Address | IPv6Address
    original: bytes
    id: bytes


def _message(kind: int, version: int, payload: bytes, flags: int = 0) -> Message:
    header = struct.pack("=BBH", _FAMILIES[version], 0, 0)
    return Message(_SUBSYSTEM << 8 | kind, header + payload, flags)


def flows_to_port(netlink: NetlinkSocket, protocol: int, port: int, version: int = 4) -> list[Flow]:
    """Return the connections of an IP version whose first packet was for this port.

    The kernel filters (since Linux 5.8; an older one gives all, and they are filtered here), so
    that it costs little beside a table of a hundred thousand connections.

    :param protocol: the IP protocol's number.
    """
    payload = nested(
        _CTA_TUPLE_ORIG,
        nested(
            _TUPLE_PROTOCOL,
            u8(_PROTOCOL_NUMBER, protocol),
            be16(_PROTOCOL_DESTINATION_PORT, port),
        ),
    ) + nested(
        _CTA_FILTER,
        u32(_CTA_FILTER_ORIG_FLAGS, _MATCH_PROTOCOL | _MATCH_DESTINATION_PORT),
        u32(_CTA_FILTER_REPLY_FLAGS, 0),
    )
    address = IPv4Address if version == 4 else IPv6Address
    found = []
    for answer in netlink.query(_message(_GET, version, payload, NLM_F_DUMP)):
        given = parse(answer[4:])
        original, reply = parse(given[_CTA_TUPLE_ORIG]), parse(given[_CTA_TUPLE_REPLY])
        numbers = parse(original[_TUPLE_PROTOCOL])
        if numbers.get(_PROTOCOL_NUMBER) != bytes((protocol,)):
            continue
        if numbers.get(_PROTOCOL_DESTINATION_PORT) != struct.pack(">H", port):
            continue
        found.append(
            Flow(
                address(parse(original[_TUPLE_IP])[_IP_DESTINATION[version]]),
                address(parse(reply[_TUPLE_IP])[_IP_SOURCE[version]]),
                given[_CTA_TUPLE_ORIG],
                given[_CTA_ID],
            )
        )
    return found


def delete_flow(netlink: NetlinkSocket, flow: Flow) -> None:
    """Have the kernel forget a connection: its next packet begins a new one. Idempotent."""
    payload = nested(_CTA_TUPLE_ORIG, flow.original) + attribute(_CTA_ID, flow.id)
    try:
        netlink.request([_message(_DELETE, flow.destination.version, payload)])
    except NetlinkError as error:
        if not is_errno(error, "ENOENT"):
            raise
