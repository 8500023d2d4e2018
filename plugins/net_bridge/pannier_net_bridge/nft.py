"""The firewall over nf_tables: one table, and maps that make every change a matter of its key.

::

    table ip pannier {
        map ports_any     { proto . port : address . port }            published on every address
        map ports_address { address . proto . port : address . port }  published on one of them
        set bridges       { link }
        map into, from    { link : goto/jump the network's chain }
        map sources       { subnet : goto the network's chain }

        guard        (prerouting, before all)  127.0.0.0/8 comes in by lo only
        prerouting, output (nat)               published ports
        postrouting        (nat)               masquerading
        forward            (filter)            into, from
    }

Publishing a port adds an element, and withdrawing it deletes one: with 300 containers as quickly as
with one. Setting a network up rewrites the few rules and small maps in one transaction, so that no
packet ever meets half of them.
"""

from __future__ import annotations

import contextlib
import struct
import threading
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final

from pannier.errors import DriverError
from pannier.linux import nftables as nft
from pannier.linux import nftexpr as expr
from pannier.linux import nftlist
from pannier.linux.netlink import NETFILTER, NetlinkError, NetlinkSocket, is_errno
from pannier_net_bridge.firewall import Firewall, Published
from pannier_net_bridge.ports import EVERY_ADDRESS, PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pannier.linux.netlink import Message
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = ["NftFirewall", "network_rules"]

_BRIDGES: Final = "bridges"
_INTO: Final = "into"
_FROM: Final = "from"
_SOURCES: Final = "sources"
_PORTS_ANY: Final = "ports_any"
_PORTS_ADDRESS: Final = "ports_address"
_PORT_MAPS: Final = (_PORTS_ANY, _PORTS_ADDRESS)

_BEFORE_TRACKING: Final = -300
_DESTINATION_NAT: Final = -100
_SOURCE_NAT: Final = 100


