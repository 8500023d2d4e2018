"""Attaching to a container's streams, and the size of its terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from pannier.engine.attach import detach_sequence
from pannier.engine.model import Status
from pannier.engine.sessions import AttachOptions
from pannier.errors import Conflict, InvalidRequest
from pannier.server.call import Route
from pannier.server.hijack import MULTIPLEXED, RAW, hijack
from pannier.server.websocket import attach_websocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.engine.model import Container
    from pannier.server.call import Call

__all__ = ["ROUTES", "terminal_size"]

_MULTIPLEXED_SINCE: Final = (1, 42)
_CHOSEN_SINCE: Final = (1, 42)
"""Since when a websocket has the streams that were asked for; before, it has all."""
_BINARY_SINCE: Final = (1, 28)
_MAX_SIZE: Final = (1 << 16) - 1


def _options(call: Call, *, websocket: bool = False) -> AttachOptions:
    query = call.query
    keys = query.text("detachKeys")
    detach_sequence(keys or None)
    every = websocket and call.version < _CHOSEN_SINCE
    return AttachOptions(
        logs=query.boolean("logs"),
        stream=query.boolean("stream"),
        # A message of a websocket is output and nothing else, as Docker has it.
        raw=websocket,
        stdin=every or query.boolean("stdin"),
        stdout=every or query.boolean("stdout"),
        stderr=every or query.boolean("stderr"),
        detach_keys=keys or None,
    )


def _attachable(call: Call) -> Container:
    container = call.engine.containers.get(call.name)
    if container.state.status is Status.PAUSED:
        raise Conflict(f"container {call.name} is paused, unpause the container before attach")
    if container.state.status is Status.RESTARTING:
        raise Conflict(f"container {call.name} is restarting, wait until the container is running")
    return container


async def _attach(call: Call) -> web.StreamResponse:
    options = _options(call)
    container = _attachable(call)
    await call.request.read()
    framed = not container.config.tty
    multiplexed = framed and call.version >= _MULTIPLEXED_SINCE

    async def hand_over(descriptor: int, pending: bytes, announce: Callable[[], None]) -> None:
        await call.engine.containers.attach(container.id, options, descriptor, pending, announce)

    return await hijack(call, MULTIPLEXED if multiplexed else RAW, hand_over, framed=framed)


async def _attach_websocket(call: Call) -> web.StreamResponse:
    options = _options(call, websocket=True)
    container = _attachable(call)

    async def hand_over(descriptor: int, pending: bytes) -> None:
        await call.engine.containers.attach(container.id, options, descriptor, pending)

    binary = call.version >= _BINARY_SINCE
    return await attach_websocket(call.request, hand_over, binary=binary)


async def _resize(call: Call) -> web.StreamResponse:
    rows, columns = terminal_size(call)
    await call.engine.containers.resize(call.name, rows, columns)
    return web.Response()


def terminal_size(call: Call) -> tuple[int, int]:
    """Return the rows and columns that a resize asks for."""
    for name, what in (("h", "height"), ("w", "width")):
        if not call.query.text(name):
            raise InvalidRequest(f"invalid resize {what}: {name} is not given")
    size = (call.query.integer("h"), call.query.integer("w"))
    for value in size:
        if not 0 <= value <= _MAX_SIZE:
            raise InvalidRequest(f"invalid terminal size: {value} is out of range")
    return size


ROUTES: Final = (
    Route("POST", "/containers/{name}/attach", _attach),
    Route("GET", "/containers/{name}/attach/ws", _attach_websocket, stream=True),
    Route("POST", "/containers/{name}/resize", _resize),
)
