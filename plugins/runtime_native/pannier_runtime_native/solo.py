"""The helper of a container without a monitor: makes it, or adds a process to it, and ends.

Such a container is the command line's: its caller's streams are the container's own, and whoever
its parent is by then (podman's conmon, or init) reaps it. The helper is started anew for each, from
a sealed copy of the interpreter, because it becomes the container's first process by a fork.
"""

from __future__ import annotations

import _socket
import os
import stat

from pannier.linux import mounts
from pannier.linux.namespaces import (
    CLONE_NEWNS,
    CLONE_NEWTIME,
    setns,
    unshare,
)
from pannier.linux.process import join_session_keyring
from pannier.linux.terminal import set_size
from pannier.runtimes import scheduling
from pannier.runtimes.channel import receive, send
from pannier.stdio.small import signal, suppress
from pannier_runtime_native import init, joining, soloist
from pannier_runtime_native.creation import StepError, create
from pannier_runtime_native.departure import become_helper, leave_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier_runtime_native.messages import ExecJob, Job, Reply, SoloJob

__all__ = ["AGREED", "loaded", "main"]

AGREED = b"a"
"""The command line sends this byte: hooks have run; then: the container's state is written."""

loaded = (scheduling, soloist)
"""At hand before the filesystem that they come from is left."""

_MOST_DESCRIPTORS = 1 << 20


class _GoneError(Exception):
    """The command line has ended: so do we, and what we were making."""


def main(number: int) -> None:
    """Take one request from the command line's end of this socket, and carry it out."""
    os.closerange(3, number)
    os.closerange(number + 1, _MOST_DESCRIPTORS)
    os.set_inheritable(number, False)
    connection = _socket.socket(fileno=number)
    become_helper("pannier-runtime")
    message = receive(connection)
    if message is None:
        return
    request, descriptors = message
    try:
        if request["do"] == "create":
            _create(connection, request["job"], descriptors, request["streams"])
        else:
            _exec(connection, request, descriptors)
    except StepError as error:
        _fail(connection, "step", error.number, error.text, error.step)
    except _GoneError:
        pass
    except OSError as error:
        _fail(connection, "internal", error.errno or 0, str(error))
    except Exception as error:  # noqa: BLE001 - told to the command line
        _fail(connection, "internal", 0, f"{type(error).__name__}: {error}")


def _fail(connection: _socket.socket, kind: str, number: int, text: str, step: int = -1) -> None:
    with suppress(OSError):
        send(connection, {"error": kind, "step": step, "errno": number, "text": text})


def _agree(connection: _socket.socket) -> None:
    if connection.recv(1) != AGREED:
        raise _GoneError


# ---- a container


def _create(connection: _socket.socket, job: Job, descriptors: list[int], streams: int) -> None:
    solo = job["solo"]
    assert solo is not None
    if solo["place"]:
        # Its hooks are found in the host's filesystem: that stays around it until the very end.
        unshare(CLONE_NEWNS)
        mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    else:
        leave_host()
    _enter_time(solo, descriptors)
    if solo["keyring"]:
        join_session_keyring(b"_ses." + solo["keyring"])

    def run_hooks(pid: int) -> None:
        send(connection, {"hooks": True, "pid": pid})
        _agree(connection)

    cut = len(descriptors) - streams
    sent, ends = descriptors[:cut], descriptors[cut:]
    _give(ends, job["stdio"]["owner"])
    pid, child, reply, received = create(job, sent, ends, None, 0, run_hooks=run_hooks)
    try:
        stdio = job["stdio"]
        if received and (stdio["rows"] or stdio["columns"]):
            set_size(received[0], stdio["rows"], stdio["columns"])
        send(connection, reply, received)
        _agree(connection)
        child.send(init.KEPT)
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        raise


def _give(streams: list[int], owner: tuple[int, int]) -> None:
    """Let /dev/stdout and the others be opened by whoever the process runs as."""
    if owner == (0, 0):
        return
    for stream in streams:
        if stat.S_ISFIFO(os.fstat(stream).st_mode):
            with suppress(OSError):  # a pipe of another user namespace's
                os.fchown(stream, *owner)


def _enter_time(solo: SoloJob, descriptors: list[int]) -> None:
    """Have children be in another time namespace; its clocks are set before the first is."""
    if solo["time"] >= 0:
        setns(descriptors[solo["time"]], CLONE_NEWTIME)
    if solo["new_time"]:
        unshare(CLONE_NEWTIME)
        if solo["time_offsets"]:
            _write("/proc/self/timens_offsets", solo["time_offsets"])


def _write(path: str, value: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)


# ---- a process that is added to one


def _await_executed(between: _socket.socket) -> tuple[int, list[int], Reply | None]:
    """Return the pid of the process that is added, its terminal's master, and why it has failed."""
    pid = 0
    master: list[int] = []
    while (answer := receive(between)) is not None:
        reply, received = answer
        if "error" in reply:
            return pid, master, reply
        if "pid" not in reply:
            master = received
        elif not pid and joining.is_child(reply["pid"]):
            pid = reply["pid"]
    if not pid:
        return 0, [], {"error": "start", "errno": 0, "text": "the process has ended too early"}
    return pid, master, None


def _exec(connection: _socket.socket, request: Any, descriptors: list[int]) -> None:
    job: ExecJob = request["job"]
    container = descriptors[request["container"]]
    namespaces = request["namespaces"]
    if request["keyring"]:
        join_session_keyring(b"_ses." + request["keyring"])
    kept = [descriptors[index] for index in request["kept"]]
    cut = len(descriptors) - request["streams"]
    streams = descriptors[cut:]
    _give(streams, job["stdio"]["owner"])
    if request["initial"] is not None:
        os.sched_setaffinity(0, request["initial"])
    ours, theirs = _socket.socketpair()
    between = os.fork()
    if not between:
        theirs, streams = soloist.lift(theirs, streams, kept)
        joining.run(job, descriptors, container, namespaces, theirs, streams)
    theirs.close()
    pid, master, refusal = _await_executed(ours)
    os.waitpid(between, 0)
    if refusal is not None:
        if pid:
            os.waitpid(pid, 0)
        _fail(connection, "start", refusal["errno"], refusal["text"])
        return
    process = os.pidfd_open(pid)
    send(connection, {"pid": pid}, [process, *master])
    if not request["detach"]:
        for descriptor in [*descriptors, process, *master]:
            os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        send(connection, {"exit_status": code if code >= 0 else 128 - code})
