"""The container's first process, from clone to execve."""

from __future__ import annotations

import os
import time

from pannier.linux.apparmor import confine
from pannier.linux.namespaces import CLONE_NEWUSER
from pannier.linux.process import close_all_from, die_with_parent, set_name
from pannier.linux.terminal import become_controlling
from pannier.linux.title import set_title
from pannier.runtimes.channel import send
from pannier.runtimes.launch import (
    become,
    execute,
    failure_of,
    limit,
    limit_descriptors,
    look_for,
    take_streams,
    wanted_directory,
)
from pannier.stdio.small import signal
from pannier_runtime_native.assembly import Assembly

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import NoReturn

    from pannier_runtime_native.messages import Job, SoloJob

__all__ = ["GO", "HOOKED", "KEPT", "MAPPED", "PLACED", "run"]

MAPPED = b"m"
"""The parent has written the user namespace's maps."""

PLACED = b"g"
"""The parent has put us into our control groups; not said where it has none to put us into."""

GO = b"s"
"""The container is started."""

HOOKED = b"h"
"""The hooks that run outside have run."""

KEPT = b"k"
"""The container's state is written: from now on it lives by itself, without its parent."""

_FAILED = 255

_INIT = "/sbin/docker-init"
"""What a container's own init is called, as scripts know it."""


class _ParentGoneError(Exception):
    """The shim has ended while we waited for it: so must we."""


def _await(parent: _socket.socket, word: bytes) -> None:
    if parent.recv(1) != word:
        raise _ParentGoneError


def run(job: Job, descriptors: list[int], parent: _socket.socket, streams: list[int]) -> NoReturn:
    """Be the container's first process; *streams* are empty where a terminal is to be made."""
    step = -1
    tied = job["process"]["tied"]
    try:
        if tied:
            die_with_parent()
        if _become_root(job, parent) and tied:
            die_with_parent()
        times: list[int] = []
        assembly = _assembly(job, descriptors, parent)
        for instruction in job["instructions"]:
            step += 1
            begin = time.monotonic_ns()
            assembly.run(*instruction)  # type: ignore[arg-type] # a verb comes first
            times += (begin, time.monotonic_ns())
        step = -1
        _let_go(job, descriptors, (parent.fileno(), *streams), assembly)
        wanted_directory(job["process"]["cwd"])
        if job["solo"] is not None and job["solo"]["startable"]:
            look_for(job["process"])  # create says so, as clients of runc expect
        limit(job["process"])
        os.setsid()
        if job["stdio"]["terminal"]:
            become_controlling(assembly.slave)
            streams = [assembly.slave] * 3
            os.fchown(assembly.slave, job["process"]["uid"], -1)
            send(parent, {"times": times}, [assembly.master])
        else:
            send(parent, {"times": times})
        if job["solo"] is not None:
            parent, streams = _play_solo(job["solo"], descriptors, parent, streams)
        else:
            _await(parent, GO)
    except _ParentGoneError:
        os._exit(_FAILED)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent tells it
        _report(parent, error, step)
    _finish(job, parent, streams, assembly.attribute)


def _become_root(job: Job, parent: _socket.socket) -> bool:
    """Be the root of the user namespace that we are in by now; return whether it is a new one."""
    if job["uid_map"]:
        _await(parent, MAPPED)
    elif not any(flag == CLONE_NEWUSER for _, flag in job["joins"]):
        return False
    os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    return True


def _assembly(job: Job, descriptors: list[int], parent: _socket.socket) -> Assembly:
    def await_group() -> None:
        if job["procs"]:
            _await(parent, PLACED)

    def await_hooks() -> None:
        send(parent, {"hooks": True})
        _await(parent, HOOKED)

    if job["solo"] is None:
        return Assembly(job, descriptors, await_group)
    # Loaded in those processes only that make containers without a monitor.
    from pannier_runtime_native.soloist import SoloAssembly  # noqa: PLC0415

    return SoloAssembly(job, job["solo"], descriptors, await_group, await_hooks)


def _let_go(job: Job, descriptors: list[int], needed: tuple[int, ...], assembly: Assembly) -> None:
    """Close what the container was made of: folders of the host's are among it.

    From here on paths are looked up in the container, and hooks of its own are run.
    """
    solo = job["solo"]
    later = (
        []
        if solo is None
        else [descriptors[n] for n in (solo["listener"], solo["lock"], *solo["kept"])]
    )
    terminal = (assembly.master, assembly.slave)
    close_all_from(3, (*needed, *later, *terminal, assembly.attribute))


def _play_solo(
    solo: SoloJob, descriptors: list[int], parent: _socket.socket, streams: list[int]
) -> tuple[_socket.socket, list[int]]:
    """Let go of the parent, and return with whom has started the container instead."""
    from pannier_runtime_native import soloist  # noqa: PLC0415 - as above

    _await(parent, KEPT)
    parent.close()
    parent = soloist.await_start(descriptors[solo["listener"]], GO)
    try:
        soloist.run_start_hooks(solo)
        soloist.unlock(descriptors[solo["lock"]])
        return soloist.lift(parent, streams, [descriptors[index] for index in solo["kept"]])
    except soloist.HookError as error:
        _report(parent, error, -1, "hook")
    except BaseException as error:  # noqa: BLE001 - told to whom has started it
        _report(parent, error, -1)


def _finish(job: Job, parent: _socket.socket, streams: list[int], attribute: int) -> NoReturn:
    try:
        if attribute >= 0:
            # Behind the hooks, which are not the container's program.
            confine(attribute, job["process"]["apparmor"])
        # The parent's socket is closed by execve, which is how the parent learns of it.
        take_streams((streams[0], streams[1], streams[2]), streams[3:], parent.fileno())
        limit_descriptors(job["process"])
        become(job["process"])
        if job["init"]:
            _supervise(job, parent)
        execute(job["process"])
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent tells it
        _report(parent, error, -1)


def _report(
    parent: _socket.socket, error: BaseException, step: int, kind: str = "step"
) -> NoReturn:
    number, text = failure_of(error)
    try:
        send(parent, {"error": kind, "step": step, "errno": number, "text": text})
    finally:
        os._exit(_FAILED)


def _supervise(job: Job, parent: _socket.socket) -> None:
    """Stay as pid 1, which passes signals on and reaps; return in a child that is to execute."""
    everything = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if job["stdio"]["terminal"]:
            os.setpgid(0, 0)
            _take_foreground()
        return
    parent.close()
    os.closerange(3, max(64, parent.fileno() + 1))
    _disguise(job)
    while True:
        number = signal.sigwait(everything)
        if number == signal.SIGCHLD:
            _reap(child)
        else:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                continue


def _disguise(job: Job) -> None:
    """Show what Docker's init does: nothing of the host's interpreter is the container's business.

    The environment is the container's, as programs read it from pid 1.
    """
    process = job["process"]
    set_name(_INIT.rpartition("/")[2])
    try:
        set_title([_INIT.encode(), b"--", *process["args"]], process["env"])
    except OSError:
        return  # a container without /proc shows nobody anything


def _take_foreground() -> None:
    # Else a job-control shell would be stopped at its first read: it is not pid 1's group.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)


def _reap(child: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
