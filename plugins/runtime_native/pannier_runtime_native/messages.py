"""The shapes of the messages between driver, zygote, shim and init; for the type checker only.

Numbers called a *descriptor* are indexes into the descriptors that came with the message.
"""

from __future__ import annotations

from typing import TypeAlias, TypedDict

from pannier.runtimes.jobs import ExecJob, ProcessJob, Reply, SchedulingJob, StdioJob
from pannier.stdio.jobs import ConnectionJob, LogJob

__all__ = [
    "ConnectionJob",
    "ExecJob",
    "Handover",
    "HookJob",
    "Instruction",
    "Job",
    "LogJob",
    "ProcessJob",
    "Reply",
    "SchedulingJob",
    "SoloJob",
    "StdioJob",
]

Instruction: TypeAlias = "tuple[object, ...]"
"""A verb of :mod:`pannier_runtime_native.assembly`, and its arguments."""


class HookJob(TypedDict):
    """A hook: its program, its arguments (the zeroth too), and seconds, 0 for no limit."""

    path: bytes
    args: list[bytes]
    env: list[bytes]
    timeout: int


class SoloJob(TypedDict):
    """What a container without a monitor has besides.

    :param listener: the descriptor of the socket on which its start is awaited.
    :param lock: the descriptor of a file that is to be unlocked before the program executes.
    :param kept: descriptors that become the process's 3 and up.
    :param place: where its root is attached while the host's filesystem is still there; empty where
        that is left first.
    :param create_state: its state in JSON, before and behind the pid, as hooks get it;
        *start_state* later.
    :param time: a descriptor of the time namespace to join, or -1.
    :param startable: there is a program to look for.
    :param keyring: the name of a new session keyring; empty for the caller's.
    :param time_offsets: what to write to /proc/PID/timens_offsets for a new one; or empty.
    """

    listener: int
    lock: int
    kept: list[int]
    place: bytes
    create_state: tuple[bytes, bytes]
    start_state: tuple[bytes, bytes]
    create_hooks: list[HookJob]
    start_hooks: list[HookJob]
    time: int
    new_time: bool
    time_offsets: bytes
    keyring: bytes
    startable: bool


class Job(TypedDict):
    """A container to create.

    *clone_flags* are the namespaces to create, *joins* those to join, as (descriptor, flag).
    *exec_flags* are those that a process added later has to enter. *own_pids* says that the first
    process is pid 1 of a namespace, with which all others end. *procs* are the files that the
    shim writes its pid to; those that it enters by itself are in an instruction.
    """

    id: str
    folder: int
    root: int
    clone_flags: int
    joins: list[tuple[int, int]]
    exec_flags: int
    own_pids: bool
    uid_map: bytes
    gid_map: bytes
    procs: list[int]
    devices: list[tuple[bytes, int, int, int, int]]
    instructions: list[Instruction]
    process: ProcessJob
    stdio: StdioJob
    init: bool
    solo: SoloJob | None


class Handover(TypedDict):
    """A container that is handed over to its shim; *groups* cut its descriptors apart."""

    pid: int
    status: str
    own_pids: bool
    clone_flags: int
    exec_flags: int
    uid_map: bytes
    gid_map: bytes
    seccomp: bytes
    seccomp_flags: int
    terminal: bool
    stdin: bool
    stdin_once: bool
    log: LogJob | None
    clients: list[ConnectionJob]
    request: dict[str, object] | None
    groups: list[int]
