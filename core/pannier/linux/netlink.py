"""Netlink: messages, attributes, batches and dumps, over plain sockets (netlink(7)).

Why an encoder of our own. Starting a container sends a handful of messages, and its user waits for
them. Importing pyroute2 takes about 180 ms and a call of its high-level interface about 1 ms, each
with its own round trip; here all the messages of a step go out in one ``sendmsg`` and take tens of
microseconds beside the kernel's own work. The formats are the kernel's UAPI: linux/netlink.h,
linux/rtnetlink.h, linux/if_link.h, linux/netfilter/nf_tables.h.

The kernel handles a request inside ``sendmsg``: when that returns, every answer is already in the
socket's queue. So no call here ever waits.

A socket belongs to the network namespace of the thread that made it, for ever, and must not be
shared between threads: make one for each piece of work (about 10 µs), and close it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

__all__ = [
    "NETFILTER",
    "NLM_F_APPEND",
    "NLM_F_CREATE",
    "NLM_F_DUMP",
    "NLM_F_EXCL",
    "NLM_F_REPLACE",
    "ROUTE",
    "Attributes",
    "Message",
    "NetlinkError",
    "NetlinkSocket",
    "attribute",
    "be16",
    "be32",
    "is_errno",
    "nested",
    "parse",
    "text",
    "u8",
    "u16",
    "u32",
]

ROUTE: Final = 0
NETFILTER: Final = 12

NLM_F_REQUEST: Final = 0x01
NLM_F_ACK: Final = 0x04
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800

_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_DUMP_INTR: Final = 0x10
_NLM_F_ACK_TLVS: Final = 0x200
_NLMSGERR_ATTR_MSG: Final = 1

_SO_SNDBUFFORCE: Final = 32
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11

_NLA_F_NESTED: Final = 0x8000
_NLA_TYPE_MASK: Final = 0x3FFF

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RECEIVE_SIZE: Final = 1 << 18
_DUMP_TRIES: Final = 16

Attributes = dict[int, bytes]
"""The attributes of a message, by type. A nested one is parsed by whoever knows it."""


class NetlinkError(OSError):
    """The kernel refused a message; *strerror* has its own words where it gave any."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its type, flags beside NLM_F_REQUEST, and all that follows the header."""

    kind: int
    payload: bytes
    flags: int = 0


def attribute(kind: int, value: bytes) -> bytes:
    """Encode an attribute, padded to four bytes."""
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def nested(kind: int, *values: bytes) -> bytes:
    """Encode an attribute that consists of attributes."""
    return attribute(kind | _NLA_F_NESTED, b"".join(values))


def text(kind: int, value: str) -> bytes:
    """Encode a string attribute, with its closing zero byte."""
    return attribute(kind, os.fsencode(value) + b"\0")


def u8(kind: int, value: int) -> bytes:
    """Encode an 8-bit attribute."""
    return attribute(kind, value.to_bytes(1, "little"))


def u16(kind: int, value: int) -> bytes:
    """Encode a 16-bit attribute in the host's byte order."""
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    """Encode a 32-bit attribute in the host's byte order."""
    return attribute(kind, struct.pack("=I", value))


def be16(kind: int, value: int) -> bytes:
    """Encode a 16-bit attribute in network byte order."""
    return attribute(kind, struct.pack(">H", value))


def be32(kind: int, value: int) -> bytes:
    """Encode a 32-bit attribute in network byte order (all of nf_tables' numbers)."""
    return attribute(kind, struct.pack(">I", value))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each attribute's type and value, in order; a list has the same type many times."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & _NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def parse(data: bytes) -> Attributes:
    """Return the attributes by type."""
    return dict(attributes(data))


