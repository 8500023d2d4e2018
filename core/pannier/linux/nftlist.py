"""What nf_tables has: base chains, rules, elements (linux/netfilter/nf_tables.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.linux.netlink import NLM_F_DUMP, NetlinkError, attributes, is_errno, parse, text
from pannier.linux.nftables import Chain, Element, message

if TYPE_CHECKING:
    from pannier.linux.netlink import Message, NetlinkSocket

__all__ = [
    "CHANGES_GROUP",
    "FoundChain",
    "Rule",
    "chains",
    "elements",
    "generation",
    "has_table",
    "plain_chains",
    "rules",
    "verdict_code",
]

CHANGES_GROUP: Final = 7
"""The netlink group in which every change of the rules is announced."""

_GETTABLE: Final = 1
_GETCHAIN: Final = 4
_GETRULE: Final = 7
_GETSETELEM: Final = 13
_GETGEN: Final = 16


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that is there."""

    chain: Chain
    handle: int
    comment: str
    expressions: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class FoundChain:
    """A base chain that is there."""

    family: int
    table: str
    name: Chain
    hook: int
    policy: int
    kind: str


def generation(netlink: NetlinkSocket) -> int:
    """Return the ruleset's generation: every transaction of anyone's increments it."""
    answers = netlink.query(message(_GETGEN, 0, b""))
    return int.from_bytes(parse(answers[0][4:])[1], "big")


def elements(netlink: NetlinkSocket, family: int, table: str, name: str) -> list[Element]:
    """Return the elements of a map that maps to data; none where there is no such map."""
    payload = text(1, table) + text(2, name)
    found = []
    for answer in _dump(netlink, message(_GETSETELEM, family, payload, NLM_F_DUMP)):
        for _, encoded in attributes(parse(answer[4:]).get(3, b"")):
            element = parse(encoded)
            key = parse(element.get(1, b"")).get(1, b"")
            value = parse(element.get(2, b"")).get(1, b"")
            found.append(Element(key, value))
    return found


def _dump(netlink: NetlinkSocket, request: Message) -> list[bytes]:
    """Return the answers to a dump; none where there is nothing of that name."""
    try:
        return netlink.query(request)
    except NetlinkError as error:
        if is_errno(error, "ENOENT"):
            return []
        raise


def has_table(netlink: NetlinkSocket, family: int, table: str) -> bool:
    """Whether the table is there."""
    try:
        netlink.query(message(_GETTABLE, family, text(1, table)))
    except NetlinkError as error:
        if is_errno(error, "ENOENT"):
            return False
        raise
    return True


def chains(netlink: NetlinkSocket, family: int) -> list[FoundChain]:
    """Return the base chains of a family."""
    found = []
    for answer in netlink.query(message(_GETCHAIN, family, b"", NLM_F_DUMP)):
        given = parse(answer[4:])
        if 4 not in given or answer[0] != family:
            continue
        hook = parse(given[4])
        found.append(
            FoundChain(
                family=family,
                table=_name(given[1]),
                name=_name(given[3]),
                hook=int.from_bytes(hook[1], "big"),
                policy=int.from_bytes(given.get(5, b"\1"), "big"),
                kind=_name(given.get(7, b"")),
            )
        )
    return found


def plain_chains(netlink: NetlinkSocket, family: int, table: str) -> list[Chain]:
    """Return the chains of a table that are not base chains."""
    found = []
    for answer in netlink.query(message(_GETCHAIN, family, b"", NLM_F_DUMP)):
        given = parse(answer[4:])
        if answer[0] == family and _name(given[1]) == table and 4 not in given:
            found.append(_name(given[3]))
    return found


def rules(netlink: NetlinkSocket, family: int, table: str, chain: Chain) -> list[Rule]:
    """Return the rules of a chain, in order; none where there is no such chain."""
    payload = text(1, table) + text(2, chain)
    found = []
    for answer in _dump(netlink, message(_GETRULE, family, payload, NLM_F_DUMP)):
        given = parse(answer[4:])
        if _name(given.get(2, b"")) != chain:
            continue
        expressions = []
        for _, encoded in attributes(given.get(4, b"")):
            expression = parse(encoded)
            expressions.append((_name(expression[1]), expression.get(2, b"")))
        found.append(
            Rule(
                chain,
                int.from_bytes(given[3], "big"),
                _comment(given.get(7, b"")),
                tuple(expressions),
            )
        )
    return found


def verdict_code(immediate: bytes) -> int | None:
    """Return the verdict of an ``immediate`` expression's data; None where it has none."""
    code = parse(parse(parse(immediate).get(2, b"")).get(2, b"")).get(1)
    return None if code is None else int.from_bytes(code, "big", signed=True)


def _name(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="surrogateescape")


def _comment(data: bytes) -> str:
    """Return the comment of a rule's user data: (type 0, length, text) among others."""
    offset = 0
    while offset + 2 <= len(data):
        kind, length = data[offset], data[offset + 1]
        if kind == 0:
            return _name(data[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return ""
