"""The driver's end of the zygote: starting it, and having it fork shims."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from errno import EACCES
from pathlib import Path

import pannier
from pannier.errors import DriverError
from pannier.linux.sealed import sealed_copy

__all__ = ["ZygoteSupply"]

# Our package is put together by hand: its own __init__ would load the plugin machinery. The paths
# come from us because the interpreter runs isolated, without the site module.
_BOOT = """\
import sys
_, number, core, plugin = sys.argv
sys.path.insert(0, core)
package = type(sys)("pannier_runtime_native")
package.__path__ = [plugin]
sys.modules[package.__name__] = package
from pannier_runtime_native.zygote import main
main(int(number))
"""
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
        interpreter = getattr(sys, "_base_executable", None) or sys.executable
        try:
            # Not the host's file: a container that gets at it through /proc must not write there.
            copy = sealed_copy(interpreter, "pannier")
        except OSError as error:
            ours.close()
            theirs.close()
            raise _copy_failed(error) from error
        try:
            self._process = subprocess.Popen(
                [
                    interpreter,
                    *("-I", "-S", "-X", "utf8", "-c", _BOOT, str(theirs.fileno())),
                    str(Path(pannier.__file__).parents[1]),
                    str(Path(__file__).parent),
                ],
                executable=f"/proc/self/fd/{copy}",
                stdin=subprocess.DEVNULL,
                pass_fds=(copy, theirs.fileno()),
                env=_environment(),
                start_new_session=True,
                cwd="/",
            )
        finally:
            os.close(copy)
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


def _environment() -> dict[str, str]:
    """Return where the interpreter's own library is, which it cannot find from a copy of itself."""
    folder = Path(sys.base_prefix, "lib")
    if folder.parent in {Path("/usr"), Path("/usr/local")} or not any(folder.glob("libpython*")):
        return {}
    return {"LD_LIBRARY_PATH": str(folder)}


def _copy_failed(error: OSError) -> DriverError:
    hint = None
    if error.errno == EACCES:
        hint = "sysctl vm.memfd_noexec=1 or 0 allows executable copies in memory"
    return DriverError(f"cannot copy the interpreter into memory: {error.strerror}", hint=hint)
