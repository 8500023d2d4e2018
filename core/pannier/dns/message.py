"""DNS messages: as much of RFC 1035 and RFC 6891 as a server needs that knows few names.

A query is taken apart, an answer is put together. What is forwarded is passed on as it came, so
no other record is ever read: a library for all of DNS would cost each start of the daemon more
than these few structures.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AAAA",
    "ANY",
    "FORMAT_ERROR",
    "NAME_ERROR",
    "NOT_IMPLEMENTED",
    "NO_ERROR",
    "PTR",
    "REFUSED",
    "SERVER_FAILURE",
    "A",
    "BadQuery",
    "Query",
    "Record",
    "answer",
    "code_of",
    "echoes",
    "failure",
    "is_truncated",
    "parse_query",
]

A: Final = 1
PTR: Final = 12
AAAA: Final = 28
ANY: Final = 255
_OPT: Final = 41
_INTERNET: Final = 1

NO_ERROR: Final = 0
FORMAT_ERROR: Final = 1
SERVER_FAILURE: Final = 2
NAME_ERROR: Final = 3
NOT_IMPLEMENTED: Final = 4
REFUSED: Final = 5

_RESPONSE: Final = 0x8000
_OPCODE: Final = 0x7800
_AUTHORITATIVE: Final = 0x0400
_TRUNCATED: Final = 0x0200
_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_CHECKING_DISABLED: Final = 0x0010

_HEADER: Final = struct.Struct(">HHHHHH")
_RECORD: Final = struct.Struct(">HHIH")
_FIELDS: Final = struct.Struct(">HH")
_QUESTION_POINTER: Final = b"\xc0\x0c"
"""A compressed name: the one at offset 12, where the question is."""

_LONGEST_LABEL: Final = 63
_LONGEST_NAME: Final = 255
_PLAIN_SIZE: Final = 512
"""Bytes that a client without EDNS takes over UDP."""
_OWN_SIZE: Final = 1232
"""Bytes that we say we take over UDP: what fits everywhere without fragments."""


class BadQuery(Exception):
    """What came is no query that can be answered.

    :param code: the response code that says so; None where no answer must be given at all.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Query:
    """A query.

    :param name: in lower case, without the last dot; what is not ASCII is escaped.
    :param question: the question as it came, to be repeated.
    :param size: bytes that the client takes over UDP.
    :param extended: whether it speaks EDNS.
    """

    id: int
    flags: int
    name: str
    type: int
    question: bytes
    size: int = _PLAIN_SIZE
    extended: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """An answer about the name that was asked: an address's bytes, or a name."""

    type: int
    data: bytes
    ttl: int

    @classmethod
    def address(cls, text: str, ttl: int) -> Record:
        """Return an A or AAAA record."""
        if ":" in text:
            return cls(AAAA, socket.inet_pton(socket.AF_INET6, text), ttl)
        return cls(A, socket.inet_pton(socket.AF_INET, text), ttl)

    @classmethod
    def pointer(cls, name: str, ttl: int) -> Record:
        """Return a PTR record."""
        return cls(PTR, _encode(name), ttl)


def parse_query(data: bytes) -> Query:
    """Read a query.

    :raises BadQuery: it is none, or not one of the kind that is served.
    """
    if len(data) < _HEADER.size:
        raise BadQuery(None)
    id, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        raise BadQuery(None)  # answering an answer could go on for ever
    if flags & _OPCODE:
        raise BadQuery(NOT_IMPLEMENTED)
    if questions != 1:
        raise BadQuery(FORMAT_ERROR)
    name, end = _question_name(data)
    if end + _FIELDS.size > len(data):
        raise BadQuery(FORMAT_ERROR)
    type, kind = _FIELDS.unpack_from(data, end)
    if kind not in (_INTERNET, ANY):
        raise BadQuery(REFUSED)
    end += _FIELDS.size
    size = _advertised(data, end, answers + authorities + additional)
    return Query(
        id,
        flags,
        name,
        type,
        data[_HEADER.size : end],
        max(_PLAIN_SIZE, size or 0),
        extended=size is not None,
    )


