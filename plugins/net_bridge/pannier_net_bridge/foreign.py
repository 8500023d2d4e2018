"""Beside other firewalls: an accept for our bridges in chains that drop what is forwarded.

Every base chain of the forward hook sees every packet, and one that drops it has the last word,
whatever our own table accepts. Docker and ufw set iptables' FORWARD to DROP; firewalld rejects at
the end of its chain. So each of our bridges gets two rules at the head of such a chain, marked by a
comment. What may pass into a bridge is still decided by our own table.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.linux import nftables as nft
from pannier.linux import nftexpr as expr
from pannier.linux import nftlist
from pannier.linux.netlink import NETFILTER, NetlinkError, NetlinkSocket
from pannier_net_bridge.firewall import COMMENT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

__all__ = [
    "accept_in_foreign_chains",
    "closed_chains",
    "forget_in_foreign_chains",
    "shut_chains",
]

_log = logging.getLogger("pannier.network.bridge")

_LEGACY_TABLES: Final = Path("/proc/thread-self/net/ip_tables_names")
_LEGACY: Final = "iptables-legacy"
_UNCONDITIONAL: Final = frozenset({"counter", "log", "limit", "reject", "immediate"})
_TIMEOUT: Final = 10
_DIRECTIONS: Final = 2


def accept_in_foreign_chains(
    table: str, bridges: Sequence[str], bridges6: Sequence[str] = ()
) -> list[str]:
    """Let each closed chain accept what these bridges forward. Idempotent.

    :param table: our own tables' name.
    :param bridges6: those of them that forward IPv6.
    :returns: what still stands in the way, for a reader; empty where nothing does.
    """
    obstacles = []
    with NetlinkSocket(NETFILTER) as netlink:
        for chain in closed_chains(netlink, table):
            try:
                _accept(netlink, chain, bridges6 if chain.family == nft.IPV6 else bridges)
            except NetlinkError as error:
                obstacles.append(
                    f"the chain {chain.name} of the table {chain.table} drops forwarded packets, "
                    f"and takes no rule of ours ({error.strerror})"
                )
    obstacles += _accept_in_legacy(bridges)
    for obstacle in obstacles:
        _log.warning("%s", obstacle)
    return obstacles


def forget_in_foreign_chains(table: str, bridges: Iterable[str]) -> None:
    """Take the rules of these bridges out of all chains that are not ours. Idempotent.

    Those that cannot be taken out accept nothing any more, as their bridge has gone.
    """
    marks = {_mark(bridge) for bridge in bridges}
    with NetlinkSocket(NETFILTER) as netlink:
        for chain in _foreign_chains(netlink, table):
            for rule in nftlist.rules(netlink, chain.family, chain.table, chain.name):
                if rule.comment in marks:
                    delete = nft.delete_rule(chain.family, chain.table, chain.name, rule.handle)
                    with contextlib.suppress(NetlinkError):
                        nft.commit(netlink, [delete])
    try:
        _forget_in_legacy(marks)
    except (subprocess.SubprocessError, OSError) as error:
        _log.warning("could not take our rules out of iptables-legacy: %s", error)


def shut_chains(
    table: str, bridges: Sequence[str], bridges6: Sequence[str] = ()
) -> list[nftlist.FoundChain]:
    """Return the closed chains that lack our accept for one of these bridges."""
    with NetlinkSocket(NETFILTER) as netlink:
        return [
            chain
            for chain in closed_chains(netlink, table)
            if _missing(netlink, chain, bridges6 if chain.family == nft.IPV6 else bridges)
        ]


def closed_chains(netlink: NetlinkSocket, table: str) -> list[nftlist.FoundChain]:
    """Return the base chains of others that drop what no rule of theirs accepts."""
    return [
        chain
        for chain in _foreign_chains(netlink, table)
        if chain.policy == nft.DROP or _ends_closed(netlink, chain)
    ]


def _foreign_chains(netlink: NetlinkSocket, table: str) -> list[nftlist.FoundChain]:
    try:
        found = [
            chain
            for family in (nft.IPV4, nft.IPV6, nft.INET)
            for chain in nftlist.chains(netlink, family)
        ]
    except NetlinkError:
        # A kernel without nf_tables, with the iptables backend, has no such chains.
        return []
    return [
        chain
        for chain in found
        if chain.hook == nft.FORWARD
        and chain.kind == "filter"
        and (chain.family == nft.INET or chain.table != table)
    ]


def _ends_closed(netlink: NetlinkSocket, chain: nftlist.FoundChain) -> bool:
    """Whether the chain's last rule drops or rejects whatever reaches it."""
    rules = nftlist.rules(netlink, chain.family, chain.table, chain.name)
    if not rules:
        return False
    names = [name for name, _ in rules[-1].expressions]
    if not names or not set(names) <= _UNCONDITIONAL:
        return False
    name, data = rules[-1].expressions[-1]
    return name == "reject" or (name == "immediate" and nftlist.verdict_code(data) == nft.DROP)


