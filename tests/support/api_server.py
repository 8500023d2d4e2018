"""The server on a real unix socket, on an event loop of its own, for blocking clients."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from pannier.server.app import create_app
from pannier.server.connection import Site

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from pannier.engine.engine import Engine
    from pannier.server.identity import Identity

__all__ = ["Answer", "ApiServer", "serving"]

T = TypeVar("T")

_TIMEOUT = 10.0


class _Connection(http.client.HTTPConnection):
    """An HTTP connection over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The message of an error."""
        message = self.json["message"]
        assert isinstance(message, str)
        return message


class ApiServer:
    """A server that runs.

    :param path: its socket.
    """

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self.path = path
        self.loop = loop

    @property
    def url(self) -> str:
        """The address as clients take it."""
        return f"unix://{self.path}"

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one request; a *body* that is not bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = dict(headers or {})
        if data is not None and not isinstance(body, bytes):
            given.setdefault("Content-Type", "application/json")
        with contextlib.closing(_Connection(self.path)) as connection:
            connection.request(method, path, data, given)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def get(self, path: str) -> Answer:
        """GET."""
        return self.request("GET", path)

    def post(self, path: str, body: object = None) -> Answer:
        """POST."""
        return self.request("POST", path, body)

    def connect(self) -> socket.socket:
        """Return a plain connection."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_TIMEOUT)
        connection.connect(self.path)
        return connection

    def run(self, work: Awaitable[T]) -> T:
        """Await something on the server's loop."""

        async def main() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(main(), self.loop).result(_TIMEOUT)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on the server's loop."""

        async def main() -> T:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(main(), self.loop).result(_TIMEOUT)


@contextlib.contextmanager
def serving(
    engine: Engine,
    folder: Path,
    *,
    plain: bool = False,
    drivers: Callable[[], list[dict[str, Any]]] = list,
    loads: Callable[[], list[dict[str, Any]]] = list,
    identity: Identity | None = None,
) -> Iterator[ApiServer]:
    """Serve *engine* while the block runs.

    :param plain: with aiohttp's own site, without the server's connections.
    """
    path = str(folder / "api.sock")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="api", daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(
            create_app(engine, drivers=drivers, loads=loads, identity=identity),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=0.1,
        )
        await runner.setup()
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(128)
        listening.setblocking(False)
        await (web.SockSite if plain else Site)(runner, listening).start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(_TIMEOUT)
    try:
        yield ApiServer(path, loop)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(_TIMEOUT)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_TIMEOUT)
        loop.close()
