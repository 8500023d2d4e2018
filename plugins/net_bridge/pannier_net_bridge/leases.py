"""Leases: which endpoint has which address, link and ports; kept across restarts."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from pannier.drivers.network import Endpoint, PortBinding
from pannier.errors import Conflict, InvalidRequest
from pannier_net_bridge.ports import collide
from pannier_net_bridge.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Network, IPv6Network
    from pathlib import Path

    from pannier.drivers.network import EndpointRequest
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = ["Lease", "LeaseBook", "endpoint_id", "regained"]


def endpoint_id(network: str, container: str) -> str:
    """Return the id of a container's endpoint in a network: 64 hexadecimal digits."""
    return hashlib.sha256(f"{network} {container}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Lease:
    """All that an endpoint holds, as needed to take it away again.

    :param network: the network's id.
    :param link: the name of the host's end of the veth pair; a new one for each attach, so that the
        late removal of an old one cannot hit a new one.
    :param interface: the container's end.
    """

    container: str
    network: str
    address: str
    mac: str
    link: str
    interface: str = ""
    ports: tuple[PortBinding, ...] = ()
    address6: str = ""

    @property
    def id(self) -> str:
        """The endpoint's id."""
        return endpoint_id(self.network, self.container)

    def record(self) -> dict[str, Any]:
        """Return what is written to disk (``dataclasses.asdict`` costs ten times this)."""
        return {
            "container": self.container,
            "network": self.network,
            "address": self.address,
            "mac": self.mac,
            "link": self.link,
            "interface": self.interface,
            "address6": self.address6,
            "ports": [
                {
                    "container_port": port.container_port,
                    "protocol": port.protocol,
                    "host_ip": port.host_ip,
                    "host_port": port.host_port,
                }
                for port in self.ports
            ],
        }

    def endpoint(self, network: BridgeNetwork) -> Endpoint:
        """Return the endpoint as the engine knows it."""
        return Endpoint(
            network=self.network,
            interface=self.interface,
            address=self.address,
            prefix=network.subnet.prefixlen,
            gateway="" if network.internal else str(network.gateway),
            address6=self.address6,
            prefix6=network.six.subnet.prefixlen if network.six and self.address6 else 0,
            gateway6=_gateway6(network) if self.address6 else "",
            mac=self.mac,
            ports=self.ports,
        )


def regained(request: EndpointRequest, endpoint: Endpoint) -> Lease:
    """Return the lease of an endpoint whose record was lost; its link's name is lost with it."""
    return Lease(
        container=request.container,
        network=request.network.id,
        address=endpoint.address,
        mac=endpoint.mac,
        link="",
        interface=endpoint.interface,
        ports=endpoint.ports,
        address6=endpoint.address6,
    )


def _gateway6(network: BridgeNetwork) -> str:
    return "" if network.internal or network.six is None else str(network.six.gateway)


def _lease(record: dict[str, Any]) -> Lease:
    ports = tuple(PortBinding(**port) for port in record["ports"])
    return Lease(**{**record, "ports": ports})


@dataclass(slots=True)
class _Pool:
    """The addresses of one network that are held, and the one that was given out last."""

    held: dict[IPv4Address, str] = field(default_factory=dict)
    held6: dict[IPv6Address, str] = field(default_factory=dict)
    last: IPv4Address | None = None
    last6: IPv6Address | None = None


class LeaseBook:
    """The leases of all networks.

    The book is this process's memory, and a journal is its backing: both change under one lock.

    :param path: the journal.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._records = Records(path)
        self._leases: dict[str, Lease] = {}
        self._pools: dict[str, _Pool] = {}
        for record in self._records.all():
            self._hold(_lease(record))

    def close(self) -> None:
        """Close the journal. Idempotent."""
        self._records.close()

    def _pool(self, network: str) -> _Pool:
        return self._pools.setdefault(network, _Pool())

    def _hold(self, lease: Lease) -> None:
        self._leases[lease.id] = lease
        pool = self._pool(lease.network)
        pool.last = IPv4Address(lease.address)
        pool.held[pool.last] = lease.id
        if lease.address6:
            pool.last6 = IPv6Address(lease.address6)
            pool.held6[pool.last6] = lease.id

    def get(self, network: str, container: str) -> Lease | None:
        """Return an endpoint's lease."""
        return self._leases.get(endpoint_id(network, container))

    def all(self) -> list[Lease]:
        """Return every lease."""
        with self._lock:
            return list(self._leases.values())

    def reserve(self, network: BridgeNetwork, container: str, wish: str | None) -> IPv4Address:
        """Hold an address in memory for an endpoint; :meth:`write` makes it last.

        :param wish: the address asked for; None takes the next free one.
        :raises InvalidRequest: the address asked for is malformed or not of the network.
        :raises Conflict: it is taken, or no address is left.
        """
        key = endpoint_id(network.spec.id, container)
        with self._lock:
            pool = self._pool(network.spec.id)
            address = _wished(network, wish) if wish else self._next(network, pool)
            if pool.held.setdefault(address, key) != key:
                raise Conflict(
                    f"network {network.spec.name}: Address already in use: {address}",
                    hint="leave --ip out, or choose another address",
                )
            if not wish:
                pool.last = address
            return address

    def reserve6(
        self, network: BridgeNetwork, container: str, address: IPv4Address, wish: str | None
    ) -> IPv6Address | None:
        """Hold the IPv6 address that goes with an address, or the one asked for.

        With an IPv6 ``--ip-range`` it is the next free one there. None where the network has no
        IPv6.

        :raises InvalidRequest: the address is malformed, or none that a container can have.
        :raises Conflict: it is taken, or no address is left.
        """
        if network.six is None:
            return None
        key = endpoint_id(network.spec.id, container)
        if not wish and network.six.pool is not None:
            with self._lock:
                pool = self._pool(network.spec.id)
                pool.last6 = chosen = _next6(network, network.six.pool, pool)
                pool.held6[chosen] = key
            return chosen
        chosen = _wished6(network, wish) if wish else network.address6(address)
        if not network.six.assignable(chosen):
            raise InvalidRequest(
                f"invalid IPv6 address {chosen}: it is not one that a container of the network "
                f"{network.spec.name} ({network.six.subnet}, gateway {network.six.gateway}) can "
                f"have",
                hint="choose another one with --ip6",
            )
        with self._lock:
            held = self._pool(network.spec.id).held6
            if chosen in network.six.reserved or held.setdefault(chosen, key) != key:
                raise Conflict(
                    f"network {network.spec.name}: Address already in use: {chosen}",
                    hint="choose another address with --ip6",
                )
        return chosen

    def peek(self, network: BridgeNetwork) -> IPv4Address:
        """Return the address that an endpoint would get now, without holding it."""
        with self._lock:
            return self._next(network, self._pool(network.spec.id))

    def _next(self, network: BridgeNetwork, pool: _Pool) -> IPv4Address:
        """Return the first free address after the last that was given out.

        So an address rests as long as possible before its next owner gets what was meant for the
        one before.
        """
        for address in map(IPv4Address, _circle(network.pool, pool.last)):
            if address in pool.held or not network.allocatable(address):
                continue
            if not network.paired or network.address6(address) not in pool.held6:
                return address
        raise Conflict(
            f"no available IPv4 addresses on this network's address pools: "
            f"{network.spec.name} ({network.spec.id})",
            hint="remove containers from the network, or create one with a larger subnet",
        )

    def write(self, lease: Lease) -> None:
        """Keep a lease; its address must be held for it (:meth:`reserve`) or free."""
        with self._lock:
            self._records.write(lease.id, lease.record())
            self._leases[lease.id] = lease
            pool = self._pool(lease.network)
            pool.held[IPv4Address(lease.address)] = lease.id
            if lease.address6:
                pool.held6[IPv6Address(lease.address6)] = lease.id

    def release(self, network: str, container: str, address: IPv4Address | None = None) -> None:
        """Forget an endpoint's lease, or an address that was only reserved. Idempotent."""
        key = endpoint_id(network, container)
        with self._lock:
            self._records.remove(key)
            lease = self._leases.pop(key, None)
            pool = self._pool(network)
            held = pool.held
            for six in [six for six, owner in pool.held6.items() if owner == key]:
                del pool.held6[six]
            for one in (address, IPv4Address(lease.address) if lease else None):
                if one is not None and held.get(one) == key:
                    del held[one]

    def holder(self, binding: PortBinding) -> Lease | None:
        """Return the lease that publishes a port which this one would collide with."""
        for lease in self.all():
            if any(collide(port, binding) for port in lease.ports):
                return lease
        return None


def _wished(network: BridgeNetwork, wish: str) -> IPv4Address:
    try:
        address = IPv4Address(wish)
    except AddressValueError as error:
        raise InvalidRequest(f'invalid IPv4 address "{wish}"') from error
    if address in network.subnet and not network.assignable(address):
        raise Conflict(
            f"network {network.spec.name}: Address already in use: {address}",
            hint=f"no container can have it: the network is {network.subnet}",
        )
    if not network.assignable(address):
        raise InvalidRequest(
            f"invalid IPv4 address {address}: it is not one that a container of the network "
            f"{network.spec.name} ({network.subnet}, gateway {network.gateway}) can have",
            hint="choose an address within the network's subnet",
        )
    if address in network.reserved:
        raise Conflict(
            f"network {network.spec.name}: Address already in use: {address}",
            hint="the network keeps it for something else (--aux-address): choose another one",
        )
    return address


def _wished6(network: BridgeNetwork, wish: str) -> IPv6Address:
    try:
        return IPv6Address(wish)
    except AddressValueError as error:
        raise InvalidRequest(
            f'invalid IPv6 address "{wish}"', hint=f"the network is {network.spec.name}"
        ) from error


def _next6(network: BridgeNetwork, pool: IPv6Network, taken: _Pool) -> IPv6Address:
    """Return the first free address of an IPv6 range, as :meth:`LeaseBook._next` does."""
    assert network.six is not None
    for number in _circle(pool, taken.last6):
        address = IPv6Address(number)
        if address not in taken.held6 and network.six.allocatable(address):
            return address
    raise Conflict(
        f"no available IPv6 addresses on this network's address pools: "
        f"{network.spec.name} ({network.spec.id})",
        hint="remove containers from the network, or create one with a larger --ip-range",
    )


def _circle(
    pool: IPv4Network | IPv6Network, last: IPv4Address | IPv6Address | None
) -> Iterator[int]:
    """Yield a pool's addresses as numbers, in a circle, beginning behind *last*."""
    size = pool.num_addresses
    first = int(pool.network_address)
    start = int(last) - first + 1 if last is not None and last in pool else 0
    offset = 0
    while offset < size:  # a range() of IPv6 addresses can be too long for one
        yield first + (start + offset) % size
        offset += 1
