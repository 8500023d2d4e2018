"""A container's output, as it was logged."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Final

from pannier.engine.sessions import LogOptions
from pannier.errors import InvalidRequest
from pannier.server.call import Route
from pannier.server.hijack import MULTIPLEXED, RAW
from pannier.server.respond import closed, open_stream, send_chunks
from pannier.server.views.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from pannier.engine.results import LogLine
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
    if query.boolean("timestamps"):
        lines = call.engine.containers.logs(container.id, options)
        chunks = _with_times(lines, framed=not tty, follow=options.follow)
    else:
        chunks = call.engine.containers.framed_logs(container.id, options)
    multiplexed = not tty and call.version >= _MULTIPLEXED_SINCE
    response = await open_stream(call, MULTIPLEXED if multiplexed else RAW)
    await send_chunks(response, chunks)
    await response.write_eof()
    return response


def _tail(text: str) -> int | None:
    # Docker takes whatever is no number for "all".
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


async def _with_times(
    lines: AsyncIterator[LogLine], *, framed: bool, follow: bool
) -> AsyncIterator[bytes]:
    """Put a line's time before it; gather lines, except for somebody who follows them."""
    pieces: list[bytes] = []
    size = 0
    last, prefix = -1, b""
    async with closed(lines):
        async for line in lines:
            second, rest = divmod(line.time_ns, 10**9)
            if second != last:
                last, prefix = second, rfc3339(second * 10**9)[:-1].encode("ascii")
            # Always nine digits: columns stay aligned, and sorting works.
            data = b"%b.%09dZ %b" % (prefix, rest, line.data)
            pieces.append(_FRAME.pack(line.stream, len(data)) + data if framed else data)
            size += len(data)
            if follow or size >= _PIECE:
                yield b"".join(pieces)
                pieces.clear()
                size = 0
    if pieces:
        yield b"".join(pieces)


ROUTES: Final = (Route("GET", "/containers/{name}/logs", _logs, stream=True),)
