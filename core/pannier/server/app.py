"""The application: every route of the API behind one dispatcher."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from pannier.errors import Forbidden
from pannier.server import (
    absent,
    archives,
    build,
    containers,
    events,
    execs,
    images,
    interactive,
    lifecycle,
    logs,
    networks,
    pannier,
    stats,
    system,
    transfers,
    volumes,
)
from pannier.server.call import API_VERSION, Call, Services
from pannier.server.connection import ClientConnection
from pannier.server.errors import error_response
from pannier.server.hijack import Hijacked
from pannier.server.identity import Identity
from pannier.server.routing import Router, split_version
from pannier.server.views.summary import SummaryCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.build.service import Builder
    from pannier.engine.engine import Engine
    from pannier.server.call import Route

__all__ = ["create_app"]

_log = logging.getLogger("pannier.server")

_MODULES: Final = (
    system,
    events,
    containers,
    lifecycle,
    logs,
    stats,
    interactive,
    archives,
    execs,
    images,
    build,
    transfers,
    volumes,
    networks,
    absent,
    pannier,
)


def create_app(
    engine: Engine,
    *,
    drivers: Callable[[], list[dict[str, Any]]] = list,
    loads: Callable[[], list[dict[str, Any]]] = list,
    identity: Identity | None = None,
    builder: Builder | None = None,
) -> web.Application:
    """Return the application that serves *engine*.

    Serve it with :func:`pannier.server.connection.start_site`, which sees clients vanish.

    :param drivers: returns the rows of ``GET /pannier/drivers``.
    :param loads: returns the calls of ``GET /pannier/drivers/trace``.
    :param identity: what ``/version`` says; by default what is installed.
    :param builder: makes images of Dockerfiles; without one builds are refused.
    """
    who = identity or Identity()
    headers = {
        "Api-Version": f"{API_VERSION[0]}.{API_VERSION[1]}",
        "Docker-Experimental": who.experimental_word,
        "Ostype": "linux",
        "Server": f"{who.product}/{who.version} (linux)",
    }
    services = Services(engine, who, headers, drivers, SummaryCache(), builder, loads)
    dispatcher = _Dispatcher(services)
    app = web.Application()
    # One catch-all: the API's own router is faster than patterns tried one after another.
    app.router.add_route("*", "/{path:.*}", dispatcher.handle)
    return app


class _Dispatcher:
    """Finds a request's handler, runs it, and turns what it raises into an answer."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._router = Router(route for module in _MODULES for route in module.ROUTES)
        # A running task is only weakly held by its loop.
        self._tasks: set[asyncio.Task[web.StreamResponse]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        try:
            _refuse_browser(request)
            version, path = split_version(request.path)
            route, name = self._router.find(request.method, path)
            call = Call(request, self._services, name, version)
            response = await self._run(route, call)
        except ConnectionError:
            # The client has gone; aiohttp would log this as a fault.
            return Hijacked()
        except Exception as error:  # noqa: BLE001 - the client is told of all of them
            response = error_response(error, f"{request.method} {request.path}")
        if isinstance(response, Hijacked):
            return response
        if not response.prepared:
            response.headers.update(self._services.headers)
        _decline(request)
        return response

    async def _run(self, route: Route, call: Call) -> web.StreamResponse:
        if route.stream:
            return await self._run_stream(route, call)
        if route.method in {"GET", "HEAD"}:
            return await route.handler(call)
        # What changes something runs to its end, whatever becomes of the client.
        task = asyncio.ensure_future(route.handler(call))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def _run_stream(self, route: Route, call: Call) -> web.StreamResponse:
        transport = call.request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        protocol = transport.get_protocol()
        task = asyncio.current_task()
        if not isinstance(protocol, ClientConnection) or task is None:
            return await route.handler(call)
        protocol.on_lost = task.cancel
        try:
            return await route.handler(call)
        finally:
            protocol.on_lost = None

    def _forget(self, task: asyncio.Task[web.StreamResponse]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Looked at, so that asyncio does not report what nobody was left to be told.
            task.exception()


def _refuse_browser(request: web.Request) -> None:
    """Refuse a page of the web that has found a loopback address served without TLS.

    A browser says whose page asks; clients of this API say nothing or, on a websocket, that it is
    the server itself: by its very address, not by a name that could have been made to lead here.
    """
    transport = request.transport
    origin = request.headers.get("Origin")
    if origin is None or transport is None:
        return
    place = transport.get_extra_info("sockname")
    if isinstance(place, tuple) and not _is_itself(origin, *place[:2]):
        raise Forbidden("requests of web pages are refused")


def _is_itself(origin: str, address: str, port: int) -> bool:
    host = f"[{address}]" if ":" in address else address
    return origin in (f"http://{host}:{port}", f"https://{host}:{port}")


def _decline(request: web.Request) -> None:
    """Let go on what was held back for a request that could have taken the connection over."""
    transport = request.transport
    if transport is not None:
        protocol = transport.get_protocol()
        if isinstance(protocol, ClientConnection):
            protocol.decline()
