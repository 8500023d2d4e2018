"""A client's connection to a process's streams, and what is kept for it until it reads.

Much output is in the log file first, and goes from there to the client without passing through
this process (sendfile(2)).
"""

from __future__ import annotations

import _socket
import fcntl
import os
import time
from errno import EIO

from pannier.stdio.small import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.stdio.jobs import ConnectionJob

__all__ = ["STDERR", "STDOUT", "Client", "Stored"]

STDOUT = 1
STDERR = 2

_FLAGS = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL
_MOST_PARTS = 64
_PIECE = 1 << 16
_TIOCOUTQ = 0x5411  # termios has it, in a module that costs a monitor's memory
_HEAD_PATIENCE = 10.0
_NOTHING = bytes(4)


class Stored:
    """Output that lies in a file, which nobody changes there.

    :ivar descriptor: of the file; its owner says for how long it is open.
    """

    __slots__ = ("descriptor", "length", "offset")

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self.length = length

    def __len__(self) -> int:
        return self.length

    def send(self, to: int) -> int:
        """Send what a socket takes; return how much that was.

        :raises BlockingIOError: it takes nothing now.
        :raises OSError: the socket's peer has gone, or the file was cut.
        """
        sent = os.sendfile(to, self.descriptor, self.offset, self.length)
        if not sent:
            raise OSError(EIO, "the log file was cut")
        return sent

    def rest(self, sent: int) -> Stored:
        """Return what follows the first *sent* bytes, of a descriptor of its own."""
        return Stored(os.dup(self.descriptor), self.offset + sent, self.length - sent)


class Client:
    """A client's connection.

    Output waits a moment until the client has taken the head of the HTTP answer: docker-py and
    others read the head through a buffer and what follows from the bare socket, so that what
    arrives together with the head is lost to them. Nothing tells when a peer has read; the kernel
    only tells how much is unread (SIOCOUTQ, unix(7)).

    :ivar gate: nothing is sent before this descriptor polls readable; -1 once it has.
    :ivar fresh: until when, on the monotonic clock, the head may be unread; 0 once it is read.
    :ivar pause: seconds to wait before looking again; 0 while nothing is to be sent.
    """

    __slots__ = (
        "backlog",
        "framed",
        "fresh",
        "gate",
        "held",
        "keys",
        "pause",
        "reading",
        "size",
        "socket",
        "stdin",
        "streams",
    )

    def __init__(
        self, job: ConnectionJob, descriptor: int, *, terminal: bool, gate: int = -1
    ) -> None:
        self.socket = _socket.socket(fileno=descriptor)
        self.socket.setblocking(False)  # sendfile(2) has no flag for it
        self.stdin = job["stdin"]
        self.streams = (STDOUT if job["stdout"] else 0) | (STDERR if job["stderr"] else 0)
        self.keys = job["detach_keys"]
        framed = job["framed"]
        self.framed = not terminal if framed is None else framed
        self.held = b""
        self.backlog: list[memoryview | Stored] = []
        self.size = 0
        self.reading = True
        self.gate = gate
        self.fresh = time.monotonic() + _HEAD_PATIENCE
        self.pause = 0.0

    @property
    def waiting(self) -> bool:
        """Whether the gate is shut, or the head may be unread still."""
        if self.gate >= 0:
            return True
        if self.fresh:
            unread = fcntl.ioctl(self.socket.fileno(), _TIOCOUTQ, _NOTHING)
            if unread == _NOTHING or time.monotonic() > self.fresh:
                self.fresh = 0.0
        return bool(self.fresh)

    def push(self, header: bytes, data: memoryview | Stored) -> None:
        """Send a chunk, or keep what the socket does not take.

        :raises OSError: the client has gone.
        """
        sent = 0
        if not self.backlog and not self.waiting:
            with suppress(BlockingIOError):
                if isinstance(data, Stored):
                    if header:
                        sent = self.socket.send(header, _FLAGS)
                    if sent == len(header):
                        sent += data.send(self.socket.fileno())
                else:
                    sent = self.socket.sendmsg((header, data), (), _FLAGS)
        if sent < len(header):
            self._keep(memoryview(header[sent:]))
        sent = max(sent - len(header), 0)
        if sent < len(data):
            rest = data.rest(sent) if isinstance(data, Stored) else memoryview(bytes(data[sent:]))
            self._keep(rest)

    def _keep(self, rest: memoryview | Stored) -> None:
        self.backlog.append(rest)
        self.size += len(rest)

    def flush(self) -> None:
        """Send what was kept, as far as the socket takes it.

        :raises OSError: the client has gone.
        """
        with suppress(BlockingIOError):
            while self.backlog:
                self._shorten(self._send_kept())

    def _send_kept(self) -> int:
        first = self.backlog[0]
        if isinstance(first, Stored):
            return first.send(self.socket.fileno())
        parts = []
        for piece in self.backlog[:_MOST_PARTS]:
            if isinstance(piece, Stored):
                break
            parts.append(piece)
        return self.socket.sendmsg(parts, (), _FLAGS)

    def _shorten(self, sent: int) -> None:
        self.size -= sent
        while self.backlog and sent >= len(self.backlog[0]):
            first = self.backlog.pop(0)
            sent -= len(first)
            if isinstance(first, Stored):
                os.close(first.descriptor)
        if sent:
            first = self.backlog[0]
            if isinstance(first, Stored):
                first.offset += sent
                first.length -= sent
            else:
                self.backlog[0] = first[sent:]

    def open(self) -> None:
        """Have output sent from now on, once the head was read."""
        os.close(self.gate)
        self.gate = -1
        self.fresh = time.monotonic() + _HEAD_PATIENCE

    def forget(self) -> None:
        """Let go of what was kept."""
        for piece in self.backlog:
            if isinstance(piece, Stored):
                os.close(piece.descriptor)
        self.backlog.clear()
        self.size = 0

    def close(self) -> None:
        """End the connection so that nothing sent is lost."""
        self.forget()
        with suppress(OSError):
            # Closed with input unread, the kernel would reset the connection.
            while self.socket.recv(_PIECE, _socket.MSG_DONTWAIT):
                pass
        with suppress(OSError):
            self.socket.shutdown(_socket.SHUT_WR)
        self.socket.close()
