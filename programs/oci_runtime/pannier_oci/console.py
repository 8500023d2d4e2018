"""Terminals and pid files: what is handed to whoever called us."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["check_console", "send_console", "write_pid"]


def check_console(path: Path | None, *, terminal: bool, detached: bool) -> None:
    """Check that a terminal has a taker, and nobody waits for one that does not come.

    :raises InvalidRequest: it is not so.
    """
    if terminal and path is None:
        raise InvalidRequest(
            "cannot allocate tty if runtime will detach without setting console socket"
            if detached
            else "a terminal needs --console-socket",
            hint="pass --console-socket PATH, or set process.terminal to false",
        )
    if path is not None and not terminal:
        raise InvalidRequest("cannot use console socket if runtime will not allocate a tty")


def send_console(path: Path, masters: Sequence[int]) -> None:
    """Send a terminal's master to the socket that waits for it.

    :raises InvalidRequest: nobody takes it.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            # By a descriptor: a socket's path may have 108 bytes only.
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            socket.send_fds(connection, [b"/dev/pts/ptmx"], masters[:1])
    except OSError as error:
        raise InvalidRequest(f"the console socket {path}: {error.strerror}") from error
    finally:
        os.close(folder)


def write_pid(path: Path | None, pid: int) -> None:
    """Write a pid file, whole or not at all."""
    if path is None:
        return
    staged = path.parent / f".{path.name}.{os.getpid()}"
    try:
        staged.write_text(str(pid))
        staged.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise
