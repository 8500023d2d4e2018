"""What keeps bridge networks from working although the driver works: for ``pannier doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.linux import rtnl
from pannier.linux.netlink import ROUTE, NetlinkSocket
from pannier_net_bridge.bridges import names, names_with_six
from pannier_net_bridge.foreign import shut_chains

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier_net_bridge.bridges import Forwarding
    from pannier_net_bridge.config import BridgeConfig
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = ["diagnose"]


def diagnose(
    config: BridgeConfig, forwarding: Forwarding, networks: Sequence[BridgeNetwork]
) -> list[tuple[str, str]]:
    """Return pairs of what is wrong and what to do; changes nothing."""
    found = []
    if not forwarding.is_on():
        found.append(
            (
                "IPv4 forwarding is off: containers reach nothing outside their bridge",
                "set net.ipv4.ip_forward = 1 in /etc/sysctl.d, or [network.bridge] forwarding",
            )
        )
    elif forwarding.closed():
        found.append(
            (
                "IPv4 forwarding was turned on for containers only; all else is not forwarded",
                "if this host routes for others, set net.ipv4.ip_forward = 1 in /etc/sysctl.d",
            )
        )
    with NetlinkSocket(ROUTE) as netlink:
        links = {link.name: link for link in rtnl.links(netlink)}
    for network in networks:
        link = links.get(network.bridge)
        if link is None or not link.up:
            found.append(
                (
                    f"the bridge {network.bridge} ({network.spec.name}) is missing or down",
                    "restart the daemon, which mends it",
                )
            )
    found += [
        (
            f"the chain {chain.name} of the table {chain.table} drops what containers send",
            "start a container, or restart the daemon: both add an accept for our bridges",
        )
        for chain in shut_chains(config.table, names(networks), names_with_six(networks))
    ]
    return found
