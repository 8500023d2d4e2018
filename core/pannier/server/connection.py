"""The client's connection, between the socket and aiohttp's protocol.

Two things are to be known that aiohttp does not tell: that a client has gone while a handler is
waiting for something else, and which bytes a client has sent behind a request that takes the
connection over (``attach``, ``exec``). Those are no HTTP; aiohttp would try to parse them.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

__all__ = ["ClientConnection", "Site", "acceptor"]

_TAKES_OVER: Final = re.compile(
    rb"POST [^ ?]*/(?:containers/[^ ?/]+/attach|exec/[^ ?/]+/start)(?:\?[^ ]*)? HTTP/1\.[01]\r\n"
)
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_MAX_HELD: Final = 1 << 20


class ClientConnection(asyncio.Protocol):
    """Passes everything on to *inner*, aiohttp's protocol, except for what must not reach it.

    :param inner: the protocol that speaks HTTP.
    """

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self.on_lost: Callable[[], object] | None = None
        """Called when the client has gone; a handler that streams sets it."""
        self._holding = False
        self._body = 0
        self._held = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass on."""
        self._transport = cast("asyncio.Transport", transport)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the handler, and pass on."""
        if self.on_lost is not None:
            self.on_lost()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._inner.resume_writing()

    def eof_received(self) -> bool | None:
        """Keep a connection open that is being taken over: its client only ends its input."""
        if self._holding:
            return True
        return self._inner.eof_received()

    def data_received(self, data: bytes) -> None:
        """Pass on a request; hold what comes behind one that takes the connection over."""
        if self._holding:
            self._receive_held(data)
        elif data.startswith(b"POST ") and _TAKES_OVER.match(data) is not None:
            self._begin(data)
        else:
            self._inner.data_received(data)

    def _begin(self, data: bytes) -> None:
        end = data.find(_END)
        if end < 0 or _CHUNKED.search(data, 0, end + 2) is not None:
            # A head in pieces or a chunked body: nothing that waits for its answer behaves so,
            # and a client that does not wait sends neither.
            self._inner.data_received(data)
            return
        length = _LENGTH.search(data, 0, end + 2)
        self._holding = True
        self._body = end + len(_END) + (0 if length is None else int(length[1]))
        self._receive_held(data)

    def _receive_held(self, data: bytes) -> None:
        if self._body:
            mine = data[: self._body]
            self._body -= len(mine)
            data = data[len(mine) :]
            self._inner.data_received(mine)
        if data:
            self._held += data
            if len(self._held) > _MAX_HELD and self._transport is not None:
                self._transport.pause_reading()

    def take(self) -> bytes:
        """Take what came behind the request. Nothing more is passed on to *inner*."""
        held, self._held = bytes(self._held), bytearray()
        self._holding = True
        return held

    def decline(self) -> None:
        """Treat what came behind the request as HTTP: it did not take the connection over."""
        if not self._holding:
            return
        self._holding = False
        self._body = 0
        held, self._held = bytes(self._held), bytearray()
        if self._transport is not None:
            self._transport.resume_reading()
        if held:
            self.data_received(held)


def acceptor(runner: web.AppRunner) -> Callable[[socket.socket], Awaitable[object]]:
    """Return what has the server serve a connected socket that somebody else has accepted."""
    server = runner.server
    assert server is not None

    async def accept(given: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: ClientConnection(server()), given)

    return accept


class Site(web.SockSite):
    """Listens on a socket, with a :class:`ClientConnection` for each client.

    In place of :class:`aiohttp.web.SockSite`, with the same arguments.
    """

    async def start(self) -> None:
        """Begin to accept clients."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(server()),
            sock=self._sock,
            ssl=self._ssl_context,
            backlog=self._backlog,
        )
