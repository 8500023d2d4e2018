"""The subnets of a network that is to be made: those it had, those asked for, or free ones."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from pannier_net_bridge.bridges import taken_subnets
from pannier_net_bridge.networks import PREDEFINED, bridge_name, choose_subnet
from pannier_net_bridge.six import choose_six, of_six

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pannier.drivers.network import NetworkSpec, Subnet
    from pannier_net_bridge.config import BridgeConfig
    from pannier_net_bridge.leases import LeaseBook
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = ["with_subnets"]


def with_subnets(
    network: NetworkSpec,
    known: Mapping[str, BridgeNetwork],
    leases: LeaseBook,
    config: BridgeConfig,
) -> NetworkSpec:
    """Fill a network's subnets in, the IPv4 one first.

    :param known: the networks that there are, by their ids; the network itself may be among them.
    :raises Conflict: a subnet that is asked for is in use.
    :raises InvalidRequest: none is free.
    """
    others = [one for id, one in known.items() if id != network.id]
    six = choose_six(network, [one.six.subnet for one in others if one.six is not None])
    given = of_six(network.subnets)
    plain = replace(network, subnets=tuple(s for s in network.subnets if s not in given))
    four = _subnet4(plain, known, leases, config)
    return replace(network, subnets=(four, *([six] if six else [])))


def _subnet4(
    network: NetworkSpec,
    known: Mapping[str, BridgeNetwork],
    leases: LeaseBook,
    config: BridgeConfig,
) -> Subnet:
    """Return the subnet that it had, the one asked for, or a free one."""
    others = [one.subnet for id, one in known.items() if id != network.id]
    taken = [*others, *taken_subnets(bridge_name(network, config))]
    wished = ""
    if network.id == PREDEFINED:
        # The engine gives back what it was given the last time. That binds while containers
        # live on it; else the configuration, or a route that the host got since, decides.
        wished = config.subnet
        before = known.get(network.id)
        kept = network.subnets or (before.spec.subnets if before else ())
        if kept and (_in_use(network, leases, config) or not _must_move(kept[0], wished, taken)):
            return kept[0]
        network = replace(network, subnets=())
    return choose_subnet(network, wished, config.pools, taken)


def _in_use(network: NetworkSpec, leases: LeaseBook, config: BridgeConfig) -> bool:
    """Whether containers may still be on the network's bridge."""
    with contextlib.suppress(OSError):
        socket.if_nametoindex(bridge_name(network, config))
        return any(lease.network == network.id for lease in leases.all())
    return False


def _must_move(kept: Subnet, wished: str, taken: Iterable[IPv4Network]) -> bool:
    subnet = IPv4Network(kept.subnet)
    if wished:
        return subnet != IPv4Network(wished)
    return any(one.prefixlen and one.overlaps(subnet) for one in taken)
