"""A driver's state: a folder for each container, which its monitor shares.

``shim.sock``: the monitor's socket, while it lives. ``pid``: the first process's pid, and the time
of its start in clock ticks. ``exit``: its exit status and when it came, once it has ended. Other
files are the driver's own.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from errno import ENOENT, ENOTEMPTY
from typing import TYPE_CHECKING

from pannier.errors import Conflict, DriverError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["SOCKET", "Exit", "Store", "start_time"]

SOCKET = "shim.sock"

_LOST_STATUS = 137
_PATIENCE = 60.0
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended. *finished* is in seconds since the epoch."""

    status: int
    finished: float
    lost: bool = False


class Store:
    """Finds and forgets containers by their folders.

    :param clear: kills what else there may be of a container whose monitor has ended, by its
        folder; idempotent, and called before its first process is looked for.
    """

    def __init__(self, state: Path, clear: Callable[[Path], object] | None = None) -> None:
        self._clear = clear
        self._containers = state.absolute() / "containers"
        self._containers.mkdir(mode=0o700, exist_ok=True)

    def folder(self, id: str) -> Path:
        """Return a container's folder, which need not exist.

        :raises InvalidRequest: the id cannot be a folder's name.
        """
        if not id or id.startswith(".") or "/" in id or "\0" in id:
            raise InvalidRequest(f"{id!r} is no container's id")
        return self._containers / id

    def create(self, id: str) -> Path:
        """Make a container's folder: from now on it is found and can be deleted.

        :raises Conflict: there is one.
        """
        folder = self.folder(id)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError as error:
            raise Conflict(f"the runtime has a container {id} already") from error
        return folder

    def existing(self, id: str) -> Path:
        """Return a container's folder.

        :raises NotFound: there is no such container.
        """
        folder = self.folder(id)
        if not folder.is_dir():
            raise NotFound(f"the runtime has no container {id}")
        return folder

    def ids(self) -> Iterator[str]:
        """Yield every container's id."""
        with os.scandir(self._containers) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        yield from names

    def connect(self, id: str) -> socket.socket | None:
        """Return a connection to a container's monitor; None where that has ended."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_PATIENCE)
        try:
            folder = os.open(self.folder(id), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # By the descriptor: a socket's path may have 108 bytes only.
                connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
            finally:
                os.close(folder)
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
            connection.close()
            return None
        except OSError as error:
            connection.close()
            raise DriverError(f"cannot reach the monitor of {id}: {error.strerror}") from error
        return connection

    def exit(self, id: str) -> Exit | None:
        """Return how the container ended; None where that was not written."""
        try:
            status, finished, *lost = (self.folder(id) / "exit").read_text().split()
        except FileNotFoundError:
            return None
        return Exit(int(status), float(finished), bool(lost))

    def lost(self, id: str) -> Exit:
        """Note that a monitor has ended without a word, and see to it that all else has ended.

        A first process that is killed with its monitor may live: set-uid programs escape that.
        """
        self.kill_orphan(id)
        lost = Exit(_LOST_STATUS, time.time(), lost=True)
        folder = self.folder(id)
        staged = folder / "exit.lost"
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            staged.write_text(f"{lost.status} {lost.finished!r} lost\n")
            staged.rename(folder / "exit")
        return lost

    def kill_orphan(self, id: str) -> None:
        """Kill what has lost its monitor, and await the first process's end.

        :raises DriverError: it does not end.
        """
        if self._clear is not None:
            self._clear(self.folder(id))
        try:
            pid, start = (self.folder(id) / "pid").read_text().split()
            pidfd = os.pidfd_open(int(pid))
        except (FileNotFoundError, ProcessLookupError):
            return
        try:
            if start_time(int(pid)) != int(start):
                return  # the pid is another process's by now
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(_PATIENCE * 1000):
                raise DriverError(f"the first process of {id} does not end, although killed")
        finally:
            os.close(pidfd)

    def remove(self, id: str) -> None:
        """Remove a container's folder. Idempotent.

        :raises DriverError: it does not stay empty.
        """
        folder = self.folder(id)
        for _ in range(_TRIES):
            try:
                shutil.rmtree(folder)
            except OSError as error:
                # A monitor that is just ending may remove a last file, or have made one.
                if error.errno not in (ENOENT, ENOTEMPTY):
                    raise
            if not folder.exists():
                return
        raise DriverError(f"the folder {folder} cannot be removed")


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since the boot; -1 where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - procfs
            return int(file.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return -1
