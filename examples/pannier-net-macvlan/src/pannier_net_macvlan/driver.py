"""The driver: networks, attach and detach, and what a restart finds again."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pannier.drivers.network import (
    Attachment,
    Endpoint,
    EndpointRequest,
    Namespace,
    NetworkCapability,
    NetworkDriver,
    NetworkSpec,
)
from pannier.errors import InvalidRequest, NotFound, PannierError, UnsupportedOperation
from pannier.linux import rtnl
from pannier.linux.netlink import ROUTE, NetlinkSocket

from pannier_net_macvlan.addresses import Allocator
from pannier_net_macvlan.attach import AttachContext, plan
from pannier_net_macvlan.config import MacvlanConfig
from pannier_net_macvlan.leases import Book, Lease
from pannier_net_macvlan.links import (
    delete_changed_macvlan,
    delete_macvlan,
    inside,
    namespaces_by_inode,
    try_parent,
)
from pannier_net_macvlan.networks import (
    MacvlanNetwork,
    check_neighbours,
    resolve,
    spec_from_record,
)
from pannier_net_macvlan.probe import probe
from pannier_net_macvlan.segments import delete_segment, ensure_segment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from pannier.drivers.base import DriverContext
    from pannier.drivers.operations import Plan

__all__ = ["MacvlanDriver"]

_log = logging.getLogger("pannier.network.macvlan")


class MacvlanDriver(NetworkDriver):
    """Containers as machines of their own on the network that a link of the host is on.

    They are reached by their own addresses, so no ports are published. The host itself does not
    reach them, nor they the host: the kernel keeps a parent and the links on it apart.
    """

    id: ClassVar[str] = "macvlan"
    # Behind every driver that has a network of its own: this one has none before a user makes one.
    priority: ClassVar[int] = -100
    capabilities: ClassVar[AbstractSet[NetworkCapability]] = frozenset(
        {
            NetworkCapability.USER_DEFINED,
            NetworkCapability.ADDRESSES,
            NetworkCapability.LIVE,
            NetworkCapability.IPV6,
        }
    )
    config_type: ClassVar[type[Any]] = MacvlanConfig

    @classmethod
    def probe(cls, context: DriverContext, config: MacvlanConfig) -> None:
        """Make a link where nobody sees it."""
        del context, config
        probe()

    def __init__(self, context: DriverContext, config: MacvlanConfig) -> None:
        self._config = config
        self._book = Book(context.root / "macvlan.db")
        self._allocator = Allocator(self._book)
        self._lock = threading.RLock()
        self._networks: dict[str, MacvlanNetwork] = {}
        for record in self._book.networks():
            spec = spec_from_record(record)
            try:
                self._networks[spec.id] = self._resolve(spec, routed=())
            except PannierError as error:  # a kernel without IPv6, say
                _log.warning("the network %s cannot be had any more: %s", spec.name, error)
        self._confirmed: set[str] = set()

    def close(self) -> None:
        """Close the database."""
        self._book.close()

    def namespace(self, argument: str) -> Namespace:
        """Return a new one."""
        if argument:
            raise InvalidRequest(
                f"the macvlan driver takes no argument: macvlan:{argument}",
                hint="name a network that was created with --driver macvlan",
            )
        return Namespace("new")

    # Networks.

    def create_network(self, network: NetworkSpec) -> NetworkSpec:
        """Try the parent, and remember the network; one that was there stays as it was.

        The parent of a network that was there may be missing: it may come later than the daemon,
        and an attach says so until it does.
        """
        if network.id == self.id:
            raise UnsupportedOperation(
                "the macvlan driver has no network but those that users make: it cannot know which "
                "link of the host they mean",
                hint="pannier network create --driver macvlan -o parent=eth0 NAME",
            )
        with self._lock:
            known = self._networks.get(network.id)
            self._confirmed.add(network.id)
            if known is None:
                known = self._create(network)
            elif known.private:
                with NetlinkSocket(ROUTE) as netlink:
                    ensure_segment(known.parent, netlink)
            return known.spec

    def _create(self, spec: NetworkSpec) -> MacvlanNetwork:
        with NetlinkSocket(ROUTE) as netlink:
            routed = [route.destination for route in rtnl.routes(netlink)]
        network = self._resolve(spec, routed=[one for one in routed if one.prefixlen])
        check_neighbours(network, self._networks.values())
        # Before anything is made: whoever finds a private network's link after a kill knows whose
        # it is.
        self._book.put_network(spec.id, network.record())
        self._networks[spec.id] = network
        try:
            try_parent(network)
        except BaseException:
            self._forget(network)
            raise
        return network

    def _resolve(self, spec: NetworkSpec, *, routed: Iterable[Any]) -> MacvlanNetwork:
        others = [pool.subnet for one in self._networks.values() for pool in one.pools]
        return resolve(spec, self._config.pools, others, list(routed))

    def remove_network(self, network: NetworkSpec) -> None:
        """Forget a network with its leases; a private one's link goes, too."""
        with self._lock:
            known = self._networks.get(network.id)
            if known is not None:
                self._forget(known)

    def _forget(self, network: MacvlanNetwork) -> None:
        if network.private:
            delete_segment(network.parent)
        self._book.remove_network(network.spec.id)
        self._networks.pop(network.spec.id, None)

    # Endpoints.

    def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
        """Give a container an address, and a macvlan link with it."""
        network = self._networks.get(request.network.id)
        if network is None:
            raise NotFound(
                f"network {request.network.name} not found", hint="create the network first"
            )
        context = AttachContext(self.id, self._book, self._allocator, self._rival)
        return plan(context, network, request, netns)

    def _rival(self, parent: str, lease: Lease) -> Lease | None:
        """Return another endpoint's lease with the same MAC address on the same parent."""
        ids = {one.spec.id for one in list(self._networks.values()) if one.parent == parent}
        rivals = (
            other
            for other in self._book.leases()
            if other.mac == lease.mac and other.network in ids and other.key != lease.key
        )
        return next(rivals, None)

    def detach(self, request: EndpointRequest, netns: int | None) -> None:
        """Delete the link, where its namespace is still there, and free the addresses."""
        lease = self._book.lease(request.network.id, request.container)
        if lease is None:
            return
        if netns is not None:
            delete_changed_macvlan(netns, lease)
        self._book.release(lease)

    def reconcile(self, endpoints: Iterable[tuple[EndpointRequest, Endpoint]]) -> None:
        """Hold what these endpoints have; release every other lease, link and network."""
        held = [self._regained(request, endpoint) for request, endpoint in endpoints]
        with self._lock:
            listed = {lease.key for lease in held}
            _delete_strays(one for one in self._book.leases() if one.key not in listed)
            self._book.hold(held)
            used = {lease.network for lease in held} | self._confirmed
            for network in list(self._networks.values()):
                if network.spec.id not in used:
                    self._forget(network)

    def _regained(self, request: EndpointRequest, endpoint: Endpoint) -> Lease:
        """Return an endpoint's lease as the engine knows it; the engine is right."""
        known = self._book.lease(request.network.id, request.container)
        lease = known or Lease(request.network.id, request.container, endpoint.address)
        return replace(
            lease,
            address=endpoint.address,
            address6=endpoint.address6,
            mac=endpoint.mac,
            interface=endpoint.interface,
        )


def _delete_strays(leases: Iterable[Lease]) -> None:
    """Delete links of attaches that a kill cut off, in containers that go on without them."""
    made = [lease for lease in leases if lease.interface]
    with namespaces_by_inode({lease.netns for lease in made}) as found:
        for lease in made:
            if lease.netns not in found:
                continue
            try:
                with inside(found[lease.netns]) as netlink:
                    # Only as it was made: after a reboot the inode may be another namespace's.
                    delete_macvlan(netlink, lease)
            except PannierError as error:
                _log.warning("a link of the container %s stays: %s", lease.container[:12], error)