class NetlinkSocket:
    """A netlink socket of the calling thread's network namespace.

    :param family: :data:`ROUTE` or :data:`NETFILTER`.
    :raises OSError: the kernel has no such family.
    """

    def __init__(self, family: int) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family
        )
        self._socket.setblocking(False)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def join(self, group: int) -> None:
        """Have the kernel's announcements of a group queued on this socket, for :meth:`drain`."""
        # Without an address of its own the kernel takes the socket for the announcement's sender.
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def drain(self) -> None:
        """Throw away everything that is queued, also where too much was."""
        while True:
            try:
                self._socket.recv(_RECEIVE_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def request(self, messages: Sequence[Message]) -> None:
        """Have the messages carried out, in order, with one system call.

        A message that fails does not keep the later ones from being tried.

        :raises NetlinkError: of the first message that failed.
        """
        if messages:
            self._raise_first(self._send(messages, NLM_F_ACK))

    def batch(self, messages: Sequence[Message]) -> None:
        """Send a transaction, whose messages carry their own flags; all of it holds or nothing.

        :raises NetlinkError: of the first message that failed.
        """
        # Without NLM_F_ACK a netfilter transaction answers only with its errors.
        self._raise_first(self._send(messages, 0))

    def query(self, message: Message) -> list[bytes]:
        """Return the payload of each answer to a message (a dump, where its flags ask for one).

        :raises NetlinkError: the kernel refused it.
        """
        for _ in range(_DUMP_TRIES):
            first = self._send([message], message.flags)
            answers: list[bytes] = []
            whole = True
            for kind, flags, sequence, payload in self._receive():
                if sequence != first:
                    continue
                whole = whole and not flags & _NLM_F_DUMP_INTR
                if kind == _NLMSG_ERROR:
                    error = _failure(flags, payload)
                    if error is not None:
                        raise error
                elif kind != _NLMSG_DONE:
                    answers.append(payload)
            # What is dumped changed meanwhile: the kernel asks to start again.
            if whole:
                return answers
        return answers

    def _send(self, messages: Sequence[Message], flags: int) -> int:
        first = self._sequence + 1
        packets = []
        for message in messages:
            self._sequence += 1
            packets.append(
                _HEADER.pack(
                    _HEADER.size + len(message.payload),
                    message.kind,
                    message.flags | flags | NLM_F_REQUEST,
                    self._sequence,
                    0,
                )
            )
            packets.append(message.payload + b"\0" * (-len(message.payload) % 4))
        self._transmit(b"".join(packets))
        return first

    def _transmit(self, data: bytes) -> None:
        """Send *data* whole; a transaction cannot be divided, however large it is."""
        try:
            self._socket.sendmsg([data], [], 0, (0, 0))
        except OSError as error:
            # The kernel looks at the size first: nothing of it was carried out.
            if error.errno != errno.EMSGSIZE:
                raise
            _enlarge(self._socket, len(data))
            self._socket.sendmsg([data], [], 0, (0, 0))

    def _raise_first(self, first: int) -> None:
        """Read what became of the messages from the number *first* on; raise the first failure."""
        failures = []
        for kind, flags, sequence, payload in self._receive():
            if kind == _NLMSG_ERROR and sequence >= first:
                error = _failure(flags, payload)
                if error is not None:
                    failures.append((sequence, error))
        if failures:
            raise min(failures, key=itemgetter(0))[1]

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield type, flags, sequence number and payload of all messages that are queued."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self._socket.recv(_RECEIVE_SIZE)
                offset = 0
                while offset + _HEADER.size <= len(data):
                    length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
                    yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
                    offset += (length + 3) & ~3


def _enlarge(netlink: socket.socket, size: int) -> None:
    """Give a socket a send buffer for *size* bytes, or as much of it as net.core.wmem_max allows.

    The kernel doubles the number (socket(7)), so that there is room for its own 32 bytes too.
    """
    try:
        netlink.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
    except OSError:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def _failure(flags: int, payload: bytes) -> NetlinkError | None:
    """Return the error that an NLMSG_ERROR carries; None for an acknowledgement."""
    number = -int.from_bytes(payload[:4], "little", signed=True)
    if number == 0:
        return None
    words = os.strerror(number)
    if flags & _NLM_F_ACK_TLVS:
        # With NETLINK_CAP_ACK only the header of the request is repeated.
        said = parse(payload[4 + _HEADER.size :]).get(_NLMSGERR_ATTR_MSG)
        if said:
            words = f"{words} ({said.rstrip(bytes(1)).decode(errors='replace')})"
    return NetlinkError(number, words)


def is_errno(error: OSError, *names: str) -> bool:
    """Whether an error is one of those named (``ENOENT``, …)."""
    return error.errno in {getattr(errno, name) for name in names}
