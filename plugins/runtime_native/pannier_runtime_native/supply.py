"""The driver's end of the zygote: starting it, and having it fork shims."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading

from pannier.errors import DriverError
from pannier.runtimes.sealing import start_sealed

__all__ = ["ZygoteSupply"]

_PATIENCE = 20.0


class ZygoteSupply:
    """Keeps a zygote, and starts another when it has died. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    @property
    def pid(self) -> int:
        """The zygote's pid; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def spawn(self) -> socket.socket:
        """Return a connection to a new shim.

        :raises DriverError: no zygote could be started.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            for _ in range(2):
                zygote = self._running()
                try:
                    socket.send_fds(zygote, [b"f"], [theirs.fileno()], socket.MSG_NOSIGNAL)
                except OSError:
                    self._discard(zygote)
                else:
                    return ours
        ours.close()
        raise DriverError("the helper process that starts containers keeps ending")

    def _running(self) -> socket.socket:
        with self._lock:
            if self._socket is None:
                self._start()
            assert self._socket is not None
            return self._socket

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = start_sealed(
                "pannier_runtime_native.zygote", theirs, packages=("pannier_runtime_native",)
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours
        ours.settimeout(_PATIENCE)
        answer = ours.recv(1024)
        ours.settimeout(None)
        if answer != b"ready":
            self._forget()
            raise DriverError(
                "the helper process that starts containers could not set itself up: "
                + (answer.decode() or "it ended")
            )

    def _discard(self, zygote: socket.socket) -> None:
        with self._lock:
            if self._socket is zygote:  # else another thread has seen to it
                self._forget()

    def _forget(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            # It ends with its socket.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
            self._process = None

    def start(self) -> None:
        """Have a zygote at hand.

        :raises DriverError: it could not be started.
        """
        self._running()

    def try_namespaces(self) -> str:
        """Have the zygote try namespaces; return what stood in the way, or nothing.

        :raises DriverError: no zygote could be started.
        """
        zygote = self._running()
        zygote.settimeout(_PATIENCE)
        try:
            zygote.send(b"t")
            answer = zygote.recv(1024)
        finally:
            zygote.settimeout(None)
        return "" if answer == b"ready" else answer.decode() or "the helper process ended"

    def close(self) -> None:
        """End the zygote; shims go on."""
        with self._lock:
            self._forget()
