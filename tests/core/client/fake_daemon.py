"""A stand-in for the daemon: answers on a unix socket as each test tells it to."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["FakeDaemon", "Request", "frame"]


def frame(stream: int, payload: bytes) -> bytes:
    """Return one frame of a multiplexed stream."""
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


@dataclass
class Request:
    """What a client asked, and the connection to answer on."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    sock: socket.socket
    rest: bytes

    @property
    def path(self) -> str:
        """The path without the version and the query."""
        path = self.target.partition("?")[0]
        return path[path.index("/", 1) :] if path.startswith("/v1.") else path

    @property
    def query(self) -> str:
        """The query, still encoded."""
        return self.target.partition("?")[2]

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    def answer(
        self, status: int = 200, body: bytes | object = b"", headers: dict[str, str] | None = None
    ) -> None:
        """Send a whole answer."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Length": str(len(payload)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        if self.method == "HEAD":
            payload = b""
        self.sock.sendall(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + payload)

    def upgrade(self) -> None:
        """Take the connection over."""
        self.sock.sendall(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )

    def read_input(self) -> bytes:
        """Read a taken-over connection until the client closes its half."""
        found = bytearray(self.rest)
        while data := self.sock.recv(65536):
            found += data
        return bytes(found)


class FakeDaemon:
    """Listens until closed; every request is kept in :attr:`requests`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[Request] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        self._handlers: dict[tuple[str, str], Callable[[Request], object]] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(32)
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._main = threading.Thread(target=self._accept)
        self._main.start()

    def on(self, method: str, path: str, handler: Callable[[Request], object]) -> None:
        """Let a function answer a method and a path (without the version)."""
        self._handlers[method, path] = handler

    def reply(self, method: str, path: str, body: object = b"", status: int = 200) -> None:
        """Answer a method and a path with a fixed body."""
        self.on(method, path, lambda request: request.answer(status, body))

    def asked(self) -> list[str]:
        """Return what was asked, as ``METHOD /path``."""
        return [f"{one.method} {one.path}" for one in self.requests]

    def close(self) -> None:
        """Stop; a handler that failed fails the test."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._main.join()
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()
        assert not self.failures, self.failures

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        buffer = bytearray()
        try:
            while self._one(sock, buffer):
                pass
        except OSError:
            return
        except BaseException as error:  # noqa: BLE001 - reported by close()
            self.failures.append(error)

    def _one(self, sock: socket.socket, buffer: bytearray) -> bool:
        while b"\r\n\r\n" not in buffer:
            data = sock.recv(65536)
            if not data:
                return False
            buffer += data
        head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        buffer[:] = rest
        body = _body(sock, buffer, headers)
        taken_over = headers.get("upgrade") == "tcp"
        request = Request(method, target, headers, body, sock, bytes(buffer) if taken_over else b"")
        self.requests.append(request)
        handler = self._handlers.get((method, request.path))
        if handler is None:
            request.answer(404, {"message": f"no handler for {method} {request.path}"})
            return True
        handler(request)
        if taken_over:
            sock.shutdown(socket.SHUT_RDWR)
        return not taken_over


def _body(sock: socket.socket, buffer: bytearray, headers: dict[str, str]) -> bytes:
    def need(count: int) -> bytes:
        while len(buffer) < count:
            data = sock.recv(65536)
            if not data:
                raise OSError
            buffer.extend(data)
        found = bytes(buffer[:count])
        del buffer[:count]
        return found

    if headers.get("transfer-encoding") != "chunked":
        return need(int(headers.get("content-length", "0")))
    found = b""
    while True:
        line = b""
        while not line.endswith(b"\r\n"):
            line += need(1)
        size = int(line, 16)
        found += need(size)
        need(2)
        if not size:
            return found
