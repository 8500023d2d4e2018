"""Links: bridges, pairs of virtual Ethernet links and their ports, as rtnetlink(7) has them."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
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
    from pannier.linux.netlink import NetlinkSocket

__all__ = [
    "Link",
    "create_bridge",
    "create_veth",
    "delete_group",
    "delete_link",
    "disable_ipv6_address",
    "filter_bridged",
    "find_link",
    "links",
    "set_alias",
    "set_bridge_port",
    "set_group",
    "set_master",
    "set_up",
]

_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_GETLINK: Final = 18

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

_LINK: Final = struct.Struct("=BxHiII")


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


def set_master(name: str, master: int) -> Message:
    """Make a link a port of a bridge; ENODEV where there is no link of that name."""
    return Message(_RTM_NEWLINK, _info() + text(_IFLA_IFNAME, name) + u32(_IFLA_MASTER, master))


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