class NftFirewall(Firewall):
    """See the module."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._lock = threading.Lock()
        self._generation = -1
        self._socket: NetlinkSocket | None = None

    def close(self) -> None:
        """Close the socket."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    @contextlib.contextmanager
    def _open(self) -> Iterator[NetlinkSocket]:
        """Lend the one socket, to one thread at a time.

        It stays open because closing a netfilter socket makes the kernel wait until everything that
        was deleted before is freed (``nft_rcv_nl_event``): 10 to 20 ms after each withdrawal.
        """
        with self._lock:
            if self._socket is None:
                self._socket = NetlinkSocket(NETFILTER)
            yield self._socket

    def set_up(self, networks: Sequence[BridgeNetwork], *, closed: bool) -> None:
        """Rewrite all but the published ports."""
        messages = [*self._base(closed=closed), *self._networks(networks)]
        with self._open() as netlink:
            gone = self._chains_of_others(netlink, networks)
            self._commit(netlink, [*messages, *gone], "set up the bridges' rules")

    def tear_down(self) -> None:
        """Delete the table."""
        with self._open() as netlink:
            try:
                nft.commit(netlink, [nft.delete_table(nft.IPV4, self._table)])
            except NetlinkError as error:
                if not is_errno(error, "ENOENT"):
                    raise self._failed("remove the bridges' rules", error) from error

    def publish(self, ports: Sequence[Published]) -> None:
        """Add the elements."""
        with self._open() as netlink:
            messages = self._changes(ports, add=True)
            self._commit(netlink, messages, f"publish {_names(ports)}")

    def withdraw(self, ports: Sequence[Published]) -> None:
        """Delete the elements that are there."""
        with self._open() as netlink:
            try:
                self._commit(netlink, self._changes(ports, add=False), "withdraw")
            except DriverError:
                # One of them has gone before, and with it the whole transaction: look.
                there = self._published(netlink)
                left = [port for port in ports if port in there]
                if left:
                    changes = self._changes(left, add=False)
                    self._commit(netlink, changes, f"withdraw {_names(left)}")

    def synchronize(self, ports: Sequence[Published]) -> None:
        """Replace all elements of the ports' maps."""
        flush = [nft.flush_map(nft.IPV4, self._table, name) for name in _PORT_MAPS]
        with self._open() as netlink:
            messages = [*flush, *self._changes(ports, add=True)]
            self._commit(netlink, messages, "publish the running containers' ports")

    def present(self) -> bool:
        """Whether the table is there: a flush of all rules takes it away as a whole."""
        with self._open() as netlink:
            return nftlist.has_table(netlink, nft.IPV4, self._table)

    def intact(self) -> bool:
        """Compare the ruleset's generation with that of our last change."""
        with self._open() as netlink:
            return nftlist.generation(netlink) == self._generation

    def note_generation(self) -> None:
        """Take the ruleset as it is now for intact."""
        with self._open() as netlink:
            self._generation = nftlist.generation(netlink)

    def _commit(self, netlink: NetlinkSocket, messages: Sequence[Message], what: str) -> None:
        before = nftlist.generation(netlink)
        try:
            nft.commit(netlink, messages)
        except NetlinkError as error:
            raise self._failed(what, error) from error
        # Someone else's change in between, or before, is not to be taken for ours.
        if before == self._generation and nftlist.generation(netlink) == before + 1:
            self._generation = before + 1

    def _failed(self, what: str, error: OSError) -> DriverError:
        return DriverError(
            f"bridge: could not {what}: {error.strerror}",
            hint=f"look at `nft list table ip {self._table}`, and run `pannier doctor`",
        )

    # Ports.

    def _changes(self, ports: Iterable[Published], *, add: bool) -> list[Message]:
        by_map: dict[str, list[nft.Element]] = {}
        for port in ports:
            name, element = _element(port)
            by_map.setdefault(name, []).append(element)
        change = nft.add_elements if add else nft.delete_elements
        return [
            message
            for name, found in by_map.items()
            for message in change(nft.IPV4, self._table, name, found)
        ]

    def _published(self, netlink: NetlinkSocket) -> set[Published]:
        return {
            _port(name, element)
            for name in _PORT_MAPS
            for element in nftlist.elements(netlink, nft.IPV4, self._table, name)
        }

    # Rules.

    def _base(self, *, closed: bool) -> list[Message]:
        family, table = nft.IPV4, self._table
        target = (nft.TYPE_IPV4, nft.TYPE_SERVICE)
        ports = (nft.TYPE_PROTOCOL, nft.TYPE_SERVICE)
        link = (nft.TYPE_IFNAME,)
        chains = {
            "guard": nft.BaseChain("filter", nft.PREROUTING, _BEFORE_TRACKING),
            "prerouting": nft.BaseChain("nat", nft.PREROUTING, _DESTINATION_NAT),
            "output": nft.BaseChain("nat", nft.OUTPUT, _DESTINATION_NAT),
            "postrouting": nft.BaseChain("nat", nft.POSTROUTING, _SOURCE_NAT),
            "forward": nft.BaseChain("filter", nft.FORWARD, 0, nft.DROP if closed else nft.ACCEPT),
        }
        return [
            nft.add_table(family, table),
            nft.add_map(family, table, _PORTS_ANY, ports, target),
            nft.add_map(family, table, _PORTS_ADDRESS, (nft.TYPE_IPV4, *ports), target),
            nft.add_map(family, table, _BRIDGES, link, plain=True),
            nft.add_map(family, table, _INTO, link),
            nft.add_map(family, table, _FROM, link),
            nft.add_map(family, table, _SOURCES, (nft.TYPE_IPV4,), interval=True),
            *(nft.add_chain(family, table, name, base) for name, base in chains.items()),
            *(nft.flush_chain(family, table, name) for name in chains),
            *(nft.flush_map(family, table, name) for name in (_BRIDGES, _INTO, _FROM, _SOURCES)),
            *(
                nft.add_rule(family, table, chain, expressions)
                for chain, expressions in _base_rules()
            ),
        ]

    def _networks(self, networks: Sequence[BridgeNetwork]) -> list[Message]:
        family, table = nft.IPV4, self._table
        messages = []
        bridges, into, out, sources = [], [], [], []
        for network in networks:
            link = network.bridge.encode().ljust(16, b"\0")
            for chain, rules in network_rules(network).items():
                messages.append(nft.add_chain(family, table, chain))
                messages.append(nft.flush_chain(family, table, chain))
                messages += [nft.add_rule(family, table, chain, rule) for rule in rules]
            bridges.append(nft.Element(link, b""))
            goto = nft.Verdict(nft.GOTO, f"into_{network.bridge}")
            into.append(nft.Element(link, goto))
            jump = nft.Verdict(nft.JUMP, f"from_{network.bridge}")
            out.append(nft.Element(link, jump))
            first = network.subnet.network_address.packed
            # The key behind the last address; 255.255.255.255 belongs to no pool.
            behind = (network.subnet.broadcast_address + 1).packed
            goto = nft.Verdict(nft.GOTO, f"nat_{network.bridge}")
            sources.append(nft.Element(first, goto, behind))
        for name, found in (
            (_BRIDGES, bridges),
            (_INTO, into),
            (_FROM, out),
            (_SOURCES, sources),
        ):
            messages += nft.add_elements(family, table, name, found)
        return messages

    def _chains_of_others(
        self, netlink: NetlinkSocket, networks: Sequence[BridgeNetwork]
    ) -> list[Message]:
        """Delete the chains of networks that are no more."""
        wanted = {chain for network in networks for chain in network_rules(network)}
        found = [
            chain
            for chain in nftlist.plain_chains(netlink, nft.IPV4, self._table)
            if chain not in wanted
        ]
        return [
            message
            for chain in found
            for message in (
                nft.flush_chain(nft.IPV4, self._table, chain),
                nft.delete_chain(nft.IPV4, self._table, chain),
            )
        ]


