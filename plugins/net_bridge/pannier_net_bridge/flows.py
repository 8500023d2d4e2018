"""Datagrams that go on as they began: the flows of ports that were published or withdrawn.

The kernel translates a flow as its first packet was, for as long as packets come. A client that
keeps sending would miss a container that came later, or reach the address of one that has gone,
which may be another's by then. TCP needs none of this: its connections end.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pannier.linux import rtnl
from pannier.linux.conntrack import delete_flow, flows_to_port
from pannier.linux.netlink import NETFILTER, ROUTE, NetlinkSocket
from pannier_net_bridge.ports import EVERY_ADDRESS, EVERY_ADDRESS6, PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ipaddress import IPv4Address, IPv6Address

    from pannier.linux.conntrack import Flow
    from pannier_net_bridge.firewall import Published

__all__ = ["forget_flows_around", "forget_flows_to"]

_log = logging.getLogger("pannier.network.bridge")


def forget_flows_to(ports: Sequence[Published]) -> None:
    """Forget the flows that were redirected by ports withdrawn now."""
    _forget(ports, lambda port, flow: flow.answerer == port.address)


def forget_flows_around(ports: Sequence[Published]) -> None:
    """Forget the flows for ports published now that go elsewhere than to their container."""
    if not any(port.protocol == "udp" for port in ports):
        return
    with NetlinkSocket(ROUTE) as netlink:
        local: set[IPv4Address | IPv6Address] = set(rtnl.addresses6(netlink))
        local |= {found.interface.ip for found in rtnl.addresses(netlink)}

    def misses(port: Published, flow: Flow) -> bool:
        meant = (
            flow.destination in local or flow.destination.is_loopback
            if str(port.host_ip) in (EVERY_ADDRESS, EVERY_ADDRESS6)
            else flow.destination == port.host_ip
        )
        return meant and flow.answerer != port.address

    _forget(ports, misses)


def _forget(ports: Sequence[Published], chosen: Callable[[Published, Flow], bool]) -> None:
    datagrams = [port for port in ports if port.protocol == "udp"]
    if not datagrams:
        return
    try:
        with NetlinkSocket(NETFILTER) as netlink:
            for port in datagrams:
                version = port.host_ip.version
                for flow in flows_to_port(netlink, PROTOCOLS["udp"], port.host_port, version):
                    if chosen(port, flow):
                        delete_flow(netlink, flow)
    except OSError as error:
        # Published it is, or withdrawn; what is left are flows that end by themselves.
        _log.warning("could not look for stale flows of published ports: %s", error)
