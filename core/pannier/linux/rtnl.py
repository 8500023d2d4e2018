"""Links, addresses and routes: the messages of rtnetlink(7), and what its dumps say.

The builders return messages, so that a caller sends several at once
(:meth:`~pannier.linux.netlink.NetlinkSocket.request`); the readers ask a socket.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from typing import TYPE_CHECKING, Final

from pannier.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    NetlinkError,
    attribute,
    is_errno,
    nested,
    parse,
    text,
    u8,
    u32,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv6Interface

    from pannier.linux.netlink import NetlinkSocket

__all__ = [
    "Address",
    "Link",
    "Route",
    "add_address",
    "add_route",
    "addresses",
    "addresses6",
    "answer_loopback6",
    "create_bridge",
    "create_veth",
    "delete_address",
    "delete_group",
    "delete_link",
    "disable_ipv6_address",
    "filter_bridged",
    "find_link",
    "links",
    "routes",
    "set_alias",
    "set_bridge_port",
    "set_group",
    "set_up",
]

_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_GETLINK: Final = 18
_RTM_NEWADDR: Final = 20
_RTM_DELADDR: Final = 21
_RTM_GETADDR: Final = 22
_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26

_IFF_UP: Final = 1

_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_MASTER: Final = 10
_IFLA_LINKINFO: Final = 18
_IFLA_IFALIAS: Final = 20
_IFLA_AF_SPEC: Final = 26
_IFLA_GROUP: Final = 27
_IFLA_NET_NS_FD: Final = 28
_IFLA_EXT_MASK: Final = 29
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_INFO_SLAVE_KIND: Final = 4
_IFLA_INFO_SLAVE_DATA: Final = 5
_VETH_INFO_PEER: Final = 1
_IFLA_BR_NF_CALL_IPTABLES: Final = 36
_IFLA_BR_NF_CALL_IP6TABLES: Final = 37
_IFLA_BRPORT_MODE: Final = 4
_IFLA_BRPORT_ISOLATED: Final = 33
_IFLA_INET6_ADDR_GEN_MODE: Final = 8
_ADDR_GEN_MODE_NONE: Final = 1
_RTEXT_FILTER_SKIP_STATS: Final = 8

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

_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")


@dataclass(frozen=True, slots=True)
class Link:
    """A link: *mtu* in bytes, *master* the index of the bridge it is a port of, else 0."""

    index: int
    name: str
    up: bool
    mtu: int
    mac: str
    master: int
    kind: str
    alias: str
    group: int


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


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))


def _info(index: int = 0, *, up: bool = False) -> bytes:
    flags = _IFF_UP if up else 0
    return _LINK.pack(socket.AF_UNSPEC, 0, index, flags, flags)


def create_bridge(name: str, mac: str, mtu: int) -> Message:
    """Create a bridge that is down; EEXIST where a link has the name.

    A bridge whose address was set keeps it; else it would follow its ports', and every container
    would lose its gateway for a while whenever one comes or goes.
    """
    payload = (
        _info()
        + text(_IFLA_IFNAME, name)
        + attribute(_IFLA_ADDRESS, _mac(mac))
        + u32(_IFLA_MTU, mtu)
        + nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "bridge"))
    )
    return Message(_RTM_NEWLINK, payload, NLM_F_CREATE | NLM_F_EXCL)


def filter_bridged(name: str) -> Message:
    """Have a bridge pass the packets that it bridges through the firewall (br_netfilter)."""
    payload = (
        _info()
        + text(_IFLA_IFNAME, name)
        + nested(
            _IFLA_LINKINFO,
            text(_IFLA_INFO_KIND, "bridge"),
            nested(
                _IFLA_INFO_DATA,
                u8(_IFLA_BR_NF_CALL_IPTABLES, 1),
                u8(_IFLA_BR_NF_CALL_IP6TABLES, 1),
            ),
        )
    )
    return Message(_RTM_NEWLINK, payload)


def create_veth(
    name: str, peer: str, *, peer_netns: int, peer_mac: str, mtu: int, master: int, group: int
) -> Message:
    """Create a pair of links, one end a port of a bridge, the other in another namespace.

    The peer is born there, under its final name, instead of being created here and moved: a move
    costs milliseconds of waiting for RCU, and shows the host's udev a link that it should not see.

    :param peer_netns: a descriptor of the namespace.
    :param master: the bridge's index.
    :param group: the link group of the end on the bridge.
    """
    inner = (
        _info()
        + text(_IFLA_IFNAME, peer)
        + attribute(_IFLA_ADDRESS, _mac(peer_mac))
        + u32(_IFLA_MTU, mtu)
        + u32(_IFLA_NET_NS_FD, peer_netns)
    )
    payload = (
        _info()
        + text(_IFLA_IFNAME, name)
        + u32(_IFLA_MTU, mtu)
        + u32(_IFLA_MASTER, master)
        + u32(_IFLA_GROUP, group)
        + nested(
            _IFLA_LINKINFO,
            text(_IFLA_INFO_KIND, "veth"),
            nested(_IFLA_INFO_DATA, nested(_VETH_INFO_PEER, inner)),
        )
    )
    return Message(_RTM_NEWLINK, payload, NLM_F_CREATE | NLM_F_EXCL)


def set_bridge_port(name: str, *, hairpin: bool, isolated: bool) -> Message:
    """Set a bridge port's options and bring it up, without an IPv6 address of its own.

    :param hairpin: let a frame out of the port it came in by.
    :param isolated: no frames between this and other isolated ports.
    """
    payload = (
        _info(up=True)
        + text(_IFLA_IFNAME, name)
        + nested(
            _IFLA_LINKINFO,
            text(_IFLA_INFO_SLAVE_KIND, "bridge"),
            nested(
                _IFLA_INFO_SLAVE_DATA,
                u8(_IFLA_BRPORT_MODE, hairpin),
                u8(_IFLA_BRPORT_ISOLATED, isolated),
            ),
        )
    )
    return Message(_RTM_NEWLINK, payload)


def disable_ipv6_address(netlink: NetlinkSocket, name: str) -> None:
    """Keep the kernel from giving a link an IPv6 link-local address when it comes up.

    Nothing where there is no IPv6: on a kernel without it, or a link of less than 1280 bytes MTU.
    """
    payload = (
        _info()
        + text(_IFLA_IFNAME, name)
        + nested(
            _IFLA_AF_SPEC,
            nested(socket.AF_INET6, u8(_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE)),
        )
    )
    try:
        netlink.request([Message(_RTM_NEWLINK, payload)])
    except NetlinkError as error:
        if not is_errno(error, "EAFNOSUPPORT"):
            raise


def set_up(index: int) -> Message:
    """Bring a link up."""
    return Message(_RTM_NEWLINK, _info(index, up=True))


def delete_link(name: str) -> Message:
    """Delete a link (and a veth's peer); ENODEV where there is none."""
    return Message(_RTM_DELLINK, _info() + text(_IFLA_IFNAME, name))


def set_group(name: str, group: int) -> Message:
    """Put a link in a group; ENODEV where there is none of that name."""
    return Message(_RTM_NEWLINK, _info() + text(_IFLA_IFNAME, name) + u32(_IFLA_GROUP, group))


def set_alias(name: str, alias: str) -> Message:
    """Give a link a description, which ``ip link`` shows."""
    return Message(_RTM_NEWLINK, _info() + text(_IFLA_IFNAME, name) + text(_IFLA_IFALIAS, alias))


def delete_group(group: int) -> Message:
    """Delete all links of a group, for the cost of one; ENODEV where it has none."""
    return Message(_RTM_DELLINK, _info() + u32(_IFLA_GROUP, group))


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


def _read_link(payload: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(payload)
    found = parse(payload[_LINK.size :])
    info = parse(found.get(_IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=_string(found.get(_IFLA_IFNAME, b"")),
        up=bool(flags & _IFF_UP),
        mtu=_number(found.get(_IFLA_MTU, b"")),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        master=_number(found.get(_IFLA_MASTER, b"")),
        kind=_string(info.get(_IFLA_INFO_KIND, b"")),
        alias=_string(found.get(_IFLA_IFALIAS, b"")),
        group=_number(found.get(_IFLA_GROUP, b"")),
    )


def _string(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="surrogateescape")


def _number(value: bytes) -> int:
    return int.from_bytes(value, "little")


def links(netlink: NetlinkSocket) -> list[Link]:
    """Return all links of the socket's namespace."""
    payload = _info() + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    answers = netlink.query(Message(_RTM_GETLINK, payload, NLM_F_DUMP))
    return [_read_link(answer) for answer in answers]


def find_link(netlink: NetlinkSocket, name: str) -> Link | None:
    """Return the link of that name, or None."""
    payload = _info() + text(_IFLA_IFNAME, name) + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    try:
        answers = netlink.query(Message(_RTM_GETLINK, payload))
    except NetlinkError as error:
        if is_errno(error, "ENODEV"):
            return None
        raise
    return _read_link(answers[0])


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
            table = _number(given[_RTA_TABLE])
        if table == _RT_TABLE_LOCAL:
            continue
        destination = IPv4Network((given.get(_RTA_DST, bytes(4)), prefix))
        gateway = given.get(_RTA_GATEWAY)
        found.append(
            Route(
                destination,
                _number(given.get(_RTA_OIF, b"")),
                IPv4Address(gateway) if gateway else None,
                table,
            )
        )
    return found
