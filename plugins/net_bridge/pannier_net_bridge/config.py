"""What can be configured: the table ``[network.bridge]``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BridgeConfig"]

_POOLS = (
    "172.17.0.0/16",
    "172.18.0.0/16",
    "172.19.0.0/16",
    "172.20.0.0/14:16",
    "172.24.0.0/14:16",
    "172.28.0.0/14:16",
    "192.168.0.0/16:20",
)


@dataclass(frozen=True)
class BridgeConfig:
    """The bridge driver's configuration.

    :param bridge: the name of the default network's bridge.
    :param subnet: the default network's subnet in CIDR form; empty takes the first pool that
        overlaps with nothing on the host.
    :param pools: where networks without a subnet get theirs: ``BASE`` or ``BASE:PREFIX``, the
        latter cut into subnets of that prefix length.
    :param firewall: ``nftables`` (over netlink) or ``iptables`` (runs the iptables program).
    :param table: the name of the nf_tables table.
    :param mtu: of the containers' links, in bytes; 0 takes that of the default route's link.
    :param icc: whether the default network's containers reach one another directly.
    :param masquerade: whether the default network's containers appear outside under the host's
        address.
    :param forwarding: turn on ``net.ipv4.ip_forward``, without which nothing leaves a bridge. Where
        it was off, forwarding of anything that is not a container's stays shut.
    """

    bridge: str = "pannier0"
    subnet: str = ""
    pools: tuple[str, ...] = _POOLS
    firewall: str = "nftables"
    table: str = "pannier"
    mtu: int = 0
    icc: bool = True
    masquerade: bool = True
    forwarding: bool = True