def _names(ports: Sequence[Published]) -> str:
    return ", ".join(f"{port.host_ip}:{port.host_port}/{port.protocol}" for port in ports)


def _key(port: Published) -> bytes:
    number = PROTOCOLS[port.protocol]
    return struct.pack(">B3xH2x", number, port.host_port)


def _element(port: Published) -> tuple[str, nft.Element]:
    value = port.address.packed + struct.pack(">H2x", port.port)
    if str(port.host_ip) == EVERY_ADDRESS:
        return _PORTS_ANY, nft.Element(_key(port), value)
    return _PORTS_ADDRESS, nft.Element(port.host_ip.packed + _key(port), value)


def _port(name: str, element: nft.Element) -> Published:
    key, value = element.key, element.value
    assert isinstance(value, bytes), "the ports' maps hold no verdicts"
    host_ip = IPv4Address(EVERY_ADDRESS)
    if name == _PORTS_ADDRESS:
        host_ip, key = IPv4Address(key[:4]), key[4:]
    number, host_port = struct.unpack(">B3xH2x", key)
    protocol = next(name for name, value in PROTOCOLS.items() if value == number)
    address, port = IPv4Address(value[:4]), struct.unpack(">H2x", value[4:])[0]
    return Published(protocol, host_ip, host_port, address, port)


def _base_rules() -> Iterable[tuple[str, list[bytes]]]:
    """Yield the rules that there are once, in order."""
    # route_localnet lets a packet for 127.0.0.0/8 in by a bridge. None that comes by wire may.
    outside = expr.interface(expr.META_IIFNAME, "lo", equal=False)
    yield "guard", [*outside, *expr.from_loopback(source=False), expr.verdict(nft.DROP)]
    for chain in ("prerouting", "output"):
        yield (
            chain,
            [
                *expr.to_local_address(),
                expr.address(source=False, register=expr.R0),
                expr.meta(expr.META_L4PROTO, expr.R1),
                expr.destination_port(expr.R1 + 1),
                expr.lookup(_PORTS_ADDRESS, into=expr.R0),
                expr.dnat(expr.R0, expr.R1),
            ],
        )
        yield (
            chain,
            [
                *expr.to_local_address(),
                expr.meta(expr.META_L4PROTO, expr.R0),
                expr.destination_port(expr.R1),
                expr.lookup(_PORTS_ANY, into=expr.R0),
                expr.dnat(expr.R0, expr.R1),
            ],
        )
    # A container cannot answer 127.0.0.1.
    yield (
        "postrouting",
        [
            expr.meta(expr.META_OIFNAME),
            expr.in_set(_BRIDGES),
            *expr.from_loopback(source=True),
            expr.masquerade(),
        ],
    )
    yield "postrouting", [expr.address(source=True), expr.lookup(_SOURCES)]
    yield "forward", [expr.meta(expr.META_IIFNAME), expr.lookup(_FROM)]
    yield "forward", [expr.meta(expr.META_OIFNAME), expr.lookup(_INTO)]
    yield (
        "forward",
        [expr.meta(expr.META_IIFNAME), expr.in_set(_BRIDGES), expr.verdict(nft.ACCEPT)],
    )


def network_rules(network: BridgeNetwork) -> dict[str, list[list[bytes]]]:
    """Return a network's own chains."""
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
    into.append([drop])
    return {f"into_{bridge}": into, f"from_{bridge}": out, f"nat_{bridge}": nat}
