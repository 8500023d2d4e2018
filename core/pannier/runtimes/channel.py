"""Messages with descriptors over a stream socket: how driver, zygote, shim and init talk.

A message is ``(length, number of descriptors)`` as two little-endian 32-bit words, then the value
in marshal's version 2 (plain values only, the same in every Python), with the descriptors attached
to the first byte; where there are more than one call can carry, each further batch comes with one
byte of its own between header and value. Both ends are ours: the sockets are private pairs, or lie
in folders of mode 0700.
"""

from __future__ import annotations

import _socket
import marshal
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["receive", "receive_descriptors", "send"]

_HEADER = struct.Struct("<II")
_BATCH = 200  # the kernel's SCM_MAX_FD is 253
_FORMAT = 2


def _rights(descriptors: Sequence[int]) -> list[tuple[int, int, bytes]]:
    if not descriptors:
        return []
    return [
        (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))
    ]


def send(connection: _socket.socket, value: Any, descriptors: Sequence[int] = ()) -> None:
    """Send one message; blocks until the kernel has taken all of it."""
    body = marshal.dumps(value, _FORMAT)
    header = _HEADER.pack(len(body), len(descriptors))
    if len(descriptors) <= _BATCH:
        parts = header + body
        sent = connection.sendmsg([parts], _rights(descriptors), _socket.MSG_NOSIGNAL)
        if sent < len(parts):
            connection.sendall(memoryview(parts)[sent:], _socket.MSG_NOSIGNAL)
        return
    connection.sendmsg([header], _rights(descriptors[:_BATCH]), _socket.MSG_NOSIGNAL)
    for start in range(_BATCH, len(descriptors), _BATCH):
        batch = descriptors[start : start + _BATCH]
        connection.sendmsg([b"\0"], _rights(batch), _socket.MSG_NOSIGNAL)
    connection.sendall(body, _socket.MSG_NOSIGNAL)


def receive_descriptors(connection: _socket.socket, length: int) -> tuple[bytes, list[int]]:
    """Receive up to *length* bytes, and the descriptors that came with them."""
    room = _socket.CMSG_SPACE(_BATCH * 4)
    data, ancillary, _, _ = connection.recvmsg(length, room, _socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            descriptors += struct.unpack_from(f"{len(payload) // 4}i", payload)
    return data, descriptors


def receive(connection: _socket.socket) -> tuple[Any, list[int]] | None:
    """Receive one of :mod:`.messages` and its descriptors, which are the caller's to close.

    Return None where the other end has gone.
    """
    descriptors: list[int] = []
    try:
        message = _receive(connection, descriptors)
    except ConnectionResetError:
        message = None
    if message is None:
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    return message, descriptors


def _receive(connection: _socket.socket, descriptors: list[int]) -> Any:
    header = b""
    while len(header) < _HEADER.size:
        data, more = receive_descriptors(connection, _HEADER.size - len(header))
        descriptors += more
        if not data:
            return None
        header += data
    length, count = _HEADER.unpack(header)
    while len(descriptors) < count:
        data, more = receive_descriptors(connection, 1)
        descriptors += more
        if not data:
            return None
    body = bytearray(length)
    view = memoryview(body)
    while view:
        got = connection.recv_into(view)
        if not got:
            return None
        view = view[got:]
    return marshal.loads(body)  # noqa: S302 - only our own processes write here
