"""Starts a daemon in the background where none answers on the default socket."""

from __future__ import annotations

import os
import socket
import sys
import time

from pannier.client.errors import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["start_daemon", "wait_for_socket"]

_PATIENCE = 330.0
"""Seconds that a daemon which lives may take to answer: plugins that hang hold it up for as long as
one may (:data:`pannier.bounded.LOADING` each, [drivers] patience where it is in use)."""
_POLL = 0.01
_LOG_LINES = 8


def start_daemon(path: str, arguments: Sequence[str]) -> None:
    """Start ``python -m pannier.daemon --background`` and wait until the socket answers.

    Two command lines that start one at once are no harm: the second daemon finds the first one's
    lock and ends, and both wait for the same socket.

    :param path: the socket's path; the daemon's log lies beside it as ``daemon.log``.
    :param arguments: what to add (``--config FILE``).
    :raises ConnectionFailed: where it ended or stayed silent; the hint ends with its last lines.
    """
    folder = os.path.dirname(path) or "."  # noqa: PTH120 - pathlib costs 5 ms of every start
    log = f"{folder}/daemon.log"
    try:
        os.makedirs(folder, 0o755, exist_ok=True)  # noqa: PTH103 - as above
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        output = os.open(log, flags, 0o640)
    except OSError as error:
        raise ConnectionFailed(
            f"cannot start the daemon: {log}: {error.strerror}",
            hint="choose another socket with --config or PANNIER_HOST",
        ) from error
    try:
        pid = _spawn([sys.executable, "-m", "pannier.daemon", "--background", *arguments], output)
    finally:
        os.close(output)
    if not wait_for_socket(path, pid, _PATIENCE):
        raise ConnectionFailed(
            f"the daemon did not start: {_tail(log)}",
            hint=f"see {log}, or run it in the foreground: pannier daemon",
        )


def _spawn(command: list[str], output: int) -> int:
    """Start a detached process: a session of its own, stdin empty, output to the log."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=[],
        )
    finally:
        os.close(null)


def wait_for_socket(path: str, pid: int, seconds: float) -> bool:
    """Return True once somebody accepts at ``path``; False when time is up or ``pid`` failed.

    A process that ends with status 0 has gone to the background, or found another daemon there,
    so the wait goes on.
    """
    deadline = time.monotonic() + seconds
    ended = False
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except OSError:
                pass
            else:
                return True
        if not ended:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done and os.waitstatus_to_exitcode(status):
                return False
            ended = bool(done)
        time.sleep(_POLL)
    return False


def _tail(log: str) -> str:
    """Return the last lines of a log on one line."""
    try:
        with open(log, "rb") as file:  # noqa: PTH123 - pathlib costs 5 ms of every start
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return f"{log}: {error.strerror}"
    return (
        " | ".join(line.strip() for line in lines[-_LOG_LINES:] if line.strip()) or "it is silent"
    )
