"""TLS in front of the server: each client's bytes are decrypted into a socket of its own.

The server, and whoever takes a connection over from it, see an ordinary socket. That is what lets
a client end its input and go on reading, as ``docker run -i`` does: asyncio's own TLS closes a
connection altogether when the peer ends one direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["TlsFront"]

_log = logging.getLogger("pannier.server")

_PIECE: Final = 64 << 10
_HANDSHAKE: Final = 10.0
"""Seconds that a client may take to say who it is."""
_PLAIN: Final = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)
"""What a client is told that does not speak TLS: the one thing said in the clear."""
_MOST_UNKNOWN: Final = 256
"""So many clients may be saying who they are at once; the oldest makes room for a further one."""


class TlsFront:
    """Accepts clients on a listening socket, and hands each to the server once it is known.

    :param context: says what the server shows, and what it asks of its clients.
    :param accept: takes a connected socket over, and serves it.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        accept: Callable[[socket.socket], Awaitable[object]],
    ) -> None:
        self._listening = listening
        self._context = context
        self._accept = accept
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._unknown: dict[asyncio.Task[None], None] = {}

    async def start(self) -> None:
        """Begin to accept clients."""
        self._server = await asyncio.start_server(self._serve, sock=self._listening, limit=_PIECE)

    async def close(self) -> None:
        """Accept no more, and let go of everyone."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            given: socket.socket = writer.get_extra_info("socket")
            given.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            channel = _Channel(self._context, reader, writer)
            await self._introduce(task, channel)
            await self._carry(channel)
        except (ssl.SSLError, TimeoutError, ConnectionError) as error:
            _log.debug("a TLS client was let go: %r", error)
        except asyncio.CancelledError:
            pass  # the daemon stops; whoever started this task waits for nothing more
        finally:
            self._clients.discard(task)
            if task.cancelling():
                writer.transport.abort()
            else:
                writer.close()

    async def _introduce(self, task: asyncio.Task[None], channel: _Channel) -> None:
        if len(self._unknown) >= _MOST_UNKNOWN:
            # Silent strangers can neither use up the descriptors nor keep others out for long.
            next(iter(self._unknown)).cancel()
        self._unknown[task] = None
        try:
            async with asyncio.timeout(_HANDSHAKE):
                await channel.handshake()
        finally:
            del self._unknown[task]

    async def _carry(self, channel: _Channel) -> None:
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        theirs.setblocking(False)
        try:
            await self._accept(theirs)
        except BaseException:
            mine.close()
            theirs.close()
            raise
        reader, writer = await asyncio.open_connection(sock=mine, limit=_PIECE)
        outward = asyncio.ensure_future(channel.send_all(reader))
        inward = asyncio.ensure_future(channel.receive_all(writer))
        try:
            # The answer's end is the end, and so is the client's, unless it only ends its input.
            await asyncio.wait({outward, inward}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for side in (outward, inward):
                side.cancel()
            await asyncio.gather(outward, inward, return_exceptions=True)
            writer.transport.abort()


class _Channel:
    """One client's TLS, on top of its plain stream."""

    def __init__(
        self,
        context: ssl.SSLContext,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._received = ssl.MemoryBIO()
        self._to_send = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=True)

    async def _flush(self) -> None:
        data = self._to_send.read()
        if data:
            self._writer.write(data)
            await self._writer.drain()

    async def _feed(self) -> bool:
        """Take what the client sends next; return False at the end of it."""
        data = await self._reader.read(_PIECE)
        if data:
            self._received.write(data)
        return bool(data)

    async def handshake(self) -> None:
        """Agree on keys, and have the client say who it is.

        :raises ssl.SSLError: it is nobody that is known.
        :raises ConnectionError: it has gone.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._feed():
                    raise ConnectionResetError("the client has gone") from None
            except ssl.SSLError as error:
                if error.reason == "HTTP_REQUEST":
                    self._writer.write(_PLAIN)
                await self._flush()  # which tells it why
                raise
            else:
                await self._flush()
                return

    async def receive_all(self, target: asyncio.StreamWriter) -> None:
        """Decrypt what the client sends, until it says that no more will come.

        :raises ConnectionError: it has gone without a word; nobody reads an answer any more.
        """
        while True:
            try:
                data = self._tls.read(_PIECE)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._feed():
                    raise ConnectionResetError("the client has gone") from None
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                break
            target.write(data)
            await target.drain()
        with contextlib.suppress(OSError):
            target.write_eof()
        # Behind the end of its input only the end of the connection can come.
        while await self._reader.read(_PIECE):
            pass
        raise ConnectionResetError("the client has gone")

    async def send_all(self, source: asyncio.StreamReader) -> None:
        """Encrypt an answer to its end, and say that it has ended."""
        while data := await source.read(_PIECE):
            self._tls.write(data)
            await self._flush()
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()  # sends its word; the client's own need not be waited for
        await self._flush()
