"""The bridges themselves, and what the host's links and routes have to say to them."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.errors import Conflict, DriverError
from pannier.linux import rtnl
from pannier.linux.netlink import ROUTE, NetlinkError, NetlinkSocket
from pannier.linux.sysctl import read_sysctl, write_sysctl
from pannier_net_bridge.gateways import GatewayMode
from pannier_net_bridge.reaper import OUR_GROUPS, delete_links

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pannier.linux.netlink import Message
    from pannier_net_bridge.networks import BridgeNetwork
    from pannier_net_bridge.six import SixSubnet

__all__ = [
    "Forwarding",
    "Forwarding6",
    "ensure_bridge",
    "isolates_ports",
    "names",
    "names_with_six",
    "redirects_loopback6",
    "remove_bridge",
    "strays",
    "taken_subnets",
    "turn_on_ipv6",
]

_ALIAS: Final = "pannier"
"""What marks a bridge as made by us, so that it is removed with its network."""

_LINK_LOCAL: Final = IPv6Interface("fe80::1/64")
"""What a bridge asks for its neighbours from, on behalf of packets that came from elsewhere."""

_DEFAULT_MTU: Final = 1500
_FORWARD: Final = "net/ipv4/ip_forward"
_FORWARD6: Final = "net/ipv6/conf/all/forwarding"
_IPV6_LINKS: Final = Path("/proc/sys/net/ipv6/conf")
_BRIDGE_NETFILTER: Final = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_BRIDGE_NETFILTER6: Final = Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables")


def rejoin(network: BridgeNetwork, links: Collection[str]) -> None:
    """Make links ports of a network's bridge again, which was deleted and made anew.

    What somebody has put on another bridge stays there. Idempotent.
    """
    if not links:
        return
    isolated = not network.icc and isolates_ports()
    with NetlinkSocket(ROUTE) as netlink:
        index = socket.if_nametoindex(network.bridge)
        for name in [one.name for one in rtnl.links(netlink) if not one.master]:
            if name in links:
                port = rtnl.set_bridge_port(name, hairpin=True, isolated=isolated)
                with contextlib.suppress(NetlinkError):  # its container has just ended
                    netlink.request([rtnl.set_master(name, index), port])


def ensure_bridge(network: BridgeNetwork) -> int:
    """Have a network's bridge there, with its address, and up; return its MTU in bytes. Idempotent.

    :raises Conflict: a link that is no bridge has the name.
    :raises DriverError: the kernel refused.
    """
    with NetlinkSocket(ROUTE) as netlink:
        link = rtnl.find_link(netlink, network.bridge)
        mtu = network.mtu or _default_mtu(netlink)
        try:
            if link is None:
                link = _create(netlink, network, mtu)
            elif link.kind != "bridge":
                raise Conflict(
                    f"network {network.spec.name}: the link {network.bridge} exists and is no "
                    f"bridge",
                    hint="rename it, or choose another name with [network.bridge] bridge",
                )
            addresses = []
            if network.addressed:
                addresses.append(IPv4Interface((network.gateway, network.subnet.prefixlen)))
            earlier = [
                found.interface
                for found in rtnl.addresses(netlink)
                if found.link == link.index and found.interface not in addresses
            ]
            messages = [rtnl.add_address(link.index, one) for one in addresses]
            messages.append(rtnl.set_up(link.index))
            if network.six is not None:
                six = _six_messages(network, network.six, link.index)
                messages = [*six[:1], *messages, *six[1:]]  # a route needs a link that is up
            if link.alias == _ALIAS and network.addressed:
                messages += [rtnl.delete_address(link.index, one) for one in earlier]
            netlink.request(messages)
            if not network.icc and not isolates_ports():
                netlink.request([rtnl.filter_bridged(network.bridge)])
            # For connections to published ports from 127.0.0.1; the guard chain keeps others off.
            write_sysctl(f"net/ipv4/conf/{network.bridge}/route_localnet", "1")
        except OSError as error:
            raise DriverError(
                f"network {network.spec.name}: could not set up the bridge {network.bridge}: "
                f"{error.strerror}",
                hint="run `pannier doctor`",
            ) from error
    return mtu


def _create(netlink: NetlinkSocket, network: BridgeNetwork, mtu: int) -> rtnl.Link:
    """Create a network's bridge, without addresses; return its link.

    Its MAC address is the same whenever it is made anew: containers remember their gateway by it.
    Where a container may have the gateway's address, that one's is not the bridge's.
    """
    isolated = network.modes.four is GatewayMode.ISOLATED
    owner = network.subnet.network_address if isolated else network.gateway
    mac = bytes((0x02, 0x42)) + owner.packed
    netlink.request(
        [
            rtnl.create_bridge(network.bridge, mac.hex(":"), mtu),
            rtnl.set_alias(network.bridge, _ALIAS),
        ]
    )
    rtnl.disable_ipv6_address(netlink, network.bridge)
    link = rtnl.find_link(netlink, network.bridge)
    assert link is not None, "it was made a moment ago"
    return link


def _six_messages(network: BridgeNetwork, six: SixSubnet, link: int) -> list[Message]:
    """Return what gives a bridge its addresses of IPv6, after turning it on there."""
    turn_on_ipv6(network.bridge)
    if network.modes.six is GatewayMode.ISOLATED:
        return []
    gateway = IPv6Interface((six.gateway, six.subnet.prefixlen))
    return [
        rtnl.add_address(link, gateway),
        rtnl.add_address(link, _LINK_LOCAL),
        rtnl.answer_loopback6(link),
    ]


def turn_on_ipv6(link: str) -> None:
    """Have a link of the thread's namespace take IPv6 addresses: ours, and nobody's advertisements.

    Else a neighbour could make itself the way out (CVE-2020-13401).
    """
    write_sysctl(f"net/ipv6/conf/{link}/disable_ipv6", "0")
    write_sysctl(f"net/ipv6/conf/{link}/accept_ra", "0")


def isolates_ports() -> bool:
    """Whether neighbours that may not talk are kept apart by the bridge itself.

    Where the kernel can pass bridged packets through the firewall (br_netfilter), our rules do it:
    a redirected packet then takes the direct way to a neighbour's port, which isolation would shut
    together with all the others.
    """
    return not _BRIDGE_NETFILTER.exists()


def redirects_loopback6(networks: Iterable[BridgeNetwork]) -> bool:
    """Whether a connection to ::1 can be redirected to any of these networks' containers.

    The answers come back by the bridge and are for ::1 again once they are translated. Where the
    kernel passes bridged packets through the firewall that happens before it looks for such
    addresses on the wire, and drops them (``ip6_rcv_core``).
    """
    try:
        everywhere = _BRIDGE_NETFILTER6.read_text().strip() != "0"
    except OSError:
        return True
    # See ensure_bridge of filter_bridged.
    return not everywhere and all(one.icc or isolates_ports() for one in networks if one.six)


def _default_mtu(netlink: NetlinkSocket) -> int:
    """Return the MTU of the link that the default route leaves by."""
    outward = {route.link for route in rtnl.routes(netlink) if route.destination.prefixlen == 0}
    mtus = [link.mtu for link in rtnl.links(netlink) if link.index in outward and link.mtu]
    return min(mtus, default=_DEFAULT_MTU)


def remove_bridge(bridge: str) -> None:
    """Remove a bridge that we made, and the containers' links on any. Idempotent."""
    with NetlinkSocket(ROUTE) as netlink:
        link = rtnl.find_link(netlink, bridge)
        if link is None:
            return
        ports = [one for one in rtnl.links(netlink) if one.master == link.index]
        names = [one.name for one in ports if one.group in OUR_GROUPS]
        if link.alias == _ALIAS:
            names.append(bridge)
        delete_links(netlink, names)


