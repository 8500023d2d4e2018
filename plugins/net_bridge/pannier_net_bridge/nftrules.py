"""What stands in the tables of :mod:`pannier_net_bridge.nft`: sets, maps, chains and rules.

The tables of IPv4 and IPv6 say the same; :class:`Family` holds what differs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from pannier.linux import nftables as nft
from pannier.linux import nftexpr as expr
from pannier_net_bridge.firewall import Published
from pannier_net_bridge.ports import EVERY_ADDRESS, EVERY_ADDRESS6, PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from pannier.linux.netlink import Message
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = [
    "FAMILIES",
    "PORT_MAPS",
    "Family",
    "base",
    "elements_of",
    "family_of",
    "members",
    "network_rules",
    "port_of",
]

_BRIDGES: Final = "bridges"
_INTO: Final = "into"
_FROM: Final = "from"
_SOURCES: Final = "sources"
_PORTS_ANY: Final = "ports_any"
_PORTS_ADDRESS: Final = "ports_address"
_REFUSED: Final = "refused"
PORT_MAPS: Final = (_PORTS_ANY, _PORTS_ADDRESS)

_BEFORE_TRACKING: Final = -300
_DESTINATION_NAT: Final = -100
_SOURCE_NAT: Final = 100

_PORT_UNREACHABLE6: Final = 4


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between the tables.

    :param number: nf_tables' own.
    :param name: the word of ``nft list table``.
    :param kind: the type of an address in a set.
    :param size: of an address, in bytes.
    :param every: the address that means each of the host's.
    """

    number: int
    name: str
    kind: int
    size: int
    every: str

    def networks(self, found: Sequence[BridgeNetwork]) -> list[BridgeNetwork]:
        """Return the networks that have addresses of this family."""
        return [one for one in found if self.subnet(one) is not None]

    def subnet(self, network: BridgeNetwork) -> IPv4Network | IPv6Network | None:
        """Return a network's subnet of this family."""
        if self.number == nft.IPV4:
            return network.subnet
        return network.six.subnet if network.six is not None else None

    def address(self, *, source: bool, register: int = expr.R0) -> bytes:
        """Load the packet's address."""
        load = expr.address if self.number == nft.IPV4 else expr.address6
        return load(source=source, register=register)

    def from_loopback(self, *, source: bool, equal: bool = True) -> list[bytes]:
        """Go on only where the address is (or is not) one of the loopback's."""
        load = expr.from_loopback if self.number == nft.IPV4 else expr.from_loopback6
        return load(source=source, equal=equal)

    @property
    def version(self) -> int:
        """The IP version."""
        return 4 if self.number == nft.IPV4 else 6

    @property
    def port_sets(self) -> tuple[str, ...]:
        """The maps and sets that change with published ports."""
        return PORT_MAPS if self.number == nft.IPV4 else (*PORT_MAPS, _REFUSED)

    @property
    def registers(self) -> int:
        """How many registers an address takes."""
        return self.size // 4


FAMILIES: Final = (
    Family(nft.IPV4, "ip", nft.TYPE_IPV4, 4, EVERY_ADDRESS),
    Family(nft.IPV6, "ip6", nft.TYPE_IPV6, 16, EVERY_ADDRESS6),
)


def family_of(port: Published) -> Family:
    """Return the family of a published port."""
    return next(one for one in FAMILIES if one.size == len(port.host_ip.packed))


# Published ports.


def _key(port: Published) -> bytes:
    number = PROTOCOLS[port.protocol]
    return struct.pack(">B3xH2x", number, port.host_port)


def elements_of(port: Published) -> list[tuple[str, nft.Element]]:
    """Return a published port's elements, each with its map or set."""
    family, key = family_of(port), _key(port)
    value = port.address.packed + struct.pack(">H2x", port.port)
    if str(port.host_ip) != family.every:
        return [(_PORTS_ADDRESS, nft.Element(port.host_ip.packed + key, value))]
    found = [(_PORTS_ANY, nft.Element(key, value))]
    if _REFUSED in family.port_sets:
        found.append((_REFUSED, nft.Element(key, b"")))
    return found


