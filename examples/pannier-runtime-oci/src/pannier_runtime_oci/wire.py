"""Messages with descriptors over a stream socket, between the driver and its monitors.

A message is two 32-bit words (length, number of descriptors), the descriptors in batches, each with
one byte, and the value as JSON, in which bytes are an object of one key. Both ends are ours: the
sockets are private pairs, or lie in folders of mode 0700.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["receive", "send"]

_HEADER = struct.Struct("<II")
_BATCH = 200  # the kernel's SCM_MAX_FD is 253
_BYTES = "base64"


def send(connection: socket.socket, value: object, descriptors: Sequence[int] = ()) -> None:
    """Send one message; blocks until the kernel has taken all of it.

    :raises OSError: the other end has gone, or the socket's timeout has passed.
    """
    body = json.dumps(value, default=_encode).encode()
    connection.sendall(_HEADER.pack(len(body), len(descriptors)))
    for start in range(0, len(descriptors), _BATCH):
        socket.send_fds(connection, [b"\0"], list(descriptors[start : start + _BATCH]))
    connection.sendall(body)


def receive(connection: socket.socket) -> tuple[Any, list[int]] | None:
    """Receive a message and its descriptors, the caller's to close; None where the end has come.

    :raises OSError: the socket's timeout has passed.
    """
    descriptors: list[int] = []
    try:
        length, count = _HEADER.unpack(_exactly(connection, _HEADER.size))
        while len(descriptors) < count:
            mark, more, _, _ = socket.recv_fds(connection, 1, _BATCH, socket.MSG_CMSG_CLOEXEC)
            descriptors += more
            if not mark:
                break
        return json.loads(_exactly(connection, length), object_hook=_decode), descriptors
    except BaseException as error:
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(error, EOFError | ConnectionResetError):
            return None
        raise


def _encode(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {_BYTES: b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} is not part of a message")


def _decode(found: dict[str, Any]) -> Any:
    # No key of a message is its sender's choice: specifications are sent as text.
    return b64decode(found[_BYTES]) if _BYTES in found else found


def _exactly(connection: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = connection.recv(length - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
