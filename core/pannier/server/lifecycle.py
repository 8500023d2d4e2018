"""What makes containers run, pause, stop, and how their end is awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from pannier.engine.validate import signal_number
from pannier.errors import InvalidRequest, NotFound
from pannier.server.call import Route
from pannier.server.errors import error_text
from pannier.server.respond import JSON_TYPE, encode, no_content, open_stream

if TYPE_CHECKING:
    from aiohttp import web

    from pannier.engine.results import WaitCondition
    from pannier.server.call import Call

__all__ = ["ROUTES"]

_NO_CONFIGURATION: Final = 7
"""Bytes: a body with an option is longer."""

_CONDITIONS: Final = ("not-running", "next-exit", "removed")


async def _start(call: Call) -> web.StreamResponse:
    # What clients before API 1.24 changed by a body must not be left out without a word. A null,
    # an empty object and the newline after it are no configuration.
    length = call.request.content_length
    if (length is None and call.request.can_read_body) or (length or 0) > _NO_CONFIGURATION:
        raise InvalidRequest(
            "starting container with non-empty request body was deprecated since API v1.22 and "
            "removed in v1.24"
        )
    await call.engine.containers.start(call.name, trace=call.query.boolean("trace"))
    return no_content()


async def _stop(call: Call) -> web.StreamResponse:
    timeout = call.query.optional_integer("t")
    await call.engine.containers.stop(call.name, timeout, _signal(call))
    return no_content()


async def _restart(call: Call) -> web.StreamResponse:
    timeout = call.query.optional_integer("t")
    await call.engine.containers.restart(call.name, timeout, _signal(call))
    return no_content()


def _signal(call: Call) -> str | None:
    signal = call.query.text("signal")
    if signal:
        signal_number(signal)
    return signal or None


async def _kill(call: Call) -> web.StreamResponse:
    signal = _signal(call) or "SIGKILL"
    try:
        await call.engine.containers.kill(call.name, signal)
    except NotFound as error:
        raise NotFound(f"cannot kill container: {call.name}: {error}", hint=error.hint) from None
    return no_content()


async def _pause(call: Call) -> web.StreamResponse:
    await call.engine.containers.pause(call.name)
    return no_content()


async def _unpause(call: Call) -> web.StreamResponse:
    await call.engine.containers.unpause(call.name)
    return no_content()


async def _wait(call: Call) -> web.StreamResponse:
    condition = call.query.text("condition") or "not-running"
    if condition not in _CONDITIONS:
        raise InvalidRequest(f'invalid condition: "{condition}"')
    ended = call.engine.containers.wait(call.name, cast("WaitCondition", condition))
    # The head goes out once the wait is registered: `docker run` starts the container only then.
    response = await open_stream(call, JSON_TYPE)
    body: dict[str, object]
    try:
        result = await ended
    except Exception as error:  # noqa: BLE001 - the head is out; the body tells the client
        body = {"StatusCode": 125, "Error": {"Message": error_text(error)}}
    else:
        body = {"StatusCode": result.exit_code}
        # Who waits for the removal is told of the start's failure by the start alone, as Docker
        # does: clients would report it twice.
        if result.error and condition != "removed":
            body["Error"] = {"Message": result.error}
    await response.write(encode(body))
    await response.write_eof()
    return response


ROUTES: Final = (
    Route("POST", "/containers/{name}/start", _start),
    Route("POST", "/containers/{name}/stop", _stop),
    Route("POST", "/containers/{name}/restart", _restart),
    Route("POST", "/containers/{name}/kill", _kill),
    Route("POST", "/containers/{name}/pause", _pause),
    Route("POST", "/containers/{name}/unpause", _unpause),
    Route("POST", "/containers/{name}/wait", _wait, stream=True),
)