def port_of(family: Family, name: str, element: nft.Element) -> Published:
    """Return the published port that an element of a map stands for."""
    key, value = element.key, element.value
    assert isinstance(value, bytes), "the ports' maps hold no verdicts"
    read = IPv4Address if family.number == nft.IPV4 else IPv6Address
    host_ip: IPv4Address | IPv6Address = read(family.every)
    if name == _PORTS_ADDRESS:
        host_ip, key = read(key[: family.size]), key[family.size :]
    number, host_port = struct.unpack(">B3xH2x", key)
    protocol = next(name for name, value in PROTOCOLS.items() if value == number)
    address = read(value[: family.size])
    (port,) = struct.unpack(">H2x", value[family.size :])
    return Published(protocol, host_ip, host_port, address, port)


# Rules.


def base(family: Family, table: str, *, closed: bool, loopback: bool) -> list[Message]:
    """Return what makes the table, and empties all of it but the published ports."""
    number = family.number
    target = (family.kind, nft.TYPE_SERVICE)
    ports = (nft.TYPE_PROTOCOL, nft.TYPE_SERVICE)
    link = (nft.TYPE_IFNAME,)
    chains = {
        "guard": nft.BaseChain("filter", nft.PREROUTING, _BEFORE_TRACKING),
        "prerouting": nft.BaseChain("nat", nft.PREROUTING, _DESTINATION_NAT),
        "output": nft.BaseChain("nat", nft.OUTPUT, _DESTINATION_NAT),
        "postrouting": nft.BaseChain("nat", nft.POSTROUTING, _SOURCE_NAT),
        "forward": nft.BaseChain("filter", nft.FORWARD, 0, nft.DROP if closed else nft.ACCEPT),
    }
    if number == nft.IPV6:
        del chains["guard"]  # the kernel itself lets ::1 in by lo only
        chains["refuse"] = nft.BaseChain("filter", nft.OUTPUT, 0)
    refused = []
    if _REFUSED in family.port_sets:
        refused = [nft.add_map(number, table, _REFUSED, ports, plain=True)]
    return [
        nft.add_table(number, table),
        *refused,
        nft.add_map(number, table, _PORTS_ANY, ports, target),
        nft.add_map(number, table, _PORTS_ADDRESS, (family.kind, *ports), target),
        nft.add_map(number, table, _BRIDGES, link, plain=True),
        nft.add_map(number, table, _INTO, link),
        nft.add_map(number, table, _FROM, link),
        nft.add_map(number, table, _SOURCES, (family.kind,), interval=True),
        *(nft.add_chain(number, table, name, hook) for name, hook in chains.items()),
        *(nft.flush_chain(number, table, name) for name in chains),
        *(nft.flush_map(number, table, name) for name in (_BRIDGES, _INTO, _FROM, _SOURCES)),
        *(
            nft.add_rule(number, table, chain, expressions)
            for chain, expressions in _base_rules(family, loopback=loopback)
        ),
    ]


def _base_rules(family: Family, *, loopback: bool) -> Iterable[tuple[str, list[bytes]]]:
    """Yield the rules that there are once, in order."""
    if family.number == nft.IPV4:
        # route_localnet lets a packet for 127.0.0.0/8 in by a bridge. None that comes by wire may.
        outside = expr.interface(expr.META_IIFNAME, "lo", equal=False)
        yield "guard", [*outside, *family.from_loopback(source=False), expr.verdict(nft.DROP)]
    for chain in ("prerouting", "output"):
        for rule in _redirections(family):
            skip = [] if loopback else family.from_loopback(source=False, equal=False)
            yield chain, [*skip, *rule]
    if family.number == nft.IPV6:
        yield from _refusals(family)
    # A container cannot answer 127.0.0.1 or ::1.
    yield (
        "postrouting",
        [
            expr.meta(expr.META_OIFNAME),
            expr.in_set(_BRIDGES),
            *family.from_loopback(source=True),
            expr.masquerade(),
        ],
    )
    yield "postrouting", [family.address(source=True), expr.lookup(_SOURCES)]
    yield "forward", [expr.meta(expr.META_IIFNAME), expr.lookup(_FROM)]
    yield "forward", [expr.meta(expr.META_OIFNAME), expr.lookup(_INTO)]
    yield (
        "forward",
        [expr.meta(expr.META_IIFNAME), expr.in_set(_BRIDGES), expr.verdict(nft.ACCEPT)],
    )


