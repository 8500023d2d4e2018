"""The firewall over nf_tables: a table, and maps that make every change a matter of its key.

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

A second one, ``ip6``, is there while a network has IPv6. Publishing a port adds an element, and
withdrawing it deletes one: with 300 containers as quickly as with one. Setting a network up
rewrites the few rules and small maps of both tables in one transaction, so that no packet ever
meets half of them.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from pannier.errors import DriverError
from pannier.linux import nftables as nft
from pannier.linux import nftlist
from pannier.linux.netlink import NETFILTER, NetlinkError, NetlinkSocket, is_errno
from pannier_net_bridge.firewall import Closed, Firewall
from pannier_net_bridge.nftrules import (
    FAMILIES,
    PORT_MAPS,
    base,
    elements_of,
    family_of,
    members,
    network_rules,
    port_of,
)
from pannier_net_bridge.ports import place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pannier.linux.netlink import Message
    from pannier_net_bridge.firewall import Published
    from pannier_net_bridge.networks import BridgeNetwork
    from pannier_net_bridge.nftrules import Family

__all__ = ["NftFirewall"]


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

    def set_up(self, networks: Sequence[BridgeNetwork], *, closed: Closed, loopback6: bool) -> None:
        """Rewrite all but the published ports."""
        with self._open() as netlink:
            messages = []
            for family in FAMILIES:
                mine = family.networks(networks)
                if not mine:
                    messages += self._removal(netlink, family)
                    continue
                shut = closed.six if family.number == nft.IPV6 else closed.four
                loopback = loopback6 or family.number == nft.IPV4
                messages += base(family, self._table, closed=shut, loopback=loopback)
                messages += members(family, self._table, mine)
                messages += self._chains_of_others(netlink, family, mine)
            self._commit(netlink, messages, "set up the bridges' rules")

    def _removal(self, netlink: NetlinkSocket, family: Family) -> list[Message]:
        """Return what removes a table, where there is one; a kernel may lack the family."""
        if not self._is_there(netlink, family):
            return []
        return [nft.delete_table(family.number, self._table)]

    def _is_there(self, netlink: NetlinkSocket, family: Family) -> bool:
        try:
            return nftlist.has_table(netlink, family.number, self._table)
        except NetlinkError as error:
            if is_errno(error, "EAFNOSUPPORT", "EOPNOTSUPP"):
                return False
            raise self._failed("look for the bridges' rules", error) from error

    def tear_down(self) -> None:
        """Delete the tables."""
        with self._open() as netlink:
            for family in FAMILIES:
                try:
                    nft.commit(netlink, self._removal(netlink, family))
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
        with self._open() as netlink:
            flush = [
                nft.flush_map(family.number, self._table, name)
                for family in FAMILIES
                if self._is_there(netlink, family)
                for name in family.port_sets
            ]
            messages = [*flush, *self._changes(ports, add=True)]
            self._commit(netlink, messages, "publish the running containers' ports")

    def present(self, *, six: bool = False) -> bool:
        """Whether the tables are there: a flush of all rules takes them away as a whole."""
        with self._open() as netlink:
            return all(self._is_there(netlink, family) for family in FAMILIES[: 1 + six])

    def intact(self) -> bool:
        """Compare the ruleset's generation with that of our last change."""
        with self._open() as netlink:
            return nftlist.generation(netlink) == self._generation

    def generation(self) -> int:
        """Return the ruleset's generation."""
        with self._open() as netlink:
            return nftlist.generation(netlink)

    def note_generation(self, looked_at: int) -> None:
        """Take the ruleset for intact if it is of this generation still."""
        if self.generation() == looked_at:
            self._generation = looked_at

    def _commit(self, netlink: NetlinkSocket, messages: Sequence[Message], what: str) -> None:
        before = nftlist.generation(netlink)
        try:
            nft.commit(netlink, messages)
        except OSError as error:  # not only the kernel's answers: also that it took no message
            raise self._failed(what, error) from error
        # Someone else's change in between, or before, is not to be taken for ours.
        if before == self._generation and nftlist.generation(netlink) == before + 1:
            self._generation = before + 1

    def _failed(self, what: str, error: OSError) -> DriverError:
        return DriverError(
            f"bridge: could not {what}: {error.strerror}",
            hint=f"look at `nft list ruleset`, its tables {self._table}, and run `pannier doctor`",
        )

    def _changes(self, ports: Iterable[Published], *, add: bool) -> list[Message]:
        by_map: dict[tuple[int, str], list[nft.Element]] = {}
        for port in ports:
            for name, element in elements_of(port):
                by_map.setdefault((family_of(port).number, name), []).append(element)
        change = nft.add_elements if add else nft.delete_elements
        return [
            message
            for (family, name), found in by_map.items()
            for message in change(family, self._table, name, found)
        ]

    def _published(self, netlink: NetlinkSocket) -> set[Published]:
        return {
            port_of(family, name, element)
            for family in FAMILIES
            if self._is_there(netlink, family)
            for name in PORT_MAPS
            for element in nftlist.elements(netlink, family.number, self._table, name)
        }

    def _chains_of_others(
        self, netlink: NetlinkSocket, family: Family, networks: Sequence[BridgeNetwork]
    ) -> list[Message]:
        """Delete the chains of networks that are no more."""
        if not self._is_there(netlink, family):
            return []
        wanted = {chain for network in networks for chain in network_rules(network, family.version)}
        found = [
            chain
            for chain in nftlist.plain_chains(netlink, family.number, self._table)
            if chain not in wanted
        ]
        return [
            message
            for chain in found
            for message in (
                nft.flush_chain(family.number, self._table, chain),
                nft.delete_chain(family.number, self._table, chain),
            )
        ]


def _names(ports: Sequence[Published]) -> str:
    return ", ".join(f"{place(port.host_ip, port.host_port)}/{port.protocol}" for port in ports)
