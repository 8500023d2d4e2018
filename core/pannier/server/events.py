"""Events, as they happen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pannier.errors import InvalidRequest
from pannier.server.call import Route
from pannier.server.respond import JSON_TYPE, closed, encode, open_stream
from pannier.server.views.resources import event_view

if TYPE_CHECKING:
    from aiohttp import web

    from pannier.server.call import Call

__all__ = ["ROUTES"]

_FILTERS: Final = frozenset(
    [
        "config",
        "container",
        "daemon",
        "event",
        "image",
        "label",
        "network",
        "node",
        "plugin",
        "scope",
        "secret",
        "service",
        "type",
        "volume",
    ]
)


async def _events(call: Call) -> web.StreamResponse:
    since = call.query.time("since", time.time)
    if call.query.text("since"):
        since = since or 1  # "0" asks for everything that is remembered
    until = call.query.time("until", time.time)
    if since and until and until < since:
        raise InvalidRequest(
            f"`since` time ({since // 10**9}) cannot be after `until` time ({until // 10**9})"
        )
    filters = call.query.filters(_FILTERS, others=True)  # as dockerd
    events = call.engine.events.subscribe(since, until, filters)
    response = await open_stream(call, JSON_TYPE)
    async with closed(events):
        async for event in events:
            await response.write(encode(event_view(event)))
    await response.write_eof()
    return response


ROUTES: Final = (Route("GET", "/events", _events, stream=True),)
