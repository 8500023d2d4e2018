"""How a created container awaits its start: a socket to start it by, and a lock that shows it.

``start.sock``: where the first process awaits its start; nobody listens there any more once
somebody has started it. ``start.lock``: locked by the first process until its program is about to
be executed. The lock is there to be asked for: that disturbs nobody, and needs no answer of a
process that may be frozen or busy.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from typing import TYPE_CHECKING

from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PATIENCE", "connect", "is_awaited", "listen", "lock"]

PATIENCE = 10.0
"""For how many seconds a first process may leave a start unanswered."""

_SOCKET = "start.sock"
_LOCK = "start.lock"
_BACKLOG = 16


def listen(folder: Path) -> int:
    """Return the socket at which a container's start is to be awaited."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        with _at(folder) as path:
            listener.bind(path)
        listener.listen(_BACKLOG)
        return listener.detach()


def connect(folder: Path) -> socket.socket | None:
    """Return a connection to a first process that awaits its start; None where none does.

    Each of its operations may take ``PATIENCE``.

    :raises DriverError: it accepts no more connections.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nor may this block: the kernel answers EAGAIN where too many wait to be accepted.
    connection.settimeout(PATIENCE)
    try:
        with _at(folder) as path:
            connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
        connection.close()
        return None
    except BlockingIOError as error:
        connection.close()
        raise DriverError("the container's first process does not answer") from error
    except OSError as error:
        connection.close()
        raise DriverError(f"cannot reach the container's process: {error.strerror}") from error
    return connection


@contextlib.contextmanager
def _at(folder: Path) -> Iterator[str]:
    # By a descriptor: a socket's path may have 108 bytes only.
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{_SOCKET}"
    finally:
        os.close(descriptor)


def lock(folder: Path) -> int:
    """Return what is locked as long as anybody has it open, or until it is unlocked: flock(2)."""
    descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def is_awaited(folder: Path) -> bool:
    """Whether the start is still awaited, or hooks run before the program does."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two that ask at the same time do not take each other for the first process.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
