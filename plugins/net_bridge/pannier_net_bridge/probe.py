"""Whether the driver can work here: by doing all of it once, in a scratch network namespace."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from pannier.drivers.network import NetworkSpec, Subnet
from pannier.errors import DriverUnavailable, PannierError
from pannier.linux import nftables as nft
from pannier.linux.namespaces import CLONE_NEWNET, unshare
from pannier.linux.netlink import NETFILTER, NetlinkSocket
from pannier_net_bridge.backends import open_firewall
from pannier_net_bridge.bridges import ensure_bridge
from pannier_net_bridge.firewall import Closed
from pannier_net_bridge.networks import resolve

if TYPE_CHECKING:
    from pannier_net_bridge.config import BridgeConfig

__all__ = ["probe"]

_SPEC: Final = NetworkSpec("bridge", "bridge", subnets=(Subnet("192.0.2.0/24"),))


def probe(config: BridgeConfig) -> None:
    """Set up a network in a namespace of its own, and try a transaction in the host's.

    :raises DriverUnavailable: something that a container needs cannot be had.
    """
    if config.firewall == "nftables":
        _try_transaction()
    failures: list[Exception] = []
    # A thread of its own: it never comes back to this namespace, and the scratch one ends with it.
    scratch = threading.Thread(target=_try_network, args=(config, failures))
    scratch.start()
    scratch.join()
    if failures:
        error = failures[0]
        hint = error.hint if isinstance(error, PannierError) else None
        raise DriverUnavailable(
            f"a bridge network cannot be set up here: {error}",
            hint=hint or "run as root, with the kernel's modules bridge, veth and nf_tables",
        ) from error


def _try_transaction() -> None:
    """Add a table and delete it again in one transaction: nobody ever sees it."""
    name = "pannier-probe"
    try:
        with NetlinkSocket(NETFILTER) as netlink:
            nft.commit(netlink, [nft.add_table(nft.IPV4, name), nft.delete_table(nft.IPV4, name)])
    except OSError as error:
        raise DriverUnavailable(
            f"nf_tables cannot be used: {error.strerror}",
            hint="run as root, on a kernel with nf_tables (modprobe nf_tables)",
        ) from error


def _try_network(config: BridgeConfig, failures: list[Exception]) -> None:
    try:
        unshare(CLONE_NEWNET)
        network = resolve(_SPEC, config)
        ensure_bridge(network)
        firewall = open_firewall(config)
        firewall.set_up([network], closed=Closed(four=False, six=False), loopback6=False)
        firewall.close()
    except (OSError, PannierError) as error:
        failures.append(error)
