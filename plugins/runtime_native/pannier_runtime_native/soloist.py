"""The first process of a container without a monitor: what it does beyond others.

It runs the hooks that the specification wants in the container's namespaces, and waits for its
start not for a parent of ours, of which none is left by then, but at a socket in the state.
"""

from __future__ import annotations

import _socket
import fcntl
import os

from pannier.linux import mounts
from pannier.linux.apparmor import open_attribute
from pannier.stdio.small import signal, suppress
from pannier_runtime_native.assembly import Assembly
from pannier_runtime_native.hooks import HookError, run_hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from pannier_runtime_native.messages import HookJob, Job, SoloJob

__all__ = [
    "TAKEN",
    "HookError",
    "SoloAssembly",
    "await_start",
    "lift",
    "run_start_hooks",
    "unlock",
]

TAKEN = b"t"
"""The answer to the first that starts the container; another gets none."""

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_PATIENCE = 10.0
_ROOM = 16


class SoloAssembly(Assembly):
    """The instructions that there are in such a container only."""

    def __init__(
        self,
        job: Job,
        solo: SoloJob,
        descriptors: list[int],
        await_group: Callable[[], None],
        await_hooks: Callable[[], None],
    ) -> None:
        super().__init__(job, descriptors, await_group)
        self._solo = solo
        self._await_hooks = await_hooks
        if solo["place"]:
            self._null_path = "/dev/null"

    def do_root(self) -> None:
        """Attach the root: where the bundle has it, if hooks are to find it there."""
        if self._solo["place"]:
            mounts.move_mount(self._root, os.fsdecode(self._solo["place"]))
        else:
            super().do_root()

    def do_outer_hooks(self) -> None:
        """Have the runtime run its hooks: everything is mounted, and the root not yet entered."""
        self._await_hooks()

    def do_confinement(self) -> None:
        """Open what our AppArmor profile is to be written to, in a procfs of our own."""
        self.attribute = open_attribute(self.procfs())

    def do_inner_hooks(self) -> None:
        """Run the hooks that run in our namespaces, and are found in the host's filesystem."""
        _run("createContainer", self._solo["create_hooks"], self._solo["create_state"])


def run_start_hooks(solo: SoloJob) -> None:
    """Run the hooks that run in the container, right before its program."""
    _run("startContainer", solo["start_hooks"], solo["start_state"])


def _run(kind: str, hooks: list[HookJob], state_parts: tuple[bytes, bytes]) -> None:
    before, behind = state_parts
    # Its own pid as it sees it: so do other runtimes.
    state = before + b"%d" % os.getpid() + behind
    for hook in hooks:
        run_hook(kind, hook, state)


def await_start(listener: int, go: bytes) -> _socket.socket:
    """Wait until somebody says *go*; return the connection, which execve closes.

    Nobody is listened to from then on: what runs before the program does may take long.
    As pid 1 we would not hear the signals that end others: we end by them as if we were none.
    """
    listening = _socket.socket(fileno=listener)
    for number in _ENDING:
        signal.signal(number, _end)
    while True:
        accepted, _ = listening._accept()  # type: ignore[attr-defined] # noqa: SLF001 - not in the stubs
        connection = _socket.socket(fileno=accepted)
        connection.settimeout(_PATIENCE)
        with suppress(OSError):
            # Who has given up waiting for us is gone, and what it asked for is not done.
            if connection.recv(1) == go:
                connection.send(TAKEN)
                connection.settimeout(None)
                listening.close()
                for number in _ENDING:
                    signal.signal(number, signal.SIG_DFL)
                return connection
        connection.close()


def unlock(descriptor: int) -> None:
    """Show that the program runs from now on: flock(2)."""
    # Execve would do it by closing the file, but perhaps only after the caller has heard of it.
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _end(number: int, _: object) -> NoReturn:
    os._exit(128 + number)


def lift(
    connection: _socket.socket, streams: list[int], kept: list[int]
) -> tuple[_socket.socket, list[int]]:
    """Move what is needed until execve away from the numbers that the process is to have.

    :param streams: empty where a terminal is to be made; the three are named -1 then.
    """
    if not kept:
        return connection, streams
    first = 3 + len(kept) + _ROOM
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, first) for descriptor in kept]
    own = fcntl.fcntl(connection.fileno(), fcntl.F_DUPFD_CLOEXEC, first)
    connection.close()
    return _socket.socket(fileno=own), [*(streams or [-1, -1, -1]), *moved]
