"""How the shim makes a container's first process: namespaces, id maps, control group, streams."""

from __future__ import annotations

import _socket
import os
import stat
import time

from pannier.linux import mounts
from pannier.linux.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_PARENT,
    setns,
)
from pannier.linux.process import clone, die_with_parent
from pannier.runtimes.channel import receive, send
from pannier.stdio.small import signal, suppress
from pannier_runtime_native import init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier_runtime_native.messages import Job, Reply

__all__ = [
    "CLONE",
    "GROUPS",
    "INSTRUCTIONS",
    "MAPS",
    "USUAL_NAMESPACES",
    "Prepared",
    "StepError",
    "create",
    "prepare",
]

CLONE, MAPS, GROUPS, INSTRUCTIONS = 0, 1, 2, 3
"""The number of each step that is taken here; those of the instructions follow."""

USUAL_NAMESPACES = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET
"""What nearly every container wants (its cgroup namespace is made later)."""

_MOST_DESCRIPTORS = 1 << 20
_NAMES = {0x40000000: "net", 0x04000000: "uts", 0x08000000: "ipc", 0x02000000: "cgroup"}


class StepError(Exception):
    """A step has failed, here or in the first process.

    :param step: its number; -1 where it was none of the listed ones.
    """

    def __init__(self, step: int, number: int, text: str) -> None:
        super().__init__(text)
        self.step = step
        self.number = number
        self.text = text


class _Step:
    """Takes a step's time; an OSError that ends it becomes a :class:`StepError`."""

    __slots__ = ("_begin", "_step", "_times")

    def __init__(self, step: int, times: list[int]) -> None:
        self._step = step
        self._times = times
        self._begin = time.monotonic_ns()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise StepError(self._step, error.errno or 0, str(error)) from error
        self._times += (self._begin, time.monotonic_ns())


def _clone_joined(job: Job, descriptors: list[int], family: int) -> int:
    """Clone from within the namespaces to join, which are handed on by that.

    Before the clone, because a process in a new user namespace may not join what belongs to the
    old one. A pid namespace holds for children only, and may stay.
    """
    if any(flag == CLONE_NEWUSER for _, flag in job["joins"]):
        return _clone_in_between(job, descriptors)
    homes: list[int] = []
    pid = -1
    try:
        for index, flag in job["joins"]:
            if flag != CLONE_NEWPID:
                own = f"/proc/self/ns/{_NAMES[flag]}"
                homes.append(os.open(own, os.O_RDONLY | os.O_CLOEXEC))
            setns(descriptors[index], flag)
        pid = clone(job["clone_flags"] | family)
    finally:
        if pid:
            for home in homes:
                setns(home)
                os.close(home)
    return pid


def _clone_in_between(job: Job, descriptors: list[int]) -> int:
    """Do the same by a process in between: who joins a user namespace does not come back.

    The clone is a sibling of that process, and so our own child as well.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    between = os.fork()
    if not between:
        os.close(reading)
        try:
            # That one last: what belongs to us could not be joined from within.
            for index, flag in sorted(job["joins"], key=_is_user):
                setns(descriptors[index], flag)
            pid = clone(job["clone_flags"] | CLONE_PARENT)
            if not pid:
                return 0
            os.write(writing, b"%d" % pid)
        except OSError as error:
            os.write(writing, b"%d" % -(error.errno or 0))
        os._exit(0)
    os.close(writing)
    answer = os.read(reading, 32)
    os.close(reading)
    os.waitpid(between, 0)
    pid = int(answer or b"0")
    if pid <= 0:
        raise OSError(-pid, os.strerror(-pid), "namespaces")
    return pid


def _is_user(join: tuple[int, int]) -> bool:
    return join[1] == CLONE_NEWUSER


def _device_nodes(job: Job, descriptors: list[int]) -> None:
    """Make the nodes for a container whose user namespace may make none, on a tmpfs of its own."""
    context = mounts.fsopen("tmpfs")
    try:
        mounts.fsconfig_set(context, "mode", "0755")
        mounts.fsconfig_create(context)
        folder = mounts.fsmount(context, mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOEXEC)
    finally:
        os.close(context)
    for number, (_, mode, device, uid, gid) in enumerate(job["devices"]):
        name = str(number)
        os.mknod(name, mode, device, dir_fd=folder)
        os.chown(name, uid, gid, dir_fd=folder)
        os.chmod(name, stat.S_IMODE(mode), dir_fd=folder)
    descriptors.append(folder)


class Prepared:
    """A first process in the usual namespaces, which waits to be told what to become."""

    __slots__ = ("pid", "socket")

    def __init__(self, pid: int, connection: _socket.socket) -> None:
        self.pid = pid
        self.socket = connection

    def suits(self, job: Job) -> bool:
        """Whether it can become this container's."""
        return job["clone_flags"] == USUAL_NAMESPACES and not job["joins"]

    def discard(self) -> None:
        """Be rid of it."""
        self.socket.close()
        os.kill(self.pid, signal.SIGKILL)


