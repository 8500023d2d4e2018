"""The firewall for IPv6: forwarding and masquerading as for IPv4, in a table of its own.

No port is published on IPv6, so there is nothing here that changes with containers.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from pannier.errors import DriverError
from pannier.linux import nftables as nft
from pannier.linux import nftexpr as expr
from pannier.linux import nftlist
from pannier.linux.netlink import NETFILTER, NetlinkError, NetlinkSocket, is_errno
from pannier_net_bridge.nft import network_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.linux.netlink import Message
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = ["Nft6Firewall"]

_BRIDGES: Final = "bridges"
_INTO: Final = "into"
_FROM: Final = "from"
_SOURCES: Final = "sources"
_SOURCE_NAT: Final = 100


class Nft6Firewall:
    """The rules of the networks that have IPv6; those of :class:`NftFirewall` but for ports.

    :param table: the name of the table, in the family ``ip6``.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._lock = threading.Lock()
        self._socket: NetlinkSocket | None = None

    def close(self) -> None:
        """Close the socket; the rules stay."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _open(self) -> NetlinkSocket:
        # Kept open for the reason that NftFirewall gives.
        if self._socket is None:
            self._socket = NetlinkSocket(NETFILTER)
        return self._socket

    def set_up(self, networks: Sequence[BridgeNetwork], *, closed: bool) -> None:
        """Make the rules those of these networks, as one change.

        The table is made anew: as nothing in it changes with containers, that is seldom.

        :param closed: whether nothing but what is ours may be forwarded.
        :raises DriverError: the kernel refused.
        """
        table = self._table
        messages = [
            nft.add_table(nft.IPV6, table),
            nft.delete_table(nft.IPV6, table),
            *self._base(closed=closed),
            *self._networks(networks),
        ]
        with self._lock:
            try:
                nft.commit(self._open(), messages)
            except NetlinkError as error:
                raise DriverError(
                    f"bridge: could not set up the bridges' IPv6 rules: {error.strerror}",
                    hint=f"look at `nft list table ip6 {table}`, or leave --ipv6 out",
                ) from error

    def tear_down(self) -> None:
        """Remove everything. Idempotent."""
        with self._lock:
            try:
                nft.commit(self._open(), [nft.delete_table(nft.IPV6, self._table)])
            except NetlinkError as error:
                if not is_errno(error, "ENOENT", "EAFNOSUPPORT", "EOPNOTSUPP"):
                    raise DriverError(
                        f"bridge: could not remove the bridges' IPv6 rules: {error.strerror}",
                        hint=f"try `nft delete table ip6 {self._table}`",
                    ) from error

    def present(self) -> bool:
        """Whether the table is there."""
        with self._lock:
            return nftlist.has_table(self._open(), nft.IPV6, self._table)

    def _base(self, *, closed: bool) -> list[Message]:
        family, table = nft.IPV6, self._table
        link = (nft.TYPE_IFNAME,)
        policy = nft.DROP if closed else nft.ACCEPT
        forward = nft.BaseChain("filter", nft.FORWARD, 0, policy)
        after = nft.BaseChain("nat", nft.POSTROUTING, _SOURCE_NAT)
        rules = [
            ("postrouting", [expr.address6(source=True), expr.lookup(_SOURCES)]),
            # Neighbours are found by ICMPv6 within a link; none of it is forwarded.
            ("forward", [expr.meta(expr.META_IIFNAME), expr.lookup(_FROM)]),
            ("forward", [expr.meta(expr.META_OIFNAME), expr.lookup(_INTO)]),
            (
                "forward",
                [expr.meta(expr.META_IIFNAME), expr.in_set(_BRIDGES), expr.verdict(nft.ACCEPT)],
            ),
        ]
        return [
            nft.add_table(family, table),
            nft.add_map(family, table, _BRIDGES, link, plain=True),
            nft.add_map(family, table, _INTO, link),
            nft.add_map(family, table, _FROM, link),
            nft.add_map(family, table, _SOURCES, (nft.TYPE_IPV6,), interval=True),
            nft.add_chain(family, table, "forward", forward),
            nft.add_chain(family, table, "postrouting", after),
            *(nft.add_rule(family, table, chain, rule) for chain, rule in rules),
        ]

    def _networks(self, networks: Sequence[BridgeNetwork]) -> list[Message]:
        family, table = nft.IPV6, self._table
        messages: list[Message] = []
        found: dict[str, list[nft.Element]] = {
            name: [] for name in (_BRIDGES, _INTO, _FROM, _SOURCES)
        }
        for network in networks:
            assert network.six is not None
            bridge = network.bridge
            for chain, rules in network_rules(network).items():
                messages.append(nft.add_chain(family, table, chain))
                messages += [nft.add_rule(family, table, chain, rule) for rule in rules]
            link = bridge.encode().ljust(16, b"\0")
            found[_BRIDGES].append(nft.Element(link, b""))
            found[_INTO].append(nft.Element(link, nft.Verdict(nft.GOTO, f"into_{bridge}")))
            found[_FROM].append(nft.Element(link, nft.Verdict(nft.JUMP, f"from_{bridge}")))
            subnet = network.six.subnet
            goto = nft.Verdict(nft.GOTO, f"nat_{bridge}")
            behind = (subnet.broadcast_address + 1).packed
            found[_SOURCES].append(nft.Element(subnet.network_address.packed, goto, behind))
        for name, elements in found.items():
            messages += nft.add_elements(family, table, name, elements)
        return messages
