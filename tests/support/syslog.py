"""A syslog server of a test's own, on a unix socket."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Server"]


class Server:
    """A thread that reads from everyone who connects."""

    def __init__(self, path: Path, kind: socket.SocketKind) -> None:
        self._path = path
        self._kind = kind
        self._received: list[bytes] = []
        self._start()

    @property
    def address(self) -> str:
        """As the driver's option has it."""
        scheme = "unix" if self._kind == socket.SOCK_STREAM else "unixgram"
        return f"{scheme}://{self._path}"

    def lines(self) -> list[bytes]:
        """Return the text of each message, behind its header."""
        return [message.partition(b"]: ")[2] for message in tuple(self._received)]

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Be away for a while, with all connections cut."""
        self.close()
        yield
        self._start()

    def _start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._end, self._ended = socket.socketpair()
        self._listener = socket.socket(socket.AF_UNIX, self._kind)
        self._listener.bind(str(self._path))
        if self._kind == socket.SOCK_STREAM:
            self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and close every connection."""
        self._end.close()
        self._thread.join()

    def _serve(self) -> None:
        streams: dict[socket.socket, bytes] = {}
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            for own in (self._listener, self._ended):
                selector.register(stack.enter_context(own), selectors.EVENT_READ)
            while self._ended not in (ready := [key.fileobj for key, _ in selector.select()]):
                for one in ready:
                    assert isinstance(one, socket.socket)
                    if one in streams:
                        self._read(one, streams, selector)
                    elif self._kind == socket.SOCK_DGRAM:
                        self._received.append(one.recv(1 << 20))
                    else:
                        connection = stack.enter_context(one.accept()[0])
                        selector.register(connection, selectors.EVENT_READ)
                        streams[connection] = b""

    def _read(
        self,
        connection: socket.socket,
        streams: dict[socket.socket, bytes],
        selector: selectors.BaseSelector,
    ) -> None:
        """Take messages from a stream, where each ends with a newline (RFC 6587, 3.4.2)."""
        data = connection.recv(1 << 16)
        *whole, streams[connection] = (streams[connection] + data).split(b"\n")
        self._received += whole
        if not data:
            selector.unregister(connection)
            connection.close()
            del streams[connection]
