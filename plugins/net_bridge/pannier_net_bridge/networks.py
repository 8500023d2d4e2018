"""What a network of the bridge driver is, from its specification, and which subnet it gets."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv4Network, ip_network
from typing import TYPE_CHECKING, Any, Final

from pannier.drivers.network import NetworkSpec, Subnet
from pannier.errors import ConfigError, Conflict, Forbidden, InvalidRequest, UnsupportedOperation
from pannier_net_bridge.gateways import NAT, GatewayMode, GatewayModes, gateway_modes
from pannier_net_bridge.six import SixSubnet, check_six, of_six, resolve_six

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from ipaddress import IPv6Address

    from pannier_net_bridge.config import BridgeConfig

__all__ = [
    "PREDEFINED",
    "BridgeNetwork",
    "bridge_name",
    "check_offered",
    "choose_subnet",
    "resolve",
    "spec_from_record",
]

PREDEFINED: Final = "bridge"
"""The id of the network that is always there."""

_OPTION: Final = "com.docker.network."
_NAME_LENGTH: Final = 15
_PREFIX_LENGTH: Final = 12
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TRUE: Final = frozenset({"1", "t", "true"})
_FALSE: Final = frozenset({"0", "f", "false"})
_SMALLEST_PREFIX: Final = 30


@dataclass(frozen=True, slots=True)
class BridgeNetwork:
    """A network with all of its choices made.

    :param spec: with its subnet and gateway filled in.
    :param bridge: the name of its bridge.
    :param pool: where its endpoints' addresses are taken from.
    :param mtu: in bytes; 0 for the default route's.
    :param icc: whether its endpoints reach one another directly.
    :param bind: the host's address for ports that are published without one.
    :param prefix: what the interfaces in containers are called, before their number.
    :param six: its IPv6 subnet; None where it has no IPv6.
    :param modes: how the host stands to it.
    :param addressed: whether its bridge has the gateway's IPv4 address.
    """

    spec: NetworkSpec
    bridge: str
    subnet: IPv4Network
    gateway: IPv4Address
    pool: IPv4Network
    reserved: frozenset[IPv4Address]
    mtu: int
    icc: bool
    masquerade: bool
    internal: bool
    bind: str
    prefix: str
    six: SixSubnet | None = None
    modes: GatewayModes = NAT
    addressed: bool = True

    def allocatable(self, address: IPv4Address) -> bool:
        """Whether the driver may choose this address for an endpoint."""
        if address not in self.pool or not self.assignable(address) or address in self.reserved:
            return False
        return not self.paired or (
            self.six is not None and self.six.allocatable(self.address6(address))
        )

    @property
    def paired(self) -> bool:
        """Whether an endpoint's IPv6 address follows from its IPv4 address."""
        return self.six is not None and self.six.pool is None

    def address6(self, address: IPv4Address) -> IPv6Address:
        """Return the IPv6 address that goes with an IPv4 address; only where they are paired."""
        assert self.six is not None
        return self.six.at(int(address) - int(self.subnet.network_address))

    def assignable(self, address: IPv4Address) -> bool:
        """Whether an endpoint may have this address at all."""
        return (
            address in self.subnet
            and address not in (self.subnet.network_address, self.subnet.broadcast_address)
            and (address != self.gateway or self._gateway_is_free)
        )

    @property
    def _gateway_is_free(self) -> bool:
        """Whether a container may have what would else be the gateway's address."""
        return self.modes.four is GatewayMode.ISOLATED and not self.spec.subnets[0].gateway

    def record(self) -> dict[str, Any]:
        """Return what is written to disk, to be read by :func:`spec_from_record`."""
        return asdict(replace(self.spec, options=dict(self.spec.options)))


def spec_from_record(record: Mapping[str, Any]) -> NetworkSpec:
    """Return the specification that was recorded."""
    subnets = tuple(
        Subnet(one["subnet"], one["gateway"], one["ip_range"], tuple(one["reserved"]))
        for one in record["subnets"]
    )
    return NetworkSpec(**{**record, "subnets": subnets})


