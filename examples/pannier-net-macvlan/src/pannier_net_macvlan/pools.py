"""The subnets of a network, and which of their addresses a container can have."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TYPE_CHECKING, Final, TypeAlias

from pannier.drivers.network import Subnet
from pannier.errors import ConfigError, Conflict, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

__all__ = ["Address", "Network", "Pool", "choose_subnet", "open_pool", "overlaps", "unique_local"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_HOST_BITS: Final = 2
"""A smaller subnet has no room for a gateway and a container."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One subnet of a network.

    :param ip_range: the part of it that addresses are chosen from.
    :param reserved: what other machines have.
    """

    subnet: Network
    gateway: Address
    ip_range: Network
    reserved: frozenset[Address]

    @property
    def specified(self) -> Subnet:
        """The subnet in the contract's words."""
        return Subnet(
            str(self.subnet),
            str(self.gateway),
            str(self.ip_range) if self.ip_range != self.subnet else None,
            tuple(sorted(map(str, self.reserved))),
        )

    def can_have(self, address: Address) -> bool:
        """Whether a container can have an address at all, if it is asked for."""
        # The last one of IPv6 is an address like any other (RFC 4291, 2.6.1: the first is not).
        ends = [self.subnet.network_address]
        if self.subnet.version == 4:
            ends.append(self.subnet.broadcast_address)
        return address in self.subnet and address not in (*ends, self.gateway, *self.reserved)

    def next_after(self, last: Address | None, taken: Collection[Address]) -> Address | None:
        """Return the next free address; None where there is none.

        An address that was given back rests as long as possible before it is given out again: the
        machines of the network remember for a while whose it was.
        """
        first, size = int(self.ip_range.network_address), self.ip_range.num_addresses
        start = int(last) - first + 1 if last is not None and last in self.ip_range else 0
        offset = 0
        while offset < size:  # not a range(), which is too short for IPv6
            address = self.ip_range[(start + offset) % size]
            if address not in taken and self.can_have(address):
                return address
            offset += 1
        return None


def open_pool(given: Subnet) -> Pool:
    """Make the choices for a subnet that were left open.

    :raises InvalidRequest: something of it is malformed, or not within it.
    """
    subnet = _network(given.subnet, "subnet")
    if subnet.max_prefixlen - subnet.prefixlen < _HOST_BITS:
        raise InvalidRequest(
            f"the subnet {subnet} has no room for a container",
            hint=f"use a prefix of at most /{subnet.max_prefixlen - _HOST_BITS}",
        )
    ip_range = _network(given.ip_range, "ip-range") if given.ip_range else subnet
    if not _within(ip_range, subnet):
        raise InvalidRequest(f"the ip-range {ip_range} is not within the subnet {subnet}")
    return Pool(
        subnet,
        _address(given.gateway, "gateway", subnet) if given.gateway else subnet[1],
        ip_range,
        frozenset(_address(one, "aux-address", subnet) for one in given.reserved),
    )


def choose_subnet(pools: Iterable[str], taken: Collection[Network]) -> Subnet:
    """Return the first subnet of the configured pools that nobody has.

    :raises ConfigError: a pool is malformed.
    :raises Conflict: all are taken.
    """
    for subnet in _candidates(pools):
        if not any(overlaps(subnet, other) for other in taken):
            return Subnet(str(subnet))
    raise Conflict(
        "could not find an available, non-overlapping IPv4 address pool",
        hint="give a --subnet, or add to [network.macvlan] pools",
    )


def _candidates(pools: Iterable[str]) -> Iterator[IPv4Network]:
    for pool in pools:
        base, _, prefix = pool.partition(":")
        try:
            network = IPv4Network(base)
            yield from network.subnets(new_prefix=int(prefix) if prefix else network.prefixlen)
        except ValueError as error:
            raise ConfigError(
                f'[network.macvlan] pools: "{pool}" is not a pool: {error}',
                hint="write BASE:PREFIX, for example 10.224.0.0/12:24",
            ) from error


def unique_local(network: str) -> Subnet:
    """Return an IPv6 subnet that is nobody else's (RFC 4193), made from a network's id."""
    digest = hashlib.sha256(f"macvlan {network}".encode()).digest()
    address = IPv6Address(b"\xfd" + digest[:7] + bytes(8))
    return Subnet(f"{address}/64")


def _within(inner: Network, outer: Network) -> bool:
    """Whether a network is part of another, of either version."""
    return inner.version == outer.version and inner[0] in outer and inner[-1] in outer


def overlaps(one: Network, other: Network) -> bool:
    """Whether two networks have an address in common, of either version."""
    return one.version == other.version and (one[0] in other or other[0] in one)


def _network(text: str, what: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise InvalidRequest(
            f'invalid {what} "{text}": {error}', hint="give a network such as 192.168.1.0/24"
        ) from error


def _address(text: str, what: str, subnet: Network) -> Address:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise InvalidRequest(f'invalid {what} "{text}": {error}') from error
    if address not in subnet:
        raise InvalidRequest(f"the {what} {address} is not within the subnet {subnet}")
    return address
