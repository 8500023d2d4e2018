"""Addresses and routes of the internet protocols, as rtnetlink(7) has them."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from typing import TYPE_CHECKING, Final

from pannier.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REPLACE,
    Message,
    attribute,
    parse,
    u32,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv6Interface

    from pannier.linux.netlink import NetlinkSocket

__all__ = [
    "Address",
    "Route",
    "add_address",
    "add_route",
    "addresses",
    "addresses6",
    "answer_loopback6",
    "delete_address",
    "routes",
]

_RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
_RTM_GETADDR: Final = 22
_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26

_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_BROADCAST: Final = 4

_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_PRIORITY: Final = 6
_RTA_TABLE: Final = 15
_RT_TABLE_MAIN: Final = 254
_RT_TABLE_LOCAL: Final = 255
_RTPROT_BOOT: Final = 3
_RTN_UNICAST: Final = 1
_RTN_LOCAL: Final = 2
_BEHIND: Final = 4096
"""A metric behind those of the kernel's own routes."""

_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_IFA_F_NODAD: Final = 0x02

_ADDRESS: Final = struct.Struct("=BBBBI")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv4 address of the link with that index."""

    link: int
    interface: IPv4Interface


@dataclass(frozen=True, slots=True)
class Route:
    """An IPv4 route of the main or another table, out of the link with that index (or 0)."""

    destination: IPv4Network
    link: int
    gateway: IPv4Address | None
    table: int


def add_address(index: int, address: IPv4Interface | IPv6Interface) -> Message:
    """Give a link an address; no error where it has it.

    An IPv4 one with its broadcast address; an IPv6 one to be used at once, without waiting for a
    second to learn that no neighbour has it.
    """
    family, flags = _FAMILIES[address.version], 0
    payload = attribute(_IFA_LOCAL, address.ip.packed) + attribute(_IFA_ADDRESS, address.ip.packed)
    if isinstance(address, IPv4Interface):
        payload += attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
    else:
        flags = _IFA_F_NODAD
    payload = _ADDRESS.pack(family, address.network.prefixlen, flags, 0, index) + payload
    return Message(_RTM_NEWADDR, payload, NLM_F_CREATE | NLM_F_REPLACE)


def delete_address(index: int, address: IPv4Interface) -> Message:
    """Take an address from a link; EADDRNOTAVAIL where it does not have it."""
    payload = _ADDRESS.pack(socket.AF_INET, address.network.prefixlen, 0, 0, index) + attribute(
        _IFA_LOCAL, address.ip.packed
    )
    return Message(_RTM_DELADDR, payload)


def add_route(
    index: int, gateway: IPv4Address | IPv6Address, destination: IPv4Network | None = None
) -> Message:
    """Route by a gateway, in place of an equal route; without a destination the default route."""
    prefix = destination.prefixlen if destination else 0
    payload = _ROUTE.pack(
        _FAMILIES[gateway.version], prefix, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, 0, _RTN_UNICAST, 0
    )
    if destination:
        payload += attribute(_RTA_DST, destination.network_address.packed)
    payload += attribute(_RTA_GATEWAY, gateway.packed) + u32(_RTA_OIF, index)
    return Message(_RTM_NEWROUTE, payload, NLM_F_CREATE | NLM_F_REPLACE)


def answer_loopback6(index: int) -> Message:
    """Let packets for ::1 in by a link, which must have been translated to it; for nothing else.

    From the wire the kernel takes none before that (``ip6_rcv_core``). The route comes behind the
    loopback's own, and goes with the link.
    """
    loopback = IPv6Address(1)
    payload = _ROUTE.pack(
        socket.AF_INET6, 128, 0, 0, _RT_TABLE_LOCAL, _RTPROT_BOOT, 0, _RTN_LOCAL, 0
    )
    payload += attribute(_RTA_DST, loopback.packed)
    payload += u32(_RTA_OIF, index) + u32(_RTA_PRIORITY, _BEHIND)
    return Message(_RTM_NEWROUTE, payload, NLM_F_CREATE | NLM_F_REPLACE)


def addresses(netlink: NetlinkSocket) -> list[Address]:
    """Return all IPv4 addresses of the socket's namespace."""
    return [
        Address(index, IPv4Interface((packed, prefix)))
        for index, packed, prefix in _addresses(netlink, socket.AF_INET)
    ]


def addresses6(netlink: NetlinkSocket) -> list[IPv6Address]:
    """Return all IPv6 addresses of the socket's namespace."""
    return [IPv6Address(packed) for _, packed, _ in _addresses(netlink, socket.AF_INET6)]


def _addresses(netlink: NetlinkSocket, family: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield the link's index, the address and its prefix' length."""
    payload = _ADDRESS.pack(family, 0, 0, 0, 0)
    for answer in netlink.query(Message(_RTM_GETADDR, payload, NLM_F_DUMP)):
        _, prefix, _, _, index = _ADDRESS.unpack_from(answer)
        given = parse(answer[_ADDRESS.size :])
        packed = given.get(_IFA_LOCAL) or given.get(_IFA_ADDRESS)
        if packed:
            yield index, packed, prefix


def routes(netlink: NetlinkSocket) -> list[Route]:
    """Return the IPv4 routes of every table but the kernel's own of local addresses."""
    found = []
    payload = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    for answer in netlink.query(Message(_RTM_GETROUTE, payload, NLM_F_DUMP)):
        _, prefix, _, _, table, _, _, _, _ = _ROUTE.unpack_from(answer)
        given = parse(answer[_ROUTE.size :])
        if _RTA_TABLE in given:
            table = int.from_bytes(given[_RTA_TABLE], "little")
        if table == _RT_TABLE_LOCAL:
            continue
        destination = IPv4Network((given.get(_RTA_DST, bytes(4)), prefix))
        gateway = given.get(_RTA_GATEWAY)
        found.append(
            Route(
                destination,
                int.from_bytes(given.get(_RTA_OIF, b""), "little"),
                IPv4Address(gateway) if gateway else None,
                table,
            )
        )
    return found
