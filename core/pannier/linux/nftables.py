"""nf_tables over netlink: tables, chains, rules, sets and maps (linux/netfilter/nf_tables.h).

Builders of messages; a rule's expressions are built in :mod:`pannier.linux.nftexpr`, and what is
there is read by :mod:`pannier.linux.nftlist`. A change is a transaction: :func:`commit` applies all
of its messages or none. Whatever is added here is left as it is where it exists already and is the
same, so that a set-up can be repeated.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.linux.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    Message,
    attribute,
    be32,
    nested,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pannier.linux.netlink import NetlinkSocket

__all__ = [
    "ACCEPT",
    "DROP",
    "GOTO",
    "JUMP",
    "BaseChain",
    "Chain",
    "Element",
    "Verdict",
    "add_chain",
    "add_elements",
    "add_map",
    "add_rule",
    "add_table",
    "commit",
    "delete_chain",
    "delete_elements",
    "delete_rule",
    "delete_table",
    "flush_chain",
    "flush_map",
    "message",
]

IPV4: Final = 2
"""The family ``ip``; ``inet`` is 1, and ``ip6`` 10."""
INET: Final = 1
IPV6: Final = 10

DROP: Final = 0
ACCEPT: Final = 1
RETURN: Final = -5
JUMP: Final = -3
GOTO: Final = -4

PREROUTING: Final = 0
INPUT: Final = 1
FORWARD: Final = 2
OUTPUT: Final = 3
POSTROUTING: Final = 4

_SUBSYSTEM: Final = 10
_BATCH_BEGIN: Final = 0x10
_BATCH_END: Final = 0x11

_NEWTABLE, _DELTABLE = 0, 2
_NEWCHAIN, _DELCHAIN = 3, 5
_NEWRULE, _DELRULE = 6, 8
_NEWSET = 9
_NEWSETELEM, _DELSETELEM = 12, 14

_SET_INTERVAL: Final = 0x04
_SET_MAP: Final = 0x08
_ELEMENT_INTERVAL_END: Final = 1
_VERDICT_TYPE: Final = 0xFFFFFF00

_TYPE_BITS: Final = 6
TYPE_IPV4: Final = 7
TYPE_IPV6: Final = 8
TYPE_PROTOCOL: Final = 12
TYPE_SERVICE: Final = 13
TYPE_IFNAME: Final = 41
_TYPE_LENGTH: Final = {
    TYPE_IPV4: 4,
    TYPE_IPV6: 16,
    TYPE_PROTOCOL: 4,
    TYPE_SERVICE: 4,
    TYPE_IFNAME: 16,
}

_CHUNK: Final = 512

Chain = str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a packet: ACCEPT, DROP, RETURN, or JUMP or GOTO a chain."""

    code: int
    chain: Chain = ""

    def encode(self, kind: int) -> bytes:
        """Encode it as nf_tables data."""
        code = be32(1, self.code & 0xFFFFFFFF)
        return nested(kind, nested(2, code, *([text(2, self.chain)] if self.chain else [])))


