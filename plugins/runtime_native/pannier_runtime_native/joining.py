"""A process that is added to a running container: from fork to execve."""

from __future__ import annotations

import os

from pannier.linux.apparmor import confine, open_attribute
from pannier.linux.namespaces import CLONE_NEWPID, CLONE_NEWUSER, CLONE_PARENT, setns
from pannier.linux.process import clone, close_all_from
from pannier.linux.terminal import become_controlling, open_master, open_slave, set_size
from pannier.runtimes.channel import send
from pannier.runtimes.launch import (
    become,
    execute,
    failure_of,
    limit,
    limit_descriptors,
    take_streams,
    wanted_directory,
)
from pannier.stdio.small import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import NoReturn

    from pannier_runtime_native.messages import ExecJob, ProcessJob, StdioJob

__all__ = ["is_child", "run"]

_FAILED = 255


def run(  # noqa: PLR0917 - all of it is of the fork's moment
    job: ExecJob,
    descriptors: list[int],
    container: int,
    namespaces: int,
    parent: _socket.socket,
    streams: list[int],
) -> NoReturn:
    """Enter the container of the process behind the pidfd *container*; have the process born there.

    This is a process in between, outside the container's pid namespace: what a container may look
    into (with CAP_SYS_PTRACE) has its root, and no folder of the host's, from its first moment on.
    The one that is added is our sibling; its pid is the first that *parent* is told.
    """
    try:
        signal.set_wakeup_fd(-1)
        _enter(job["process"], container, namespaces)
        groups = [descriptors[index] for index in job["procs"]]
        close_all_from(3, (parent.fileno(), *streams, *groups))
        wanted_directory(job["process"]["cwd"])
        pid = clone(CLONE_PARENT)
        if not pid:
            _become_added(job, parent, streams, groups)
        send(parent, {"pid": pid})
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent tells it
        _fail(parent, error)
    os._exit(0)


def is_child(pid: int) -> bool:
    """Whether a process is a child of ours: a container could have had a hand in what we are told.

    It may have ended, but not been waited for.
    """
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _enter(process: ProcessJob, container: int, namespaces: int) -> None:
    if process["oom_score_adj"] is not None:
        _write_score(process["oom_score_adj"])
    if process["apparmor"]:
        _confine(process["apparmor"])  # children inherit it
    if namespaces & CLONE_NEWPID:
        # First: it may belong to another user namespace than the container's own.
        setns(container, CLONE_NEWPID)
    setns(container, namespaces & ~CLONE_NEWPID)
    if namespaces & CLONE_NEWUSER:
        os.setgroups(())
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)


def _become_added(
    job: ExecJob, parent: _socket.socket, streams: list[int], groups: list[int]
) -> NoReturn:
    """Be the process that is added.

    :param groups: the files of the container's own groups, which lead nowhere else. Entered only
        now: a group that is full refuses a fork in it, but nobody who moves in.
    """
    process = job["process"]
    try:
        for group in groups:
            os.write(group, b"0")
            os.close(group)
        os.setsid()
        if job["stdio"]["terminal"]:
            kept = streams[3:]
            streams = [_terminal(job["stdio"], process["uid"], parent)] * 3 + kept
        limit(process)
        # The parent's socket is closed by execve, which is how the parent learns of it.
        take_streams((streams[0], streams[1], streams[2]), streams[3:], parent.fileno())
        limit_descriptors(process)
        become(process)
        execute(process)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent tells it
        _fail(parent, error)


def _fail(parent: _socket.socket, error: BaseException) -> NoReturn:
    number, text = failure_of(error)
    try:
        send(parent, {"error": "start", "errno": number, "text": text})
    finally:
        os._exit(_FAILED)


def _confine(profile: bytes) -> None:
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    attribute = open_attribute(proc)
    confine(attribute, profile)
    os.close(attribute)
    os.close(proc)


def _write_score(score: int) -> None:
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    os.write(descriptor, b"%d" % score)
    os.close(descriptor)


def _terminal(stdio: StdioJob, uid: int, parent: _socket.socket) -> int:
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    master = open_master(root)
    slave = open_slave(master)
    become_controlling(slave)
    os.fchown(slave, uid, -1)
    if stdio["rows"] or stdio["columns"]:
        set_size(slave, stdio["rows"], stdio["columns"])
    send(parent, {}, [master])
    return slave
