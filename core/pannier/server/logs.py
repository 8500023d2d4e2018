"""A container's output, as it was logged."""

from __future__ import annotations

import struct
import time
from socket import gethostname
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus

from pannier.drivers.logoptions import attributes
from pannier.engine.logdrivers import source_of
from pannier.engine.results import LogLine
from pannier.engine.sessions import LogOptions
from pannier.errors import InvalidRequest
from pannier.server.call import Route
from pannier.server.hijack import MULTIPLEXED, RAW
from pannier.server.respond import closed, open_stream, send_chunks
from pannier.server.views.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import web

    from pannier.engine.model import Container
    from pannier.server.call import Call

__all__ = ["ROUTES"]

_MULTIPLEXED_SINCE: Final = (1, 42)
_PIECE: Final = 128 << 10
_FRAME: Final = struct.Struct(">BxxxI")


async def _logs(call: Call) -> web.StreamResponse:
    query = call.query
    options = LogOptions(
        stdout=query.boolean("stdout"),
        stderr=query.boolean("stderr"),
        follow=query.boolean("follow"),
        since=query.time("since", time.time),
        until=query.time("until", time.time),
        tail=_tail(query.text("tail")),
    )
    if not (options.stdout or options.stderr):
        raise InvalidRequest("Bad parameters: you must choose at least one stream")
    container = call.engine.containers.get(call.name)
    tty = container.config.tty
    times, details = query.boolean("timestamps"), query.boolean("details")
    if times or details:
        lines = call.engine.containers.logs(container.id, options)
        if details:
            lines = _with_details(lines, _details(container))
        stamp = _stamps() if times else None
        chunks = _prefixed(lines, stamp, framed=not tty, follow=options.follow)
    else:
        chunks = call.engine.containers.framed_logs(container.id, options)
    multiplexed = not tty and call.version >= _MULTIPLEXED_SINCE
    response = await open_stream(call, MULTIPLEXED if multiplexed else RAW)
    await send_chunks(response, chunks)
    await response.write_eof()
    return response


def _tail(text: str) -> int | None:
    # Docker takes whatever is no number for "all"; Go's numbers may have a sign.
    digits = text.removeprefix("+")
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 19 else None


def _details(container: Container) -> bytes:
    """Return what the log's options have said with each line, as Docker writes it."""
    said = attributes(container.host.log.options, source_of(container, gethostname()))
    pairs = (f"{quote_plus(name)}={quote_plus(said[name])}" for name in sorted(said))
    return ",".join(pairs).encode() + b" "


async def _with_details(lines: AsyncIterator[LogLine], said: bytes) -> AsyncIterator[LogLine]:
    async with closed(lines):
        async for line in lines:
            yield LogLine(line.time_ns, line.stream, said + line.data)


def _stamps() -> Callable[[int], bytes]:
    """Return what writes a time; that of most lines is the second of the one before."""
    last, prefix = -1, b""

    def stamp(time_ns: int) -> bytes:
        nonlocal last, prefix
        second, rest = divmod(time_ns, 10**9)
        if second != last:
            last, prefix = second, rfc3339(second * 10**9)[:-1].encode("ascii")
        # Always nine digits: columns stay aligned, and sorting works.
        return b"%b.%09dZ " % (prefix, rest)

    return stamp


async def _prefixed(
    lines: AsyncIterator[LogLine],
    stamp: Callable[[int], bytes] | None,
    *,
    framed: bool,
    follow: bool,
) -> AsyncIterator[bytes]:
    """Put a line's time before it where asked; gather lines, except for who follows them."""
    pieces: list[bytes] = []
    size = 0
    async with closed(lines):
        async for line in lines:
            data = line.data if stamp is None else stamp(line.time_ns) + line.data
            pieces.append(_FRAME.pack(line.stream, len(data)) + data if framed else data)
            size += len(data)
            if follow or size >= _PIECE:
                yield b"".join(pieces)
                pieces.clear()
                size = 0
    if pieces:
        yield b"".join(pieces)


ROUTES: Final = (Route("GET", "/containers/{name}/logs", _logs, stream=True),)
