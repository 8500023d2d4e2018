"""What a network of the driver is, with all that its specification leaves open chosen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pannier.drivers.network import NetworkSpec, Subnet
from pannier.errors import Conflict, InvalidRequest, UnsupportedOperation

from pannier_net_macvlan.options import Mode, Options, read_options
from pannier_net_macvlan.pools import choose_subnet, open_pool, overlaps, unique_local

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pannier_net_macvlan.pools import Address, Network, Pool

__all__ = ["MacvlanNetwork", "check_neighbours", "resolve", "spec_from_record"]

_KERNEL_IPV6: Final = Path("/proc/sys/net/ipv6")
_ID_LENGTH: Final = 12


@dataclass(frozen=True, slots=True)
class MacvlanNetwork:
    """A network with all of its choices made.

    :param spec: with its subnets and gateways filled in.
    :param pools: its subnets, in the order given.
    """

    spec: NetworkSpec
    options: Options
    pools: tuple[Pool, ...]

    @property
    def private(self) -> bool:
        """Whether it has a segment of its own, which nothing but its containers is on."""
        return self.spec.internal or not self.options.parent

    @property
    def parent(self) -> str:
        """The link of the host that its containers' links are made on."""
        return f"dm-{self.spec.id[:_ID_LENGTH]}" if self.private else self.options.parent

    def of_version(self, version: int) -> list[Pool]:
        """Return its subnets of IPv4 or of IPv6."""
        return [pool for pool in self.pools if pool.subnet.version == version]

    def pool_of(self, address: str) -> Pool | None:
        """Return the subnet that an address is of; None for an empty one, or for a stranger."""
        if not address:
            return None
        given = ip_address(address)
        return next((pool for pool in self.pools if given in pool.subnet), None)

    def gateway(self, address: str) -> Address | None:
        """Return the way out that belongs to an address; None where there is none."""
        pool = self.pool_of(address)
        return None if pool is None or self.private else pool.gateway

    def record(self) -> dict[str, Any]:
        """Return what is written to disk, to be read by :func:`spec_from_record`."""
        return asdict(replace(self.spec, options=dict(self.spec.options)))


def spec_from_record(record: Mapping[str, Any]) -> NetworkSpec:
    """Return the specification that was recorded."""
    subnets = tuple(
        Subnet(**{**one, "reserved": tuple(one["reserved"])}) for one in record["subnets"]
    )
    return NetworkSpec(**{**record, "subnets": subnets})


def resolve(
    spec: NetworkSpec,
    pools: Iterable[str],
    others: Collection[Network],
    routes: Collection[Network],
) -> MacvlanNetwork:
    """Make all the choices for a network.

    :param pools: the configured ones, for a network without a subnet.
    :param others: the subnets of the driver's other networks.
    :param routes: where the host has routes to. A network that a user gave a subnet may be there,
        since the host is on its parent's network as well; one that is chosen may not.
    :raises InvalidRequest: something of it is malformed.
    :raises UnsupportedOperation: the kernel has no IPv6.
    :raises Conflict: a subnet overlaps with another network's, or none is left to choose.
    """
    options = read_options(spec)
    _check_ipv6(spec)
    given = list(spec.subnets)
    if not any(":" not in one.subnet for one in given):
        given.insert(0, choose_subnet(pools, [*others, *routes]))
    if spec.ipv6 and not any(":" in one.subnet for one in given):
        given.append(unique_local(spec.id))
    opened = tuple(map(open_pool, given))
    taken = list(others)
    for pool in opened:
        for other in taken:
            if overlaps(pool.subnet, other):
                raise Conflict(
                    f"network {spec.name}: Pool overlaps with other one on this address space: "
                    f"{pool.subnet} and {other}",
                    hint="choose a --subnet that no other macvlan network has, or have the "
                    "containers join that network",
                )
        taken.append(pool.subnet)
    filled = replace(spec, subnets=tuple(pool.specified for pool in opened))
    return MacvlanNetwork(filled, options, opened)


def _check_ipv6(spec: NetworkSpec) -> None:
    if not spec.ipv6:
        strange = [one.subnet for one in spec.subnets if ":" in one.subnet]
        if strange:
            raise InvalidRequest(
                f"network {spec.name}: the subnet {strange[0]} is one of IPv6, which the network "
                f"does not have",
                hint="add --ipv6",
            )
    elif not _KERNEL_IPV6.exists():
        raise UnsupportedOperation(
            f"network {spec.name}: this kernel has no IPv6",
            hint="load the kernel's module ipv6, or leave --ipv6 out",
        )


def check_neighbours(network: MacvlanNetwork, others: Iterable[MacvlanNetwork]) -> None:
    """Refuse a second network on a parent that belongs to one alone.

    :raises Conflict: one of the two has the mode ``passthru``.
    """
    for other in others:
        if other.parent == network.parent and Mode.PASSTHRU in (
            network.options.mode,
            other.options.mode,
        ):
            raise Conflict(
                f"network {network.spec.name}: network {other.spec.name} is already using parent "
                f"interface {network.parent}, and a passthru network shares it with nobody",
                hint="choose another parent, or another macvlan_mode for both",
            )
