"""The IPv6 half of a network with both: its subnet, and which address belongs to which.

An endpoint's IPv6 address has the host part of its IPv4 address: with ``172.20.0.5`` of
``172.20.0.0/16`` goes ``fd4e:…::5``. So one allocation gives both, and they say the same. Only
where an ``--ip-range`` of IPv6 is asked for are the addresses taken from there, in turn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.drivers.network import Subnet
from pannier.errors import Conflict, Forbidden, InvalidRequest, UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network

    from pannier.drivers.network import NetworkSpec

__all__ = ["SixSubnet", "check_six", "choose_six", "of_six", "resolve_six"]

_KERNEL: Final = Path("/proc/sys/net/ipv6")
_ULA: Final = 0xFD
_PREFIX: Final = 64
_BITS: Final = 128


@dataclass(frozen=True, slots=True)
class SixSubnet:
    """An IPv6 subnet with its choices made.

    :param pool: the part to allocate from; None where addresses follow from those of IPv4.
    """

    subnet: IPv6Network
    gateway: IPv6Address
    reserved: frozenset[IPv6Address]
    pool: IPv6Network | None = None

    def at(self, offset: int) -> IPv6Address:
        """Return the address with this host part."""
        return self.subnet[offset]

    def assignable(self, address: IPv6Address) -> bool:
        """Whether an endpoint may have this address at all."""
        first = self.subnet.network_address
        return address in self.subnet and address not in (first, self.gateway)

    def allocatable(self, address: IPv6Address) -> bool:
        """Whether the driver may choose this address for an endpoint."""
        return self.assignable(address) and address not in self.reserved


def of_six(subnets: Iterable[Subnet]) -> list[Subnet]:
    """Return the IPv6 subnets among some."""
    return [one for one in subnets if ":" in one.subnet]


def check_six(spec: NetworkSpec) -> None:
    """Refuse what cannot be had of IPv6.

    :raises InvalidRequest: there is an IPv6 subnet without IPv6.
    :raises UnsupportedOperation: the kernel has none; or several subnets.
    """
    given = of_six(spec.subnets)
    if not spec.ipv6:
        if given:
            raise InvalidRequest(
                f"network {spec.name}: the subnet {given[0].subnet} is one of IPv6, which the "
                f"network does not have",
                hint="add --ipv6",
            )
        return
    if len(given) > 1:
        raise Forbidden(
            f"network {spec.name}: bridge driver doesn't support multiple subnets",
            hint="give one IPv6 --subnet, or create several networks",
        )
    if not _KERNEL.exists():
        raise UnsupportedOperation(
            f"network {spec.name}: this kernel has no IPv6",
            hint="load the kernel's module ipv6, or leave --ipv6 out",
        )


def choose_six(spec: NetworkSpec, taken: Iterable[IPv6Network]) -> Subnet | None:
    """Return a network's IPv6 subnet: the one asked for, or one of its own; None without IPv6.

    Its own is a unique local one (RFC 4193), made from the network's id: nobody else's, and the
    same again whenever the network is made anew.

    :raises Conflict: it overlaps with another network's.
    """
    if not spec.ipv6:
        return None
    given = of_six(spec.subnets)
    if given:
        chosen = given[0]
    else:
        digest = hashlib.sha256(f"pannier {spec.id}".encode()).digest()
        packed = bytes((_ULA,)) + digest[: _PREFIX // 8 - 1] + bytes(_PREFIX // 8)
        chosen = Subnet(f"{IPv6Address(packed)}/{_PREFIX}")
    subnet = _subnet(chosen.subnet)
    for other in taken:
        if other.overlaps(subnet):
            raise Conflict(
                f"network {spec.name}: Pool overlaps with other one on this address space: "
                f"{subnet} and {other}",
                hint="choose an IPv6 --subnet that no other network uses",
            )
    return chosen


def resolve_six(spec: NetworkSpec, beside: IPv4Network) -> SixSubnet | None:
    """Make all the choices for a network's IPv6 subnet; None where it has none.

    :param beside: the network's IPv4 subnet.
    :raises InvalidRequest: it is malformed, or has less room than the IPv4 subnet whose host parts
        it is to take.
    """
    given = of_six(spec.subnets)
    if not given:
        return None
    subnet = _subnet(given[0].subnet)
    pool = _range(given[0].ip_range, subnet) if given[0].ip_range else None
    if pool is None and _BITS - subnet.prefixlen < beside.max_prefixlen - beside.prefixlen:
        raise InvalidRequest(
            f"network {spec.name}: the subnet {subnet} has less room than {beside} beside it",
            hint=f"use a prefix of /{_PREFIX}, as is usual",
        )
    gateway = _address(given[0].gateway, "gateway", subnet) if given[0].gateway else subnet[1]
    reserved = frozenset(_address(one, "aux-address", subnet) for one in given[0].reserved)
    return SixSubnet(subnet, gateway, reserved, pool)


def _range(text: str, subnet: IPv6Network) -> IPv6Network:
    pool = _subnet(text)
    if not pool.subnet_of(subnet):
        raise InvalidRequest(f"the ip-range {pool} is not within the subnet {subnet}")
    return pool


def _subnet(text: str) -> IPv6Network:
    try:
        return IPv6Network(text)
    except ValueError as error:
        raise InvalidRequest(
            f'invalid subnet "{text}": {error}', hint="give a network such as fd00:1234::/64"
        ) from error


def _address(text: str, what: str, subnet: IPv6Network) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except AddressValueError as error:
        raise InvalidRequest(f'invalid {what} "{text}": {error}') from error
    if address not in subnet:
        raise InvalidRequest(f"the {what} {address} is not within the subnet {subnet}")
    return address
