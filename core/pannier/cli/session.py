"""Carries bytes between this process's streams and a container's.

One loop over ``poll``: output from the daemon goes out as it comes, input goes in as fast as the
daemon takes it, and nothing is kept whole. A write to the daemon never blocks, since a container
that waits for its output to be read would then wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket

from pannier.cli.terminal import KeyWatch, RawTerminal, size
from pannier.client.frames import Demultiplexer
from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from pannier.client import Client, Stream

__all__ = ["Resizer", "Session", "Signals", "run_session", "write_all"]

_PIECE = 512 * 1024
_INPUT_PIECE = 256 * 1024
#: Signals that the container's process gets instead of this one (``--sig-proxy``). Those of job
#: control stay with the shell that started this process.
_FORWARDED = ("HUP", "INT", "QUIT", "ABRT", "USR1", "USR2", "ALRM", "TERM")
_GONE = (BrokenPipeError, ConnectionResetError)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of ``data``; a pipe may take it in parts."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Signals:
    """Turns signals into bytes on a pipe, read between other work; a context.

    :param kill: called with the name of each signal to forward; None forwards none.
    :param resize: called when the terminal's size changes; None watches for none.
    """

    def __init__(
        self,
        kill: Callable[[str], object] | None = None,
        resize: Callable[[], object] | None = None,
    ) -> None:
        self._kill = kill
        self._resize = resize
        self._saved: dict[int, object] = {}
        self._ends = (-1, -1)
        self._old_wakeup = -1

    def __enter__(self) -> Self:
        self._ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old_wakeup = signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
        if self._kill is not None:
            for name in _FORWARDED:
                self._take(signal.Signals[f"SIG{name}"], _ignore)
        if self._resize is not None:
            self._take(signal.SIGWINCH, _ignore)
            # In raw mode no signal comes from the keyboard; one from elsewhere must still leave
            # the terminal usable.
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._take(number, _leave)
        return self

    def _take(self, number: int, handler: Callable[[int, object], None]) -> None:
        self._saved[number] = signal.signal(number, handler)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._saved.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave back
        self._saved.clear()
        signal.set_wakeup_fd(self._old_wakeup)
        for end in self._ends:
            os.close(end)

    def fileno(self) -> int:
        """Return the pipe's readable end."""
        return self._ends[0]

    def handle(self) -> None:
        """Act on the signals that have arrived."""
        try:
            numbers = os.read(self._ends[0], 256)
        except BlockingIOError:
            return
        for number in dict.fromkeys(numbers):
            name = signal.Signals(number).name.removeprefix("SIG")
            try:
                if number == signal.SIGWINCH and self._resize is not None:
                    self._resize()
                elif self._kill is not None and name in _FORWARDED:
                    self._kill(name)
            except PannierError:
                # The container may have ended meanwhile; the stream will say so.
                continue


def _ignore(number: int, frame: object) -> None:
    del number, frame


def _leave(number: int, frame: object) -> None:
    del frame
    raise SystemExit(128 + number)


class Session:
    """One attachment to a container's streams.

    :param stream: the hijacked connection.
    :param raw: the stream is the terminal's own bytes, not frames of stdout and stderr.
    :param stdin: send this process's input.
    :param keys: the detach sequence to watch for.
    """

    def __init__(self, stream: Stream, *, raw: bool, stdin: bool, keys: bytes = b"") -> None:
        self._stream = stream
        self._stdin = stdin
        self._watch = KeyWatch(keys) if keys else None
        self._pending = memoryview(b"")
        self._reading = stdin
        self._feed: Callable[[memoryview], None]
        self._feed = _to_stdout if raw else Demultiplexer(_to_stream).feed
        self._buffer = bytearray(_PIECE)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    @property
    def detached(self) -> bool:
        """The user asked to leave the container running."""
        return self._watch is not None and self._watch.seen

    def copy(self, signals: Signals) -> None:
        """Copy until the daemon ends the stream.

        :raises ProtocolError: where the stream is malformed.
        :raises BrokenPipeError: when nobody reads this process's output any more.
        """
        self._feed(memoryview(self._stream.leftover))
        sock = self._stream.sock.fileno()
        poll = select.poll()
        poll.register(signals.fileno(), select.POLLIN)
        while True:
            wanted = select.POLLIN | (select.POLLOUT if self._pending else 0)
            poll.register(sock, wanted)
            if self._reading and not self._pending:
                poll.register(0, select.POLLIN)
            ready = dict(poll.poll())
            if self._reading and not self._pending:
                poll.unregister(0)
            if signals.fileno() in ready:
                signals.handle()
            if ready.get(sock, 0) & ~select.POLLOUT and not self._receive():
                return
            if ready.get(sock, 0) & select.POLLOUT:
                self._send()
            if 0 in ready:
                self._read_input()

    def _receive(self) -> bool:
        try:
            count = self._stream.sock.recv_into(self._buffer)
        except ConnectionResetError:
            return False
        self._feed(memoryview(self._buffer)[:count])
        return bool(count)

    def _read_input(self) -> None:
        try:
            data = os.read(0, _INPUT_PIECE)
        except OSError:
            # A closed stdin, or a terminal that has gone, is an end of input.
            data = b""
        if not data:
            self._reading = False
            self._stream.close_write()
            return
        if self._watch is not None:
            self._watch.feed(data)
        self._pending = memoryview(data)
        self._send()

    def _send(self) -> None:
        try:
            sent = self._stream.sock.send(self._pending, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except _GONE:
            # The process closed its input; its output still comes.
            self._reading = False
            self._pending = memoryview(b"")
            return
        self._pending = self._pending[sent:]


def _to_stdout(data: memoryview) -> None:
    write_all(1, data)


def _to_stream(number: int, data: bytes | memoryview) -> None:
    write_all(2 if number == 2 else 1, data)


class Resizer:
    """Tells the daemon the terminal's size.

    :param path: ``/containers/ID`` or ``/exec/ID``.
    """

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._path = path

    def __call__(self) -> None:
        """Send the size that the terminal has now."""
        found = size()
        if found is not None:
            query = {"h": found[0], "w": found[1]}
            self._client.request("POST", f"{self._path}/resize", query=query).read()


def run_session(
    client: Client,
    path: str,
    session: Session,
    *,
    tty: bool,
    stdin: bool,
    kill: Callable[[str], object] | None,
    begin: Callable[[], object] | None = None,
) -> None:
    """Carry a session from its start to its end, with the terminal and the signals set for it.

    :param kill: forwards a signal by name; not used with a terminal, whose keys are bytes.
    :param begin: called once signals are watched: what starts the process.
    """
    resize = Resizer(client, path) if tty and size() is not None else None
    try:
        with Signals(None if tty else kill, resize) as signals, RawTerminal(wanted=tty and stdin):
            if begin is not None:
                begin()
            if resize is not None:
                # A process that has ended already has no terminal to size.
                with contextlib.suppress(PannierError):
                    resize()
            session.copy(signals)
    finally:
        session.close()
