"""The server for one container, on the daemon's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING, Final, Protocol

from pannier.dns.answers import Zone, resolve
from pannier.dns.message import (
    FORMAT_ERROR,
    SERVER_FAILURE,
    BadQuery,
    answer,
    failure,
    parse_query,
)
from pannier.dns.upstream import ask

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine, Sequence

    from pannier.dns.message import Query
    from pannier.dns.sockets import DNSSockets
    from pannier.dns.upstream import Upstream

__all__ = ["DNSServer", "Source"]

_LARGEST: Final = 65535
_LENGTH: Final = struct.Struct(">H")
_BURST: Final = 16
"""Datagrams that are read at once, before others on the event loop have their turn."""

_MOST_FORWARDED: Final = 128
_MOST_CONNECTIONS: Final = 32
_IDLE: Final = 10.0
"""Seconds that a TCP connection may be silent."""


class Source(Zone, Protocol):
    """A zone, and who is asked for all else."""

    def upstreams(self) -> Sequence[Upstream]:
        """Return the servers to ask; none where nothing may leave."""


class DNSServer:
    """Serves a container's sockets. Made and used on the event loop's thread.

    What it does for one container is bounded: so many questions passed on at a time, so many
    connections. A question beyond that is answered with a failure at once.

    :param sockets: the server's from now on.
    """

    def __init__(self, sockets: DNSSockets, source: Source) -> None:
        self._sockets = sockets
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._forwarded = 0
        self._connections = 0
        self._open = True
        self._loop.add_reader(sockets.udp, self._read_datagrams)
        self._loop.add_reader(sockets.tcp, self._accept)

    def close(self) -> None:
        """Stop, and close the sockets: they would keep the namespace alive. Idempotent."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sockets.udp)
        self._loop.remove_reader(self._sockets.tcp)
        self._sockets.close()
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Over UDP.

    def _read_datagrams(self) -> None:
        for _ in range(_BURST):
            try:
                data, client = self._sockets.udp.recvfrom(_LARGEST)
            except OSError:
                return  # none is left; or one of an answer's way back, which concerns nobody
            query, response = self._own_answer(data, udp=True)
            if response is not None:
                self._send(response, client)
            elif query is not None:
                self._pass_on(query, data, client)

    def _send(self, response: bytes, client: tuple[str, int]) -> None:
        # A client that does not read loses its answers, as with any datagram.
        with contextlib.suppress(OSError):
            self._sockets.udp.sendto(response, client)

    def _pass_on(self, query: Query, data: bytes, client: tuple[str, int]) -> None:
        async def pass_on() -> None:
            self._send(await self._elsewhere(query, data, tcp=False), client)

        if self._forwarded >= _MOST_FORWARDED:
            self._send(answer(query, [], code=SERVER_FAILURE), client)
        else:
            self._spawn(pass_on())

    # Over TCP.

    def _accept(self) -> None:
        try:
            stream, _ = self._sockets.tcp.accept()
        except OSError:
            return  # the client has gone again
        stream.setblocking(False)
        if self._connections >= _MOST_CONNECTIONS:
            stream.close()
            return
        self._connections += 1
        self._spawn(self._converse(stream))

    async def _converse(self, stream: socket.socket) -> None:
        """Answer one question after another until the client hangs up, or is silent for long."""
        try:
            with stream, contextlib.suppress(OSError, TimeoutError):
                while (data := await self._next(stream)) is not None:
                    query, response = self._own_answer(data, udp=False)
                    if query is not None and response is None:
                        response = await self._elsewhere(query, data, tcp=True)
                    if response is None:
                        return
                    async with asyncio.timeout(_IDLE):
                        message = _LENGTH.pack(len(response)) + response
                        await self._loop.sock_sendall(stream, message)
        finally:
            self._connections -= 1

    async def _next(self, stream: socket.socket) -> bytes | None:
        async with asyncio.timeout(_IDLE):
            head = await self._exactly(stream, _LENGTH.size)
            if head is None:
                return None
            return await self._exactly(stream, _LENGTH.unpack(head)[0])

    async def _exactly(self, stream: socket.socket, size: int) -> bytes | None:
        received = bytearray()
        while len(received) < size:
            chunk = await self._loop.sock_recv(stream, size - len(received))
            if not chunk:
                return None
            received += chunk
        return bytes(received)

    # Both.

    def _own_answer(self, data: bytes, *, udp: bool) -> tuple[Query | None, bytes | None]:
        """Return the query, and what the zone says of it: None leaves it to other servers."""
        try:
            query = parse_query(data)
        except BadQuery as error:
            return None, None if error.code is None else failure(data, error.code)
        try:
            return query, resolve(query, self._source, query.size if udp else None)
        except ValueError:
            return query, failure(data, FORMAT_ERROR)

    async def _elsewhere(self, query: Query, data: bytes, *, tcp: bool) -> bytes:
        self._forwarded += 1
        try:
            response = await ask(query, data, self._source.upstreams(), self._sockets.udp, tcp=tcp)
        finally:
            self._forwarded -= 1
        return response or answer(query, [], code=SERVER_FAILURE)
