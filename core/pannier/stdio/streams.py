"""A process's streams: output to the log and to the clients, the clients' input to the process.

Framing is the Docker Engine API's attach: raw with a terminal, else an 8-byte header before each
chunk, unless the client asked for the other. A client that does not read holds the process back,
as a terminal would; one that has gone is dropped. What was read is never lost.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import struct
from errno import EIO
from sys import byteorder

from pannier.stdio.clients import STDERR, STDOUT, Client, Stored
from pannier.stdio.loop import GONE, READ, WRITE
from pannier.stdio.small import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.stdio.jobs import ConnectionJob
    from pannier.stdio.log import LogFile
    from pannier.stdio.loop import Loop

__all__ = ["STDERR", "STDOUT", "Streams"]

_FRAME = struct.Struct(">BxxxI")
_SMALL = 1 << 16  # a pipe's usual size
_LARGE = 1 << 20  # the largest an ordinary user may make one, and the log's longest record
_F_SETPIPE_SZ = 1031
_FIONREAD = 0x541B
_BACKLOG = 1 << 18
_TERMINAL_PAUSE = 0.1
_DRAIN = 1.0
_LINGER = 60.0
_HEAD_PAUSES = (0.0005, 0.02)


class Streams:
    """The streams of one process, from its start until all of its output is delivered.

    :param terminal: the one source is a pseudo-terminal's master.
    :param held: read nothing before :meth:`release`.
    :param close_stdin: the process's stdin closes with the input of the first client that has one.
    :param detached: called when a client leaves by its keys, before its connection ends.
    """

    __slots__ = (
        "_buffer",
        "_clients",
        "_close_stdin",
        "_detached",
        "_exited",
        "_held",
        "_input",
        "_log",
        "_loop",
        "_on_drained",
        "_pending",
        "_sources",
        "_stdin",
        "_stdin_ending",
        "_terminal",
    )

    def __init__(
        self,
        loop: Loop,
        *,
        terminal: bool,
        close_stdin: bool,
        log: LogFile | None,
        held: bool = False,
        detached: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._terminal = terminal
        self._close_stdin = close_stdin
        self._detached = detached
        self._log = log
        self._sources: dict[int, int] = {}
        self._clients: list[Client] = []
        self._buffer = bytearray()
        self._stdin = -1
        self._stdin_ending = False
        self._input: list[memoryview] = []
        self._pending: list[tuple[Client, bytes]] = []
        self._exited = False
        self._held = held
        self._on_drained: Callable[[], None] | None = None

    # ---- the process's side

    def add_source(self, descriptor: int, stream: int) -> None:
        """Read output from here. The descriptor is closed at its end."""
        os.set_blocking(descriptor, False)
        self._sources[descriptor] = stream
        self._watch_sources()

    def set_stdin(self, descriptor: int) -> None:
        """Write input there."""
        os.set_blocking(descriptor, False)
        self._stdin = descriptor

    @property
    def master(self) -> int:
        """The terminal's descriptor; -1 without one."""
        return next(iter(self._sources), -1) if self._terminal else -1

    def finish(self, on_drained: Callable[[], None], *, alone: bool) -> None:
        """Read what is left of the output of the process, which has ended; then call back.

        :param alone: nobody else can hold its output open, so an end is sure to come.
        """
        self._exited = True
        self._on_drained = on_drained
        self._drop_stdin()
        self._watch_sources()
        if not self._sources:
            self._drained()
        elif not alone:
            self._loop.call_later(_DRAIN, self._give_up)

    def _give_up(self) -> None:
        for descriptor in list(self._sources):
            self._end_source(descriptor)

    def release(self) -> None:
        """Begin to read."""
        self._held = False
        self._watch_sources()

    def discard(self) -> None:
        """Close everything; there was no process after all."""
        self._exited = True
        self._drop_stdin()
        self._give_up()

    def _watch_sources(self) -> None:
        if self._held:
            return
        held = 0
        if not self._exited:
            # After its end there is no process to hold back, and a pipe holds little.
            for client in self._clients:
                if client.size > _BACKLOG:
                    held |= client.streams
        for descriptor, stream in self._sources.items():
            if held & stream:
                self._loop.unwatch(descriptor)
            else:
                self._watch_source(descriptor)

    def _watch_source(self, descriptor: int) -> None:
        events = READ
        if self._input and descriptor == self._stdin:
            events |= WRITE
        self._loop.watch(descriptor, events, lambda got: self._on_source(descriptor, got))

    def _on_source(self, descriptor: int, events: int) -> None:
        if events & WRITE:
            self._write_input()
        if not events & ~WRITE or descriptor not in self._sources:
            return
        if len(self._buffer) == _LARGE and self._relay(descriptor):
            return
        if not self._buffer:
            self._buffer = bytearray(_SMALL)
        try:
            length = os.readv(descriptor, (self._buffer,))
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != EIO:
                raise
            if not self._exited:
                # Nobody has the terminal open just now; the process may open it again.
                self._loop.unwatch(descriptor)
                self._loop.call_later(_TERMINAL_PAUSE, self._watch_sources)
                return
            length = 0
        if not length:
            self._end_source(descriptor)
            return
        self._publish(self._sources[descriptor], memoryview(self._buffer)[:length])
        self._resize_buffer(descriptor, length)

    def _relay(self, descriptor: int) -> bool:
        # A pipe's content goes to the log, and from there to the clients, and never comes here.
        if self._log is None:
            return False
        length = int.from_bytes(fcntl.ioctl(descriptor, _FIONREAD, bytes(4)), byteorder)
        if length < _SMALL:
            return False
        stream = self._sources[descriptor]
        stored = self._log.take(stream, descriptor, min(length, _LARGE))
        if stored is None:
            return False
        self._deliver(stream, stored)
        return True

    def _resize_buffer(self, descriptor: int, length: int) -> None:
        # Much output: larger pipe and buffer, so fewer calls. Little: give the memory back.
        if length < _SMALL:
            if len(self._buffer) > _SMALL:
                self._buffer = bytearray()
        elif len(self._buffer) == _SMALL and not self._terminal:
            self._buffer = bytearray(_LARGE)
            with suppress(OSError):
                fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _LARGE)

    def _publish(self, stream: int, data: memoryview) -> None:
        if self._log is not None:
            self._log.write(stream, data)
        self._deliver(stream, data)

    def _deliver(self, stream: int, data: memoryview | Stored) -> None:
        header = _FRAME.pack(stream, len(data))
        held = False
        for client in list(self._clients):
            if not client.streams & stream:
                continue
            before = client.size
            try:
                client.push(header if client.framed else b"", data)
            except OSError:
                self._drop(client)
                continue
            if client.size and not before:
                self._watch_client(client)
            held = held or client.size > _BACKLOG
        if held:
            self._watch_sources()

    def _end_source(self, descriptor: int) -> None:
        del self._sources[descriptor]
        self._loop.unwatch(descriptor)
        if descriptor == self._stdin:
            self._stdin = -1
        os.close(descriptor)
        if not self._sources and self._exited:
            self._drained()

    def _drained(self) -> None:
        self._buffer = bytearray()
        callback, self._on_drained = self._on_drained, None
        if callback is not None:
            # Before the clients are let go: one that sees its end may at once ask for the status.
            callback()
        for client in list(self._clients):
            if client.backlog or client.gate >= 0:
                self._watch_client(client)
            else:
                self._drop(client)
        if self._clients:
            self._loop.call_later(_LINGER, self._drop_all)

    # ---- the clients' side

    @property
    def busy(self) -> bool:
        """Whether clients are still being served."""
        return bool(self._clients)

    def attach(self, job: ConnectionJob, descriptor: int, gate: int = -1) -> None:
        """Serve a client; the descriptors are ours from now on.

        :param gate: send it nothing before this polls readable; -1 for none.
        """
        client = Client(job, descriptor, terminal=self._terminal, gate=gate)
        self._clients.append(client)
        self._watch_client(client)
        if gate >= 0:
            self._loop.watch(gate, READ, lambda _: self._open_gate(client))
        if job["pending"]:
            self._pending.append((client, job["pending"]))
            self.deliver_pending()

    def deliver_pending(self) -> None:
        """Pass on what clients had sent before they came, as soon as there is a stdin."""
        if self._stdin >= 0:
            pending, self._pending = self._pending, []
            for client, data in pending:
                self._take(client, data)

    def _open_gate(self, client: Client) -> None:
        self._loop.unwatch(client.gate)
        client.open()
        self._flushed(client)
        if client.backlog:
            self._watch_client(client)

    def _drop(self, client: Client) -> None:
        if client not in self._clients:
            return
        self._clients.remove(client)
        if client.gate >= 0:
            self._loop.unwatch(client.gate)
            client.open()
        self._loop.unwatch(client.socket.fileno())
        client.close()
        if client.stdin and self._close_stdin:
            self._end_stdin()
        self._watch_sources()

    def abandon(self) -> None:
        """Let go of all clients, and of what was kept for them."""
        for client in self._clients:
            client.forget()
        self._drop_all()

    def _drop_all(self) -> None:
        for client in list(self._clients):
            self._drop(client)

    def _watch_client(self, client: Client) -> None:
        events = 0
        if client.gate >= 0:
            pass
        elif client.fresh and client.backlog:
            # It is writable already, so polling would not wait.
            if not client.pause:
                client.pause = _HEAD_PAUSES[0]
                self._loop.call_later(client.pause, lambda: self._look_again(client))
        elif client.backlog:
            events |= WRITE
        # Input waits in the socket while the process does not take what it has been given.
        if client.reading and not (client.stdin and self._input):
            events |= READ
        self._loop.watch(client.socket.fileno(), events, lambda got: self._on_client(client, got))

    def _on_client(self, client: Client, events: int) -> None:
        try:
            if events & WRITE:
                client.flush()
                self._flushed(client)
            if events & READ:
                self._read_input(client)
            elif events & GONE:
                self._drop(client)
        except OSError:
            self._drop(client)

    def _look_again(self, client: Client) -> None:
        if client not in self._clients:
            return
        if client.waiting:
            client.pause = min(2 * client.pause, _HEAD_PAUSES[1])
            self._loop.call_later(client.pause, lambda: self._look_again(client))
        else:
            self._watch_client(client)

    def _flushed(self, client: Client) -> None:
        if client.backlog:
            return
        done = not (client.reading or client.streams)
        if done or (self._exited and not self._sources):
            self._drop(client)
            return
        self._watch_client(client)
        self._watch_sources()

    def _read_input(self, client: Client) -> None:
        if client not in self._clients:
            return
        try:
            data = client.socket.recv(_SMALL, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if data:
            self._take(client, data)
            return
        if client.stdin and (self._terminal or not self._close_stdin):
            # The process does not learn of this end. As Docker has it, the client is done then.
            self._leave(client)
            return
        client.reading = False
        self._watch_client(client)
        if client.stdin:
            self._end_stdin()

    def _leave(self, client: Client) -> None:
        """Have a client end, once it has what waits for it."""
        client.reading = False
        client.streams = 0
        if client.backlog or client.gate >= 0:
            self._watch_client(client)
            self._watch_sources()
        else:
            self._drop(client)

    def _take(self, client: Client, data: bytes) -> None:
        detached = False
        if client.keys and self._terminal:
            data, client.held, detached = _scan(client.held + data, client.keys)
        if data and client.stdin and self._stdin >= 0 and not self._stdin_ending:
            self._input.append(memoryview(data))
            self._write_input()
        if detached:
            if self._detached is not None:
                # Before the connection ends: who sees that may at once look for the event.
                self._detached()
            self._leave(client)

    def _write_input(self) -> None:
        try:
            while self._input:
                written = os.write(self._stdin, self._input[0])
                if written == len(self._input[0]):
                    del self._input[0]
                else:
                    self._input[0] = self._input[0][written:]
        except BlockingIOError:
            pass
        except OSError:
            # The process has closed its end, or is gone: its input goes nowhere.
            self._input.clear()
            self._drop_stdin()
        if self._stdin_ending and not self._input:
            self._drop_stdin()
        self._watch_input()

    def _watch_input(self) -> None:
        if self._stdin in self._sources:
            self._watch_sources()
        elif self._stdin >= 0:
            if self._input:
                self._loop.watch(self._stdin, WRITE, lambda _: self._write_input())
            else:
                self._loop.unwatch(self._stdin)
        for client in self._clients:
            if client.stdin:
                self._watch_client(client)

    def _end_stdin(self) -> None:
        if self._terminal:
            return  # a terminal stays, for the next client
        self._stdin_ending = True
        if not self._input:
            self._drop_stdin()

    def _drop_stdin(self) -> None:
        if self._stdin >= 0 and not self._terminal:
            self._loop.unwatch(self._stdin)
            os.close(self._stdin)
            self._stdin = -1
        if self._exited:
            self._input.clear()


def _scan(data: bytes, keys: bytes) -> tuple[bytes, bytes, bool]:
    """Look for the detaching keys; return what to pass on, what to hold back, whether they came.

    A beginning of the keys at the end of *data* is held back until more tells.
    """
    found = data.find(keys)
    if found >= 0:
        return data[:found], b"", True
    for length in range(min(len(keys) - 1, len(data)), 0, -1):
        if data.endswith(keys[:length]):
            return data[:-length], data[-length:], False
    return data, b"", False
