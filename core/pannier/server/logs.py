"""A container's output, as it was logged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pannier.engine.model import LogOptions
from pannier.errors import InvalidRequest
from pannier.server.call import Route
from pannier.server.hijack import MULTIPLEXED, RAW, frame
from pannier.server.respond import open_stream, send_chunks
from pannier.server.views.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from pannier.engine.results import LogLine
    from pannier.server.call import Call

__all__ = ["ROUTES"]

_MULTIPLEXED_SINCE: Final = (1, 42)
_PIECE: Final = 64 << 10


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
    buffer = bytearray()
    async for line in lines:
        data = f"{_nine_digits(line.time_ns)} ".encode("ascii") + line.data
        buffer += frame(line.stream, data) if framed else data
        if follow or len(buffer) >= _PIECE:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def _nine_digits(nanoseconds: int) -> str:
    """Return a time whose length is always the same: columns stay aligned, sorting works."""
    return f"{rfc3339(nanoseconds // 10**9 * 10**9)[:-1]}.{nanoseconds % 10**9:09}Z"


ROUTES: Final = (Route("GET", "/containers/{name}/logs", _logs, stream=True),)