def prepare(family: int) -> Prepared | None:
    """Make a first process ahead of time; None where the namespaces are refused."""
    ours, theirs = _socket.socketpair()
    try:
        pid = clone(USUAL_NAMESPACES | family)
    except OSError:
        return None
    if pid:
        theirs.close()
        return Prepared(pid, ours)
    try:
        ours.close()
        own = theirs.fileno()
        os.closerange(3, own)
        os.closerange(own + 1, _MOST_DESCRIPTORS)
        die_with_parent()
        message = receive(theirs)
        if message is not None:
            (job, ends), descriptors = message
            cut = len(descriptors) - ends
            init.run(job, descriptors[:cut], theirs, descriptors[cut:])
    finally:
        os._exit(1)


def _begin(
    job: Job, descriptors: list[int], ends: list[int], prepared: Prepared | None, family: int
) -> tuple[int, _socket.socket]:
    if prepared is not None and prepared.suits(job):
        send(prepared.socket, (job, len(ends)), [*descriptors, *ends])
        return prepared.pid, prepared.socket
    if prepared is not None:
        prepared.discard()
    ours, theirs = _socket.socketpair()
    if job["devices"]:
        _device_nodes(job, descriptors)
    pid = _clone_joined(job, descriptors, family)
    if not pid:
        ours.close()
        init.run(job, descriptors, theirs, ends)
    theirs.close()
    return pid, ours


def create(
    job: Job,
    descriptors: list[int],
    ends: list[int],
    prepared: Prepared | None,
    family: int,
    *,
    run_hooks: Callable[[int], None] | None = None,
) -> tuple[int, _socket.socket, Reply, list[int]]:
    """Make the first process, up to where it waits for the start.

    *family* is CLONE_PARENT for a sibling of ours; *prepared* is taken where it suits; *run_hooks*
    is called with the pid where an instruction asks for the runtime's hooks. Return its pid, our
    end of its socket, its answer with the steps' times, and the descriptors that came with it (the
    terminal's master).

    :raises StepError: nothing of it is left then.
    """
    times: list[int] = []
    with _Step(CLONE, times):
        pid, ours = _begin(job, descriptors, ends, prepared, family)
    try:
        _settle(job, descriptors, pid, ours, times)
        reply, received = _await_ready(ours)
        if "hooks" in reply:
            assert run_hooks is not None
            run_hooks(pid)
            ours.send(init.HOOKED)
            reply, received = _await_ready(ours)
    except BaseException:
        ours.close()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        raise
    return pid, ours, {"pid": pid, "times": times + reply["times"]}, received


def _await_ready(child: _socket.socket) -> tuple[Reply, list[int]]:
    answer = receive(child)
    if answer is None:
        raise StepError(-1, 0, "the container's first process has ended too early")
    reply, received = answer
    if "error" in reply:
        step = reply["step"]
        step = step + INSTRUCTIONS if step >= 0 else step
        raise StepError(step, reply["errno"], reply["text"])
    return reply, received


def _settle(
    job: Job, descriptors: list[int], pid: int, child: _socket.socket, times: list[int]
) -> None:
    with _Step(MAPS, times):
        if job["uid_map"]:
            _write(f"/proc/{pid}/uid_map", job["uid_map"])
            _write(f"/proc/{pid}/gid_map", job["gid_map"])
            child.send(init.MAPPED)
        score = job["process"]["oom_score_adj"]
        if score is not None:
            _write(f"/proc/{pid}/oom_score_adj", b"%d" % score)
    with _Step(GROUPS, times):
        # While the child is at its mounts: moving a process waits for other processors.
        for index in job["procs"]:
            os.write(descriptors[index], b"%d" % pid)
        if job["procs"]:
            with suppress(OSError):  # the child has failed, and tells why
                child.send(init.PLACED)


def _write(path: str, value: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)