def resolve(spec: NetworkSpec, config: BridgeConfig) -> BridgeNetwork:
    """Make all the choices for a network whose subnet is known.

    :raises InvalidRequest: a subnet, an address or an option is malformed.
    :raises UnsupportedOperation: it asks for IPv6, or for an option that is not offered.
    """
    (given,) = (one for one in spec.subnets if ":" not in one.subnet)
    subnet = _subnet(given.subnet)
    six = resolve_six(spec, subnet)
    completed = [replace(one, gateway=str(six.gateway)) for one in of_six(spec.subnets) if six]
    gateway = _address(given.gateway, "gateway", subnet) if given.gateway else subnet[1]
    pool = subnet
    if given.ip_range:
        pool = _subnet(given.ip_range)
        if not pool.subnet_of(subnet):
            raise InvalidRequest(f"the ip-range {pool} is not within the subnet {subnet}")
    reserved = frozenset(_address(one, "aux-address", subnet) for one in given.reserved)
    predefined = spec.id == PREDEFINED
    modes = gateway_modes(spec)
    isolated = modes.four is GatewayMode.ISOLATED
    if not isolated:
        given = replace(given, gateway=str(gateway))
    return BridgeNetwork(
        spec=replace(spec, subnets=(given, *completed)),
        bridge=bridge_name(spec, config),
        subnet=subnet,
        gateway=gateway,
        pool=pool,
        reserved=reserved,
        mtu=_integer(spec, "driver.mtu", config.mtu),
        icc=_boolean(spec, "bridge.enable_icc", default=config.icc if predefined else True),
        masquerade=_boolean(
            spec,
            "bridge.enable_ip_masquerade",
            default=config.masquerade if predefined else True,
        ),
        internal=spec.internal,
        bind=_bind(spec),
        prefix=_prefix(spec),
        six=six,
        modes=modes,
        addressed=not isolated and not _boolean(spec, "bridge.inhibit_ipv4", default=False),
    )


def bridge_name(spec: NetworkSpec, config: BridgeConfig) -> str:
    """Return the name of a network's bridge.

    :raises InvalidRequest: the name asked for cannot be a link's.
    """
    bridge = config.bridge if spec.id == PREDEFINED else f"br-{spec.id[:12]}"
    bridge = spec.options.get(f"{_OPTION}bridge.name") or bridge
    if not 0 < len(bridge.encode()) <= _NAME_LENGTH or not _NAME.fullmatch(bridge):
        raise InvalidRequest(
            f'the bridge name "{bridge}" cannot be a link\'s name',
            hint=f"use at most {_NAME_LENGTH} letters, digits, dots, dashes and underscores",
        )
    return bridge


def check_offered(spec: NetworkSpec) -> None:
    """Refuse what this driver does not offer.

    :raises UnsupportedOperation: it is asked for.
    """
    check_six(spec)
    if len(spec.subnets) - len(of_six(spec.subnets)) > 1:
        raise Forbidden(
            f"network {spec.name}: bridge driver doesn't support multiple subnets",
            hint="give one --subnet, or create several networks",
        )
    for one in spec.subnets:
        taken = [one.gateway or _first(one.subnet), *one.reserved]
        for address in set(taken):
            if address is not None and taken.count(address) > 1:
                raise Conflict(
                    f"network {spec.name}: failed to allocate secondary ip address ({address}): "
                    f"Address already in use",
                    hint="choose another --aux-address",
                )
    for option, offered in (
        ("host_ipv4", ""),
        ("host_ipv6", ""),
    ):
        value = spec.options.get(_OPTION + option, offered).lower()
        if value not in (offered, "0", ""):
            raise UnsupportedOperation(
                f"network {spec.name}: the bridge driver does not offer {_OPTION}{option}={value}",
                hint="leave the option out",
            )


def _first(subnet: str) -> str | None:
    """Return the address that a gateway has where none was chosen; None for a malformed subnet."""
    try:
        network = ip_network(subnet)
    except ValueError:
        return None
    return str(network[1]) if network.num_addresses > 1 else None


def _subnet(text: str) -> IPv4Network:
    try:
        subnet = IPv4Network(text)
    except ValueError as error:
        raise InvalidRequest(
            f'invalid subnet "{text}": {error}', hint="give a network such as 172.20.0.0/16"
        ) from error
    if subnet.prefixlen > _SMALLEST_PREFIX:
        raise InvalidRequest(
            f"the subnet {subnet} has no room for a container",
            hint=f"use a prefix of at most /{_SMALLEST_PREFIX}",
        )
    return subnet