def _redirections(family: Family) -> Iterable[list[bytes]]:
    """Yield the rules that look a packet's destination up among the published ports."""
    behind = expr.R0 + family.registers
    yield [
        *expr.to_local_address(),
        family.address(source=False, register=expr.R0),
        expr.meta(expr.META_L4PROTO, behind),
        expr.destination_port(behind + 1),
        expr.lookup(_PORTS_ADDRESS, into=expr.R0),
        expr.dnat(expr.R0, behind, family.number),
    ]
    yield [
        *expr.to_local_address(),
        expr.meta(expr.META_L4PROTO, expr.R0),
        expr.destination_port(expr.R1),
        expr.lookup(_PORTS_ANY, into=expr.R0),
        expr.dnat(expr.R0, behind, family.number),
    ]


def _refusals(family: Family) -> Iterable[tuple[str, list[bytes]]]:
    """Refuse ::1 where it was not redirected: the socket that reserves the port never answers.

    A client of ``localhost`` then goes on to 127.0.0.1 at once.
    """
    for tcp in (True, False):
        answer = expr.reset() if tcp else expr.unreachable(_PORT_UNREACHABLE6)
        protocol = struct.pack("B", PROTOCOLS["tcp"])
        yield (
            "refuse",
            [
                *family.from_loopback(source=False),
                expr.meta(expr.META_L4PROTO, expr.R0),
                expr.compare(protocol, equal=tcp),
                expr.destination_port(expr.R1),
                expr.in_set(_REFUSED),
                answer,
            ],
        )


def members(family: Family, table: str, networks: Sequence[BridgeNetwork]) -> list[Message]:
    """Return the networks' own chains, and their elements in the sets and maps."""
    number = family.number
    messages = []
    found: dict[str, list[nft.Element]] = {name: [] for name in (_BRIDGES, _INTO, _FROM, _SOURCES)}
    for network in networks:
        bridge, subnet = network.bridge, family.subnet(network)
        assert subnet is not None
        link = bridge.encode().ljust(16, b"\0")
        for chain, rules in network_rules(network, family.version).items():
            messages.append(nft.add_chain(number, table, chain))
            messages.append(nft.flush_chain(number, table, chain))
            messages += [nft.add_rule(number, table, chain, rule) for rule in rules]
        found[_BRIDGES].append(nft.Element(link, b""))
        found[_INTO].append(nft.Element(link, nft.Verdict(nft.GOTO, f"into_{bridge}")))
        found[_FROM].append(nft.Element(link, nft.Verdict(nft.JUMP, f"from_{bridge}")))
        # The key behind the last address; the last address of all belongs to no pool.
        behind = (subnet.broadcast_address + 1).packed
        goto = nft.Verdict(nft.GOTO, f"nat_{bridge}")
        found[_SOURCES].append(nft.Element(subnet.network_address.packed, goto, behind))
    for name, elements in found.items():
        messages += nft.add_elements(number, table, name, elements)
    return messages


def network_rules(network: BridgeNetwork, version: int) -> dict[str, list[list[bytes]]]:
    """Return a network's own chains, for one IP version."""
    bridge = network.bridge
    comes_by = expr.interface(expr.META_IIFNAME, bridge)
    leaves_by = expr.interface(expr.META_OIFNAME, bridge)
    leaves_otherwise = expr.interface(expr.META_OIFNAME, bridge, equal=False)
    accept, drop = expr.verdict(nft.ACCEPT), expr.verdict(nft.DROP)
    redirected = expr.ct_status(expr.CT_STATUS_DNAT)

    into = [[*expr.ct_state(expr.CT_ESTABLISHED | expr.CT_RELATED), accept]]
    # A container that asks for its own, or a neighbour's, published port would be answered
    # directly, past the translation.
    nat = [[*leaves_by, *redirected, expr.masquerade()]]
    out = []
    if network.internal:
        out.append([*leaves_otherwise, drop])
    else:
        into.append([*redirected, accept])
        if network.masquerade:
            nat.append([*leaves_otherwise, expr.masquerade()])
    if network.icc:
        into.append([*comes_by, accept])
    if network.modes.unprotected(version) and not network.internal:
        into.append([expr.meta(expr.META_IIFNAME), expr.in_set(_BRIDGES), drop])
        into.append([accept])
    into.append([drop])
    return {f"into_{bridge}": into, f"from_{bridge}": out, f"nat_{bridge}": nat}