def _question_name(data: bytes) -> tuple[str, int]:
    """Return the name at offset 12 and where it ends. The first name of all has no pointers."""
    offset = _HEADER.size
    labels: list[str] = []
    while offset < len(data):
        length = data[offset]
        offset += 1
        if length == 0:
            if offset - _HEADER.size > _LONGEST_NAME:
                break
            return ".".join(labels).lower(), offset
        if length > _LONGEST_LABEL or offset + length > len(data):
            break
        label = data[offset : offset + length]
        # A dot within a label is no end of it; names of containers have none of these.
        labels.append(label.replace(b".", b"\\.").decode("ascii", "backslashreplace"))
        offset += length
    raise BadQuery(FORMAT_ERROR)


def _advertised(data: bytes, offset: int, count: int) -> int | None:
    """Return the UDP size of the query's EDNS record; None where it has none."""
    for _ in range(count):
        while offset < len(data) and 0 < data[offset] <= _LONGEST_LABEL:
            offset += data[offset] + 1
        if offset >= len(data):
            return None
        # Zero ends a name, and so does a pointer, which takes two bytes; it need not be followed.
        offset += 1 if data[offset] == 0 else 2
        if offset + _RECORD.size > len(data):
            return None
        type, size, _, length = _RECORD.unpack_from(data, offset)
        if type == _OPT:
            return int(size)
        offset += _RECORD.size + length
    return None


def answer(
    query: Query, records: Sequence[Record], *, code: int = NO_ERROR, limit: int | None = None
) -> bytes:
    """Return the answer to a query.

    :param limit: bytes that it may have, over UDP; what does not fit is left out, and it says so.
    """
    flags = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE | code
    flags |= query.flags & (_RECURSION_DESIRED | _CHECKING_DISABLED)
    options = b"\0" + _RECORD.pack(_OPT, _OWN_SIZE, 0, 0) if query.extended else b""
    size = _HEADER.size + len(query.question) + len(options)
    encoded = []
    for record in records:
        one = _QUESTION_POINTER + _RECORD.pack(record.type, _INTERNET, record.ttl, len(record.data))
        one += record.data
        size += len(one)
        if limit is not None and size > limit:
            flags |= _TRUNCATED
            break
        encoded.append(one)
    header = _HEADER.pack(query.id, flags, 1, len(encoded), 0, int(query.extended))
    return b"".join((header, query.question, *encoded, options))


def failure(data: bytes, code: int) -> bytes:
    """Return an answer to what may be no proper query: the header alone, with a response code."""
    id, flags = _FIELDS.unpack_from(data)
    flags = _RESPONSE | _RECURSION_AVAILABLE | code | (flags & (_OPCODE | _RECURSION_DESIRED))
    return _HEADER.pack(id, flags, 0, 0, 0, 0)


def echoes(query: Query, id: int, response: bytes) -> bool:
    """Whether a response of another server's belongs to a query that was sent to it as *id*."""
    if len(response) < _HEADER.size:
        return False
    found, flags, questions, *_ = _HEADER.unpack_from(response)
    if found != id or not flags & _RESPONSE:
        return False
    if questions == 0:
        return bool(flags & 0xF)  # some servers answer an error without the question
    start, end = _HEADER.size, _HEADER.size + len(query.question)
    return response[start:end].lower() == query.question.lower()


def code_of(response: bytes) -> int:
    """Return the response code of a response that :func:`echoes` a query."""
    return response[3] & 0xF


def is_truncated(response: bytes) -> bool:
    """Whether a response says that it is not whole."""
    return bool(response[2] & (_TRUNCATED >> 8))


def _encode(name: str) -> bytes:
    encoded = bytearray()
    for label in name.split("."):
        raw = label.encode("utf-8", "replace")[:_LONGEST_LABEL]
        if raw:
            encoded += bytes((len(raw),)) + raw
    return bytes(encoded[: _LONGEST_NAME - 1]) + b"\0"