def strays(bridges: Collection[str], known: Collection[str]) -> list[str]:
    """Return the names of our veths on these bridges that are not among those known."""
    with NetlinkSocket(ROUTE) as netlink:
        found = rtnl.links(netlink)
    masters = {link.index for link in found if link.name in bridges}
    return [
        link.name
        for link in found
        if link.master in masters and link.group in OUR_GROUPS and link.name not in known
    ]


def taken_subnets(except_bridge: str) -> list[IPv4Network]:
    """Return what the host's addresses and routes use, but those of one bridge."""
    with NetlinkSocket(ROUTE) as netlink:
        link = rtnl.find_link(netlink, except_bridge)
        own = link.index if link else -1
        addresses = [
            found.interface.network for found in rtnl.addresses(netlink) if found.link != own
        ]
        routes = [route.destination for route in rtnl.routes(netlink) if route.link != own]
    return [*addresses, *routes]


class Forwarding:
    """The host's IPv4 forwarding, and whether it was us who turned it on.

    Turning it on makes a host a router for all of its links, so whoever does it must keep shut what
    it was not turned on for. A mark in the state folder remembers that, as long as the kernel
    remembers the setting: until the next boot.
    """

    def __init__(self, state: Path, *, wanted: bool) -> None:
        self._mark = state / "forwarding"
        self._wanted = wanted

    def closed(self) -> bool:
        """Whether nothing but what is ours may be forwarded."""
        return self._wanted and (self._mark.exists() or read_sysctl(_FORWARD) == "0")

    def is_on(self) -> bool:
        """Whether the host forwards at all."""
        return read_sysctl(_FORWARD) != "0"

    def turn_on(self) -> None:
        """Turn forwarding on; only after the rules for :meth:`closed` are in force.

        :raises DriverError: it may not be.
        """
        if not self._wanted or read_sysctl(_FORWARD) != "0":
            return
        self._mark.touch(mode=0o600)
        try:
            write_sysctl(_FORWARD, "1")
        except OSError as error:
            raise DriverError(
                f"could not turn on IPv4 forwarding: {error.strerror}",
                hint="set net.ipv4.ip_forward = 1 in /etc/sysctl.d, or [network.bridge] "
                "forwarding = false",
            ) from error

    def restore(self) -> None:
        """Turn forwarding off again, where it was us who turned it on. Idempotent."""
        if self._mark.exists():
            with contextlib.suppress(OSError):
                write_sysctl(_FORWARD, "0")
            self._mark.unlink(missing_ok=True)