def _address(text: str, what: str, subnet: IPv4Network) -> IPv4Address:
    try:
        address = IPv4Address(text)
    except AddressValueError as error:
        raise InvalidRequest(f'invalid {what} "{text}": {error}') from error
    if address not in subnet:
        raise InvalidRequest(f"the {what} {address} is not within the subnet {subnet}")
    return address


def _bind(spec: NetworkSpec) -> str:
    text = spec.options.get(f"{_OPTION}bridge.host_binding_ipv4", "")
    try:
        return str(IPv4Address(text)) if text else ""
    except AddressValueError as error:
        raise InvalidRequest(
            f"network {spec.name}: failed to parse {_OPTION}bridge.host_binding_ipv4 value: {text} "
            f"(not an IPv4 address)",
            hint="use 127.0.0.1, for instance",
        ) from error


def _prefix(spec: NetworkSpec) -> str:
    prefix = spec.options.get(f"{_OPTION}container_iface_prefix") or "eth"
    if len(prefix) > _PREFIX_LENGTH or not _NAME.fullmatch(prefix):
        raise InvalidRequest(
            f'network {spec.name}: {_OPTION}container_iface_prefix is "{prefix}", with which no '
            f"link's name can begin",
            hint=f"use at most {_PREFIX_LENGTH} letters, digits, dots, dashes and underscores",
        )
    return prefix


def _boolean(spec: NetworkSpec, option: str, *, default: bool) -> bool:
    text = spec.options.get(_OPTION + option)
    if text is None:
        return default
    if text.lower() not in _TRUE | _FALSE:
        raise InvalidRequest(
            f"network {spec.name}: failed to parse {_OPTION}{option} value: {text} (not a truth "
            f"value)",
            hint="use true or false",
        )
    return text.lower() in _TRUE


def _integer(spec: NetworkSpec, option: str, default: int) -> int:
    text = spec.options.get(_OPTION + option)
    if text is None:
        return default
    if not text.isdecimal():
        raise InvalidRequest(
            f"network {spec.name}: failed to parse {_OPTION}{option} value: {text} (not a number)",
            hint="give bytes, such as 1400",
        )
    return int(text)


def candidates(pools: Iterable[str]) -> Iterator[IPv4Network]:
    """Yield the subnets of the configured pools.

    :raises ConfigError: a pool is malformed.
    """
    for pool in pools:
        base, _, prefix = pool.partition(":")
        try:
            network = IPv4Network(base)
            yield from network.subnets(new_prefix=int(prefix) if prefix else network.prefixlen)
        except ValueError as error:
            raise ConfigError(
                f'[network.bridge] pools: "{pool}" is not a pool: {error}',
                hint="write BASE or BASE:PREFIX, for example 172.20.0.0/14:16",
            ) from error


def choose_subnet(
    spec: NetworkSpec, wished: str, pools: Iterable[str], taken: Iterable[IPv4Network]
) -> Subnet:
    """Choose a network's subnet, or check the one that was asked for.

    :param wished: the subnet of the configuration; empty for none.
    :param taken: what the host and the other networks use already.
    :raises Conflict: the subnet asked for overlaps with one of those.
    :raises InvalidRequest: no pool has a free one.
    """
    used = [network for network in taken if network.prefixlen]
    asked = spec.subnets[0] if spec.subnets else Subnet(wished) if wished else None
    if asked is not None:
        subnet = _subnet(asked.subnet)
        for other in used:
            if other.overlaps(subnet):
                raise Conflict(
                    f"network {spec.name}: Pool overlaps with other one on this address space: "
                    f"{subnet} and {other}",
                    hint="choose a --subnet that no network and no route of the host uses",
                )
        return asked
    for subnet in candidates(pools):
        if not any(other.overlaps(subnet) for other in used):
            return Subnet(str(subnet))
    raise InvalidRequest(
        f"network {spec.name}: could not find an available, non-overlapping IPv4 address pool "
        f"among the defaults to assign to the network: all predefined address pools have been "
        f"fully subnetted",
        hint="remove networks, give a --subnet, or add to [network.bridge] pools",
    )
