"""Which of a container's networks leads out, and moving its default route to another."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from pannier.linux import rtnl
from pannier.linux.namespaces import in_network_namespace
from pannier.linux.netlink import ROUTE, NetlinkSocket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.drivers.network import Endpoint
    from pannier.engine.model import EndpointOptions
    from pannier.engine.networkstore import NetworkStore

__all__ = ["gateway_of", "move_default_route", "set_loopback_up"]

_LOOPBACK = 1


def gateway_of(networks: Mapping[str, EndpointOptions], known: NetworkStore) -> str:
    """Return the name of the network of the default route and the published ports.

    As with Docker the one of the highest ``gw-priority``, among equals the first by name; an
    internal one leads nowhere, and is taken only where there is no other. Empty without networks.
    """

    def rank(name: str) -> tuple[bool, int, str]:
        network = known.get(name)
        return network is not None and network.internal, -networks[name].gw_priority, name

    return min(networks, key=rank, default="")


def set_loopback_up(netns: int) -> None:
    """Have a container talk to itself that is on no network, and so has no driver who sees to it.

    :param netns: a descriptor of the container's network namespace.
    :raises OSError: the kernel refused.
    """
    with in_network_namespace(netns), NetlinkSocket(ROUTE) as netlink:
        netlink.request([rtnl.set_up(_LOOPBACK)])


def move_default_route(netns: int, endpoint: Endpoint) -> None:
    """Have a container's default route lead through an endpoint, in place of any other.

    :param netns: a descriptor of the container's network namespace.
    :raises OSError: the kernel refused.
    """
    gateways = [gateway for gateway in (endpoint.gateway, endpoint.gateway6) if gateway]
    if not gateways or not endpoint.interface:
        return
    with in_network_namespace(netns):
        netlink = NetlinkSocket(ROUTE)
    with netlink:
        link = rtnl.find_link(netlink, endpoint.interface)
        if link is not None:
            routes = [rtnl.add_route(link.index, ip_address(gateway)) for gateway in gateways]
            netlink.request(routes)
