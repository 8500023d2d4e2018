"""Attaching through a websocket: messages for the bytes of a connection."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import socket
from typing import TYPE_CHECKING, Final

from aiohttp import WSMsgType, web

from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["attach_websocket"]

_PIECE: Final = 64 << 10


async def attach_websocket(
    request: web.Request, hand_over: Callable[[int, bytes], Awaitable[None]], *, binary: bool = True
) -> web.StreamResponse:
    """Answer with a websocket, and relay between it and a socket that is handed over.

    Output is as it comes, unframed. The client's closing ends the input and the attachment.

    :param hand_over: as of :func:`pannier.server.hijack.hijack`, but that the head is out already.
    :param binary: output comes in binary messages, else in texts.
    :raises InvalidRequest: the client asks for no websocket.
    """
    websocket = web.WebSocketResponse(heartbeat=30.0)
    if not websocket.can_prepare(request):
        raise InvalidRequest("not websocket protocol", hint="POST …/attach needs none")
    await websocket.prepare(request)
    mine, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=mine)
    output = asyncio.ensure_future(_send(reader, writer, websocket, binary=binary))

    async def handed_over() -> None:
        with theirs:
            await hand_over(theirs.fileno(), b"")

    # A log that is replayed is larger than what the pair holds: it is read meanwhile.
    handing_over = asyncio.ensure_future(handed_over())
    try:
        await _receive(websocket, writer)
    finally:
        output.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await output
        with contextlib.suppress(ConnectionError):  # the client has gone
            await handing_over
    return websocket


async def _send(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    websocket: web.WebSocketResponse,
    *,
    binary: bool,
) -> None:
    # A text is UTF-8 (RFC 6455, 5.6), and a piece may end within a character.
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    try:
        while data := await reader.read(_PIECE):
            if binary:
                await websocket.send_bytes(data)
            elif text := decode(data):
                await websocket.send_str(text)
        await websocket.close()
    finally:
        writer.close()  # whoever writes at the other end learns that nobody reads any more


async def _receive(websocket: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    async for message in websocket:
        if message.type is WSMsgType.BINARY:
            writer.write(message.data)
        elif message.type is WSMsgType.TEXT:
            writer.write(message.data.encode())
        else:
            break
        with contextlib.suppress(ConnectionError):
            await writer.drain()
