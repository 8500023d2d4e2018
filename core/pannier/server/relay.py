"""Copies between a client's transport and a local socket, where the one cannot be handed over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

__all__ = ["relay"]

_PIECE: Final = 64 << 10


async def relay(transport: asyncio.Transport, local: socket.socket) -> None:
    """Copy both ways until the local side has ended its output or the client has gone.

    Neither side is read faster than the other takes it. The end of one direction is passed on and
    leaves the other open.
    """
    reader, writer = await asyncio.open_connection(sock=local.dup())
    client = _Client(transport, writer)
    transport.set_protocol(client)
    transport.resume_reading()
    try:
        while data := await reader.read(_PIECE):
            if transport.is_closing():
                break
            transport.write(data)
            await client.drained()
    except ConnectionError:
        pass
    finally:
        transport.close()
        writer.close()


class _Client(asyncio.Protocol):
    """Receives what the client sends, and writes it to the local side."""

    def __init__(self, transport: asyncio.Transport, writer: asyncio.StreamWriter) -> None:
        self._transport = transport
        self._writer = writer
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._draining: asyncio.Task[None] | None = None

    async def drained(self) -> None:
        """Wait until the client has taken what was written."""
        await self._may_write.wait()

    def data_received(self, data: bytes) -> None:
        """Pass input on."""
        self._writer.write(data)
        if self._draining is None and self._writer.transport.get_write_buffer_size() > _PIECE:
            self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        self._transport.pause_reading()
        try:
            await self._writer.drain()
        except ConnectionError:
            return
        finally:
            self._draining = None
        self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Pass the end of input on; output goes on."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        return True

    def pause_writing(self) -> None:
        """Hold output back."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Let output go on."""
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """End both directions."""
        self._may_write.set()
        self._writer.close()
