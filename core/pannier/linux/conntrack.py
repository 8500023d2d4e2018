"""The kernel's table of connections, over netlink (linux/netfilter/nfnetlink_conntrack.h)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
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
_AF_INET: Final = 2

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
_IP_SOURCE: Final = 1
_IP_DESTINATION: Final = 2
_PROTOCOL_NUMBER: Final = 1
_PROTOCOL_DESTINATION_PORT: Final = 3


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection as its first packet was, and who answers it.

    :param destination: whom the first packet was for, before any translation.
    :param answerer: who it went to in the end.
    """

    destination: IPv4Address
    answerer: IPv4Address
    original: bytes
    id: bytes


def _message(kind: int, payload: bytes, flags: int = 0) -> Message:
    return Message(_SUBSYSTEM << 8 | kind, struct.pack("=BBH", _AF_INET, 0, 0) + payload, flags)


def flows_to_port(netlink: NetlinkSocket, protocol: int, port: int) -> list[Flow]:
    """Return the IPv4 connections whose first packet was for this port.

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
    found = []
    for answer in netlink.query(_message(_GET, payload, NLM_F_DUMP)):
        given = parse(answer[4:])
        original, reply = parse(given[_CTA_TUPLE_ORIG]), parse(given[_CTA_TUPLE_REPLY])
        numbers = parse(original[_TUPLE_PROTOCOL])
        if numbers.get(_PROTOCOL_NUMBER) != bytes((protocol,)):
            continue
        if numbers.get(_PROTOCOL_DESTINATION_PORT) != struct.pack(">H", port):
            continue
        found.append(
            Flow(
                IPv4Address(parse(original[_TUPLE_IP])[_IP_DESTINATION]),
                IPv4Address(parse(reply[_TUPLE_IP])[_IP_SOURCE]),
                given[_CTA_TUPLE_ORIG],
                given[_CTA_ID],
            )
        )
    return found


def delete_flow(netlink: NetlinkSocket, flow: Flow) -> None:
    """Have the kernel forget a connection: its next packet begins a new one. Idempotent."""
    payload = nested(_CTA_TUPLE_ORIG, flow.original) + attribute(_CTA_ID, flow.id)
    try:
        netlink.request([_message(_DELETE, payload)])
    except NetlinkError as error:
        if not is_errno(error, "ENOENT"):
            raise