@dataclass(frozen=True, slots=True)
class BaseChain:
    """Where a base chain hangs: ``filter`` or ``nat``; a smaller priority comes earlier."""

    kind: str
    hook: int
    priority: int
    policy: int = ACCEPT


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a map: *key* and *value* as the registers hold them.

    :param end: the key behind the last one of an interval; None for a single key.
    """

    key: bytes
    value: bytes | Verdict
    end: bytes | None = None


def message(kind: int, family: int, payload: bytes, flags: int = 0) -> Message:
    """Return a message of nf_tables: its header and attributes."""
    return Message(_SUBSYSTEM << 8 | kind, struct.pack("=BBH", family, 0, 0) + payload, flags)


def commit(netlink: NetlinkSocket, messages: Iterable[Message]) -> None:
    """Apply the messages as one transaction.

    :raises NetlinkError: one was refused; nothing was changed.
    :raises OSError: together they are larger than can be sent (EMSGSIZE); nothing was changed.
    """
    frame = struct.pack("=BBH", 0, 0, socket.htons(_SUBSYSTEM))
    netlink.batch([Message(_BATCH_BEGIN, frame), *messages, Message(_BATCH_END, frame)])


# Tables, chains and rules.


def add_table(family: int, table: str) -> Message:
    """Add a table."""
    return message(_NEWTABLE, family, text(1, table), NLM_F_CREATE)


def delete_table(family: int, table: str) -> Message:
    """Delete a table with all that is in it; ENOENT where there is none."""
    return message(_DELTABLE, family, text(1, table))


def add_chain(family: int, table: str, chain: Chain, base: BaseChain | None = None) -> Message:
    """Add a chain. One that exists keeps its rules and gets the policy."""
    payload = text(1, table) + text(3, chain)
    if base is not None:
        payload += (
            nested(4, be32(1, base.hook), be32(2, base.priority & 0xFFFFFFFF))
            + be32(5, base.policy)
            + text(7, base.kind)
        )
    return message(_NEWCHAIN, family, payload, NLM_F_CREATE)


def delete_chain(family: int, table: str, chain: Chain) -> Message:
    """Delete an empty chain that nothing refers to; ENOENT where there is none."""
    return message(_DELCHAIN, family, text(1, table) + text(3, chain))


def flush_chain(family: int, table: str, chain: Chain) -> Message:
    """Delete all rules of a chain."""
    return message(_DELRULE, family, text(1, table) + text(2, chain))


def add_rule(
    family: int,
    table: str,
    chain: Chain,
    expressions: Sequence[bytes],
    *,
    comment: str = "",
    first: bool = False,
) -> Message:
    """Add a rule at the end of a chain, or as its first."""
    payload = text(1, table) + text(2, chain) + nested(4, *(nested(1, one) for one in expressions))
    if comment:
        said = comment.encode() + b"\0"
        payload += attribute(7, bytes((0, len(said))) + said)
    return message(_NEWRULE, family, payload, NLM_F_CREATE | (0 if first else NLM_F_APPEND))


def delete_rule(family: int, table: str, chain: Chain, handle: int) -> Message:
    """Delete the rule of that handle; ENOENT where there is none."""
    payload = text(1, table) + text(2, chain) + attribute(3, struct.pack(">Q", handle))
    return message(_DELRULE, family, payload)


# Sets and maps.


def _value(kind: int, data: bytes) -> bytes:
    return nested(kind, attribute(1, data))


def add_map(
    family: int,
    table: str,
    name: str,
    key: Sequence[int],
    value: Sequence[int] | None = None,
    *,
    interval: bool = False,
    plain: bool = False,
) -> Message:
    """Add a map.

    :param key: the types of the key's fields (TYPE_IPV4, …).
    :param value: the types of the value's fields; None for verdicts.
    :param interval: whether keys may be ranges.
    :param plain: a set: keys without values.
    """
    flags = (0 if plain else _SET_MAP) | (_SET_INTERVAL if interval else 0)
    host_order = key[0] == TYPE_IFNAME
    payload = (
        text(1, table)
        + text(2, name)
        + be32(3, flags)
        + be32(4, _concatenated(key))
        + be32(5, sum(_TYPE_LENGTH[kind] for kind in key))
        + be32(10, 1)
        # For whoever lists it: the key's byte order, as nft itself notes it.
        + attribute(13, bytes((0, 4)) + struct.pack("=I", 1 if host_order else 2))
    )
    if plain:
        pass
    elif value is None:
        payload += be32(6, _VERDICT_TYPE) + be32(7, 0)
    else:
        payload += be32(6, _concatenated(value))
        payload += be32(7, sum(_TYPE_LENGTH[kind] for kind in value))
    return message(_NEWSET, family, payload, NLM_F_CREATE)


def _concatenated(kinds: Sequence[int]) -> int:
    number = 0
    for kind in kinds:
        number = number << _TYPE_BITS | kind
    return number


def _elements(table: str, name: str, found: Sequence[Element], *, values: bool) -> list[bytes]:
    payloads = []
    for start in range(0, len(found), _CHUNK):
        encoded = []
        for element in found[start : start + _CHUNK]:
            data = b""
            if values and isinstance(element.value, Verdict):
                data = element.value.encode(2)
            elif values and isinstance(element.value, bytes) and element.value:
                data = _value(2, element.value)
            encoded.append(nested(1, _value(1, element.key), data))
            if element.end is not None:
                encoded.append(nested(1, _value(1, element.end), be32(3, _ELEMENT_INTERVAL_END)))
        payloads.append(text(1, table) + text(2, name) + nested(3, *encoded))
    return payloads


def add_elements(family: int, table: str, name: str, found: Sequence[Element]) -> list[Message]:
    """Add elements; EEXIST where a key is there with another value."""
    return [
        message(_NEWSETELEM, family, payload, NLM_F_CREATE)
        for payload in _elements(table, name, found, values=True)
    ]


def delete_elements(family: int, table: str, name: str, found: Sequence[Element]) -> list[Message]:
    """Delete elements by their keys; ENOENT where one is not there."""
    return [
        message(_DELSETELEM, family, payload)
        for payload in _elements(table, name, found, values=False)
    ]


def flush_map(family: int, table: str, name: str) -> Message:
    """Delete all elements."""
    return message(_DELSETELEM, family, text(1, table) + text(2, name))