class Forwarding6:
    """The host's IPv6 forwarding, turned on only while a network has IPv6. As :class:`Forwarding`.

    A host that forwards takes no more advertisements of routers, and would lose the default route
    that it has from one: its links are told to take them all the same (``accept_ra`` 2). The mark
    names these links, so that they are told otherwise again: else a host whose administrator turns
    forwarding on some day would still take anyone for its router.
    """

    def __init__(self, state: Path, *, wanted: bool) -> None:
        self._mark = state / "forwarding6"
        self._wanted = wanted

    def closed(self) -> bool:
        """Whether nothing but what is ours may be forwarded."""
        return self._wanted and (self._mark.exists() or read_sysctl(_FORWARD6) == "0")

    def turn_on(self) -> None:
        """Turn forwarding on; only after the rules for :meth:`closed` are in force.

        :raises DriverError: it may not be.
        """
        if not self._wanted or read_sysctl(_FORWARD6) != "0":
            return
        told = {link.name for link in _IPV6_LINKS.iterdir() if _advertised(link.name) == "1"}
        # Before they are told: after a crash it is known what to take back.
        self._note(told | self._noted())
        try:
            for link in told:
                _tell(link, "2")
            write_sysctl(_FORWARD6, "1")
        except OSError as error:
            raise DriverError(
                f"could not turn on IPv6 forwarding: {error.strerror}",
                hint="set net.ipv6.conf.all.forwarding = 1 in /etc/sysctl.d",
            ) from error

    def restore(self) -> None:
        """Turn forwarding off again, where it was us who turned it on. Idempotent."""
        if not self._mark.exists():
            return
        with contextlib.suppress(OSError):
            write_sysctl(_FORWARD6, "0")
            # What somebody has set otherwise since is theirs.
            for link in self._noted():
                if _advertised(link) == "2":
                    _tell(link, "1")
        self._mark.unlink(missing_ok=True)

    def _noted(self) -> set[str]:
        """Return the links that were told to take advertisements."""
        with contextlib.suppress(FileNotFoundError):
            return set(self._mark.read_text().split())
        return set()

    def _note(self, links: Iterable[str]) -> None:
        staged = self._mark.with_suffix(".new")
        staged.touch(mode=0o600)
        staged.write_text("".join(f"{link}\n" for link in sorted(links)))
        staged.replace(self._mark)


def _advertised(link: str) -> str:
    """Return whether a link takes routers' advertisements; empty where it has just gone."""
    with contextlib.suppress(FileNotFoundError):
        return read_sysctl(f"net/ipv6/conf/{link}/accept_ra")
    return ""


def _tell(link: str, value: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        write_sysctl(f"net/ipv6/conf/{link}/accept_ra", value)


def names(networks: Iterable[BridgeNetwork]) -> list[str]:
    """Return the names of the networks' bridges."""
    return [network.bridge for network in networks]


def names_with_six(networks: Iterable[BridgeNetwork]) -> list[str]:
    """Return the names of the bridges of networks that have IPv6."""
    return [network.bridge for network in networks if network.six is not None]
