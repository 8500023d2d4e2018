"""Taking a client's connection over, for ``attach`` and ``exec``.

After the head of the answer the connection is no HTTP any more: its socket is handed to whoever
serves the process's streams, and this process has nothing to do with it. Where there is no plain
socket (TLS, websockets), one end of a socket pair is handed over, and the other is relayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import web

from pannier.errors import PannierError, StartFailed
from pannier.server.connection import ClientConnection
from pannier.server.errors import error_text, exec_error_text
from pannier.server.relay import relay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.abc import AbstractStreamWriter

    from pannier.server.call import Call

__all__ = ["MULTIPLEXED", "RAW", "HandOver", "Hijacked", "frame", "hijack"]

RAW: Final = "application/vnd.docker.raw-stream"
MULTIPLEXED: Final = "application/vnd.docker.multiplexed-stream"

HandOver: TypeAlias = "Callable[[int, bytes, Callable[[], None]], Awaitable[None]]"

_STDERR: Final = 2


class Hijacked(web.Response):
    """An answer that was given already; nothing more is written, and the connection is done."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 - the base's
        """Write nothing."""
        self.force_close()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""

    @property
    def prepared(self) -> bool:
        """Tell that the head was written."""
        return True


def frame(stream: int, data: bytes) -> bytes:
    """Return a piece of output as attach frames it."""
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


async def hijack(
    call: Call,
    content_type: str,
    hand_over: HandOver,
    *,
    framed: bool,
) -> web.StreamResponse:
    """Answer a request with the head alone, and hand the connection over.

    Everything that can be refused must have been: from here on, errors go into the stream.

    :param hand_over: called with the socket's descriptor, which it duplicates, with the bytes
        that the client has sent behind its request, and with what writes the head: to be called
        before there is output, and again where that is simpler. It is written at the end anyway.
    :param framed: whether output has attach's framing, for the text of an error.
    """
    transport = call.request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    transport.pause_reading()
    protocol = transport.get_protocol()
    pending = protocol.take() if isinstance(protocol, ClientConnection) else b""
    head = _head(call, content_type)
    if transport.get_extra_info("sslcontext") is not None:
        return await _hijack_relayed(transport, head, pending, hand_over, framed=framed)
    if transport.get_write_buffer_size():
        transport.abort()
        raise ConnectionResetError("the client does not read")
    with _duplicate(transport.get_extra_info("socket")) as client:
        # Closes this process's descriptor without a shutdown: the duplicate stays connected.
        transport.abort()
        announcing = _Announcing(lambda: _send_head(client, head))
        await _hand_over(client, pending, hand_over, announcing, framed=framed)
    return Hijacked()


class _Announcing:
    """Writes the head of an answer, when it is first called."""

    def __init__(self, write: Callable[[], None]) -> None:
        self._write = write
        self._written = False

    def __call__(self) -> None:
        if not self._written:
            self._written = True
            self._write()


def _send_head(client: socket.socket, head: bytes) -> None:
    # It is shorter than any socket's buffer; who has no room for it has stopped reading.
    try:
        sent = client.send(head, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except BlockingIOError:
        sent = 0
    if sent < len(head):
        raise ConnectionResetError("the client does not read")


def _duplicate(given: socket.socket) -> socket.socket:
    return socket.fromfd(given.fileno(), given.family, given.type)


async def _hand_over(
    client: socket.socket,
    pending: bytes,
    hand_over: HandOver,
    announce: _Announcing,
    *,
    framed: bool,
) -> None:
    try:
        await hand_over(client.fileno(), pending, announce)
        announce()
    except ConnectionError:
        raise
    except Exception as error:
        announce()
        text = f"{_stream_text(error)}\r\n".encode()
        with contextlib.suppress(OSError):
            client.send(frame(_STDERR, text) if framed else text, socket.MSG_DONTWAIT)
            client.shutdown(socket.SHUT_RDWR)
        if not isinstance(error, PannierError):
            raise


def _stream_text(error: Exception) -> str:
    if isinstance(error, StartFailed):
        return exec_error_text(error)
    return error_text(error)


async def _hijack_relayed(
    transport: asyncio.Transport,
    head: bytes,
    pending: bytes,
    hand_over: HandOver,
    *,
    framed: bool,
) -> web.StreamResponse:
    mine, theirs = socket.socketpair()

    async def relayed() -> None:
        with mine:
            await relay(transport, mine)

    # A log that is replayed is larger than what the pair holds: it is read meanwhile.
    relaying = asyncio.ensure_future(relayed())
    try:
        with theirs:
            announcing = _Announcing(lambda: transport.write(head))
            await _hand_over(theirs, pending, hand_over, announcing, framed=framed)
    finally:
        await relaying
    return Hijacked()


def _head(call: Call, content_type: str) -> bytes:
    given = call.request.headers
    upgrade = "upgrade" in given.get("Connection", "").lower() and given.get("Upgrade")
    lines = ["HTTP/1.1 101 UPGRADED" if upgrade else "HTTP/1.1 200 OK"]
    lines.append(f"Content-Type: {content_type}")
    if upgrade:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    lines += [f"{name}: {value}" for name, value in call.services.headers.items()]
    return "\r\n".join((*lines, "", "")).encode("ascii")