def _mark(bridge: str) -> str:
    return f"{COMMENT}:{bridge}"


def _missing(
    netlink: NetlinkSocket, chain: nftlist.FoundChain, bridges: Sequence[str]
) -> list[str]:
    """Return the bridges that the chain does not accept in both directions."""
    rules = nftlist.rules(netlink, chain.family, chain.table, chain.name)
    there = [rule.comment for rule in rules]
    return [bridge for bridge in bridges if there.count(_mark(bridge)) < _DIRECTIONS]


def _accept(netlink: NetlinkSocket, chain: nftlist.FoundChain, bridges: Sequence[str]) -> None:
    messages = [
        nft.add_rule(
            chain.family,
            chain.table,
            chain.name,
            [*expr.interface(key, bridge), expr.counter(), expr.verdict(nft.ACCEPT)],
            comment=_mark(bridge),
            first=True,
        )
        for bridge in _missing(netlink, chain, bridges)
        for key in (expr.META_IIFNAME, expr.META_OIFNAME)
    ]
    if messages:
        nft.commit(netlink, messages)


# The old iptables, which nf_tables does not show.


def _legacy_filter() -> bool:
    try:
        return "filter" in _LEGACY_TABLES.read_text().split()
    except OSError:
        return False


def _legacy(*arguments: str) -> str:
    command = [_LEGACY, "-w", *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=_TIMEOUT
    ).stdout


def _legacy_rules() -> list[str]:
    if shutil.which(_LEGACY) is None:
        return []
    return _legacy("-S", "FORWARD").splitlines()


def _forget_in_legacy(marks: Collection[str]) -> None:
    if not _legacy_filter():
        return
    for line in _legacy_rules():
        words = line.replace('"', "").split()
        if words[0] == "-A" and not set(words).isdisjoint(marks):
            _legacy("-D", *words[1:])


def _accept_in_legacy(bridges: Sequence[str]) -> list[str]:
    if not _legacy_filter():
        return []
    if shutil.which(_LEGACY) is None:
        obstacle = (
            "iptables' old filter table is in use and may drop forwarded packets, and there is no "
            f"{_LEGACY} here to look, and to add an accept for our bridges"
        )
        return [obstacle]
    try:
        rules = _legacy_rules()
        if rules[:1] != ["-P FORWARD DROP"]:
            return []
        for bridge in bridges:
            for direction in ("-i", "-o"):
                rule = (direction, bridge, "-m", "comment", "--comment", _mark(bridge))
                if not any(f"{direction} {bridge} " in line for line in rules):
                    _legacy("-I", "FORWARD", "1", *rule, "-j", "ACCEPT")
    except (subprocess.SubprocessError, OSError) as error:
        return [f"iptables-legacy drops forwarded packets, and takes no rule of ours ({error})"]
    return []
