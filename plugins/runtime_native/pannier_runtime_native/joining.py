"""A process that is added to a running container: from fork to execve."""

from __future__ import annotations

import os

from pannier.linux.apparmor import confine, open_attribute
from pannier.linux.namespaces import CLONE_NEWUSER, setns
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

    from pannier_runtime_native.messages import ExecJob, StdioJob

__all__ = ["run"]

_FAILED = 255


def run(  # noqa: PLR0917 - all of it is of the fork's moment
    job: ExecJob,
    descriptors: list[int],
    container: int,
    namespaces: int,
    parent: _socket.socket,
    streams: list[int],
) -> NoReturn:
    """Enter the container of the process behind the pidfd *container*, and execute.

    The pid namespace was entered by the fork: the shim's children are in the container's.
    """
    try:
        signal.set_wakeup_fd(-1)
        process = job["process"]
        for index in job["procs"]:
            os.write(descriptors[index], b"0")
        if process["oom_score_adj"] is not None:
            _write_score(process["oom_score_adj"])
        if process["apparmor"]:
            _confine(process["apparmor"])
        setns(container, namespaces)
        if namespaces & CLONE_NEWUSER:
            os.setgroups(())
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        os.setsid()
        if job["stdio"]["terminal"]:
            kept = streams[3:]
            streams = [_terminal(job["stdio"], process["uid"], parent)] * 3 + kept
        limit(process)
        # The parent's socket is closed by execve, which is how the parent learns of it.
        take_streams((streams[0], streams[1], streams[2]), streams[3:], parent.fileno())
        limit_descriptors(process)
        wanted_directory(process["cwd"])
        become(process)
        execute(process)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent tells it
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
