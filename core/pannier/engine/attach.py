"""Attaching clients to containers: their sockets are handed to whatever holds the streams."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import termios
import time
from dataclasses import dataclass, replace
from string import ascii_lowercase
from typing import TYPE_CHECKING, Final, Literal, Self

from pannier.drivers.runtime import Connection
from pannier.engine.model import Status
from pannier.engine.sessions import LogOptions
from pannier.engine.workers import uninterrupted
from pannier.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.engine.launching import Launcher
    from pannier.engine.logs import Logs
    from pannier.engine.registry import Live
    from pannier.engine.sessions import AttachOptions
    from pannier.engine.telling import Teller
    from pannier.engine.workers import Workers

__all__ = ["Attaching", "detach_sequence"]

_Outcome = Literal["attached", "kept", "ended"]
_Since = tuple[_Outcome, int]
"""What became of a client, and from when on it has the output; 0 where that does not matter."""

DEFAULT_KEYS = "ctrl-p,ctrl-q"
_KEYS: Final = {f"ctrl-{sign}": ord(sign.upper()) - 64 for sign in "@[\\]^_" + ascii_lowercase}
_KEYS["DEL"] = 127
_PATIENCE = 60_000
"""Milliseconds that a client may take to read on, while a log is replayed to it."""

_HEAD_PATIENCE = 2.0
_HEAD_PAUSE = 0.0005
"""Seconds that a client may take to read the head of the answer; then a log is replayed anyway."""


def detach_sequence(keys: str | None) -> bytes:
    r"""Return the bytes of a detach sequence such as ``ctrl-p,ctrl-q``; None is that default.

    :param keys: signs, or ``ctrl-`` with a lower-case letter or one of ``@[\]^_``, or ``DEL``, as
        Docker has them; an empty text is none.
    :raises InvalidRequest: it is malformed.
    """
    found = bytearray()
    if keys == "":
        return b""
    for key in (DEFAULT_KEYS if keys is None else keys).split(","):
        if len(key) == 1 and key.isascii():
            found.append(ord(key))
        elif key in _KEYS:
            found.append(_KEYS[key])
        else:
            raise InvalidRequest(f"Invalid detach keys ({keys}) provided")
    return bytes(found)


@dataclass(slots=True)
class Attaching:
    """Attaches clients."""

    launcher: Launcher
    logs: Logs
    teller: Teller
    workers: Workers

    @uninterrupted
    async def attach(
        self,
        live: Live,
        options: AttachOptions,
        socket_fd: int,
        pending: bytes,
        announce: Callable[[], None],
    ) -> None:
        """Hand a client's socket over; the caller's descriptor stays the caller's.

        Who is told to be attached takes part in what comes from then on. A log that is replayed
        comes before that, and goes on in it without a gap.

        Of a container that does not run, the client is kept until it starts, so that it misses
        nothing. Of one that has just ended it sees the end, and no error.

        :param announce: tells the client that it is attached, before there is output.
        :raises Conflict: it is paused.
        """
        keys = detach_sequence(options.detach_keys)
        if live.container.state.status is Status.PAUSED:
            raise Conflict(
                f"container {live.container.id} is paused, unpause the container before attach"
            )
        stdin = options.stdin and live.container.config.open_stdin
        with _Gate() as gate:
            connection = Connection(
                socket=os.dup(socket_fd),
                stdin=stdin,
                stdout=options.stdout,
                stderr=options.stderr,
                pending=pending,
                detach_keys=keys if stdin and live.container.config.tty else b"",
                framed=False if options.raw else None,
                gate=gate.descriptor,
            )
            kept = False
            try:
                kept = await self._serve(live, options, connection, announce)
            finally:
                if not kept:
                    os.close(connection.socket)

    async def _serve(
        self,
        live: Live,
        options: AttachOptions,
        connection: Connection,
        announce: Callable[[], None],
    ) -> bool:
        """Attach a client behind its gate; return whether it is kept for the start."""
        streams = options.stream and (connection.stdin or connection.stdout or connection.stderr)
        # Before the first start there is no log. Looking for one would take until after that
        # start, if the client asks for it next, and its first output would be lost.
        logs = options.logs and live.container.state.status is not Status.CREATED
        if logs and not (streams and live.container.state.running):
            announce()
            # Without the lock: a slow client must not hold up the container.
            await self.workers.bulk(self._replay, live, options, connection.socket)
            logs = False
        # Before the client can leave again, of which its runtime tells.
        self.teller.container(live.container, "attach")
        outcome: _Outcome = "ended"
        since = 0
        if streams:
            async with live.lock:
                outcome, since = await self._hand_over(live, connection)
                announce()
        if logs:
            # What came since waits at the gate.
            await self.workers.bulk(self._replay, live, options, connection.socket, since)
        if outcome == "ended":
            announce()
            await self.workers.run(_finish, connection.socket)
        return outcome == "kept"

    async def _hand_over(self, live: Live, connection: Connection) -> _Since:
        container = live.container
        if not container.state.running:
            live.pending.append(replace(connection, gate=-1))
            return "kept", 0
        runtime = self.launcher.runtime(container)
        try:
            since = await self.workers.run(runtime.attach, container.id, connection)
        except Conflict:
            return "ended", 0  # and the news of it is on its way
        return "attached", since

    def _replay(self, live: Live, options: AttachOptions, target: int, until: int = 0) -> None:
        _await_reader(target)
        wanted = LogOptions(stdout=options.stdout, stderr=options.stderr, until=until)
        for chunk in self.logs.frames(live.container, wanted, raw=options.raw):
            _write_all(target, chunk)


class _Gate:
    """A pipe at which a client's output waits until this block is left, by whatever way."""

    def __init__(self) -> None:
        self.descriptor, self._opening = os.pipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._opening)
        os.close(self.descriptor)


def _await_reader(target: int) -> None:
    """Wait a moment until the client has taken the head of the answer.

    docker-py and others read the head through a buffer and what follows from the bare socket: what
    arrives together with the head is lost to them. Nothing tells when a peer has read; the kernel
    only tells how much is unread (SIOCOUTQ, unix(7)).
    """
    deadline = time.monotonic() + _HEAD_PATIENCE
    unread = bytearray(4)
    while time.monotonic() < deadline:
        fcntl.ioctl(target, termios.TIOCOUTQ, unread)
        if not any(unread):
            return
        time.sleep(_HEAD_PAUSE)


def _write_all(target: int, data: bytes) -> None:
    """Write to a socket that may be non-blocking, as the server's are."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(target, select.POLLOUT)
            if not poll.poll(_PATIENCE):
                raise TimeoutError("the client does not read what it asked for") from None


def _finish(target: int) -> None:
    with contextlib.suppress(OSError):
        client = socket.socket(fileno=os.dup(target))
        with client:
            client.shutdown(socket.SHUT_WR)
