"""What containers use: once, or every second."""

from __future__ import annotations

import asyncio
import functools
import os
from typing import TYPE_CHECKING, Final

from pannier.errors import InvalidRequest, NotFound
from pannier.server.call import Route
from pannier.server.respond import JSON_TYPE, encode, json_response, open_stream
from pannier.server.views.stats import stats_view

if TYPE_CHECKING:
    from aiohttp import web

    from pannier.engine.results import Statistics
    from pannier.server.call import Call

__all__ = ["ROUTES"]

_INTERVAL: Final = 1.0


@functools.cache
def _memory_total() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


async def _stats(call: Call) -> web.StreamResponse:
    container = call.engine.containers.get(call.name)
    streamed = call.query.boolean("stream", default=True)
    if streamed and call.query.boolean("one-shot"):
        raise InvalidRequest("cannot have stream=true and one-shot=true")
    if streamed:
        return await _stream(call, container.id)
    before: Statistics | None = None
    if container.state.running and not call.query.boolean("one-shot"):
        # The share of the CPU is counted between two readings.
        before = await call.engine.containers.statistics(container.id)
        await asyncio.sleep(_INTERVAL)
    now = await call.engine.containers.statistics(container.id)
    container = call.engine.containers.get(container.id)
    return json_response(stats_view(container, now, before, _memory_total()))


async def _stream(call: Call, id: str) -> web.StreamResponse:
    response = await open_stream(call, JSON_TYPE)
    loop = asyncio.get_running_loop()
    before: Statistics | None = None
    due = loop.time()
    while True:
        try:
            now = await call.engine.containers.statistics(id)
            container = call.engine.containers.get(id)
        except NotFound:
            break
        await response.write(encode(stats_view(container, now, before, _memory_total())))
        before = now
        # The first reading has nothing to be compared with: the second follows at once.
        due = max(due + _INTERVAL, loop.time())
        await asyncio.sleep(due - loop.time())
    await response.write_eof()
    return response


ROUTES: Final = (Route("GET", "/containers/{name}/stats", _stats, stream=True),)
