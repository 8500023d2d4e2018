"""A small HTTP proxy on loopback: tunnels (CONNECT) and forwarded requests, both noted."""

from __future__ import annotations

import base64
import contextlib
import selectors
import socket
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Proxy"]

_PIECE = 1 << 16
_OF_ONE_HOP = {"connection", "proxy-authorization", "proxy-connection", "keep-alive"}


class Proxy:
    """A proxy that knows where names lead, which nobody else does.

    :param targets: ``host:port`` as asked for, and the loopback ``host:port`` that it leads to.
    :param user: ``name:password`` that a client must give; empty for none.
    :param port: to listen on; 0 for a free one. The socket is of the network namespace of the
        thread that makes the proxy, its own connections of that which starts it.
    :ivar seen: what was asked for: ``CONNECT host:port`` or ``GET http://…``.
    """

    def __init__(self, targets: Mapping[str, str], *, user: str = "", port: int = 0) -> None:
        self.targets = targets
        self.user = user
        self.seen: list[str] = []
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def host(self) -> str:
        """Address and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Proxy

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle()

    def _target(self, host: str) -> tuple[str, int] | None:
        """Return where a name leads, or answer why it leads nowhere."""
        self.owner.seen.append(f"{self.command} {self.path}")
        pair = base64.b64encode(self.owner.user.encode()).decode()
        if self.owner.user and self.headers.get("Proxy-Authorization") != f"Basic {pair}":
            self._refuse(407)
            return None
        target = self.owner.targets.get(host)
        if target is None:
            self._refuse(502)
            return None
        name, _, port = target.rpartition(":")
        return name, int(port)

    def _refuse(self, status: int) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def do_CONNECT(self) -> None:
        target = self._target(self.path)
        if target is None:
            return
        self.close_connection = True
        with socket.create_connection(target) as other:
            self.send_response(200, "Connection established")
            self.end_headers()
            self.wfile.flush()
            _pump(self.connection, other)

    def _forward(self) -> None:
        parts = urlsplit(self.path)
        target = self._target(parts.netloc if parts.port else f"{parts.netloc}:80")
        if target is None:
            return
        length = int(self.headers.get("Content-Length") or 0)
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in _OF_ONE_HOP
        }
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection = HTTPConnection(*target)
        with contextlib.closing(connection):
            connection.request(self.command, path, self.rfile.read(length), headers)
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in {*_OF_ONE_HOP, "content-length", "date", "server"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815 - likewise


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                source: socket.socket = key.fileobj  # type: ignore[assignment]
                data = source.recv(_PIECE)
                if not data:
                    return
                key.data.sendall(data)
