"""Choosing an endpoint's addresses: no two endpoints of a network have the same."""

from __future__ import annotations

import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pannier.errors import Conflict, InvalidRequest
from pannier.linux import rtnl
from pannier.linux.netlink import ROUTE, NetlinkSocket

from pannier_net_macvlan.leases import Lease

if TYPE_CHECKING:
    from pannier.drivers.network import EndpointRequest

    from pannier_net_macvlan.leases import Book
    from pannier_net_macvlan.networks import MacvlanNetwork
    from pannier_net_macvlan.pools import Address

__all__ = ["Allocator"]


class Allocator:
    """Leases addresses; what is leased is what the book has.

    :param book: where the leases are kept.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._lock = threading.Lock()
        self._last: dict[tuple[str, int], Address] = {}

    def take(self, network: MacvlanNetwork, request: EndpointRequest, netns: int) -> Lease:
        """Lease the addresses asked for, or the next free ones.

        :param netns: the inode of the container's namespace.
        :raises InvalidRequest: an address is none that a container of the network can have.
        :raises Conflict: an address is taken, or none is left.
        """
        with self._lock:
            address = self._choose(network, 4, request.address)
            address6 = self._choose(network, 6, request.address6) if network.spec.ipv6 else None
            lease = Lease(
                network=network.spec.id,
                container=request.container,
                address=str(address),
                address6=str(address6 or ""),
                netns=netns,
            )
            self._book.put_lease(lease)
            return lease

    def _choose(self, network: MacvlanNetwork, version: int, wish: str | None) -> Address:
        taken = self._taken(network)
        if wish is not None:
            return _wished(network, version, wish, taken)
        pools = network.of_version(version)
        for number, pool in enumerate(pools):
            key = (network.spec.id, version * 100 + number)
            address = pool.next_after(self._last.get(key), taken)
            if address is not None:
                self._last[key] = address
                return address
        raise Conflict(
            f"no available IPv{version} addresses on this network's address pools: "
            f"{network.spec.name} ({network.spec.id})",
            hint="remove containers from the network, or create one with a larger subnet",
        )

    def _taken(self, network: MacvlanNetwork) -> frozenset[Address]:
        """Return what endpoints have, and what the host has itself: it may be on the network."""
        leases = self._book.leases(network.spec.id)
        texts = [text for one in leases for text in (one.address, one.address6) if text]
        with NetlinkSocket(ROUTE) as netlink:
            own = [one.interface.ip for one in rtnl.addresses(netlink)]
            own6 = rtnl.addresses6(netlink) if network.spec.ipv6 else []
        return frozenset((*map(ip_address, texts), *own, *own6))


def _wished(network: MacvlanNetwork, version: int, wish: str, taken: frozenset[Address]) -> Address:
    try:
        address = ip_address(wish)
    except ValueError as error:
        raise InvalidRequest(f'invalid IPv{version} address "{wish}"') from error
    pools = network.of_version(version)
    pool = next((pool for pool in pools if address in pool.subnet), None)
    if address in taken or (pool is not None and address in pool.reserved):
        raise Conflict(
            f"network {network.spec.name}: Address already in use: {address}",
            hint="leave the address out, or choose another one",
        )
    if pool is None or not pool.can_have(address):
        offered = ", ".join(f"{one.subnet}, gateway {one.gateway}" for one in pools)
        raise InvalidRequest(
            f"invalid IPv{version} address {address}: it is not one that a container of the "
            f"network {network.spec.name} ({offered}) can have",
            hint="choose an address within the network's subnet",
        )
    return address
