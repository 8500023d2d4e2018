"""The shapes of what a driver and a container's monitor say to each other; for the type checker.

Numbers called a *descriptor* are indexes into the descriptors that came with the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from pannier.stdio.jobs import ConnectionJob, LogJob

__all__ = [
    "Departure",
    "Event",
    "ExecJob",
    "MonitorJob",
    "ProcessJob",
    "Reply",
    "SchedulingJob",
    "StdioJob",
]


class StdioJob(TypedDict):
    """A process's streams. *owner* is the host's uid and gid for pipes and terminal."""

    terminal: bool
    stdin: bool
    stdin_once: bool
    rows: int
    columns: int
    owner: tuple[int, int]
    log: LogJob | None


class SchedulingJob(TypedDict):
    """How a process is scheduled; None leaves a thing as it is.

    *scheduler* is policy, nice, priority, flags, and runtime, deadline, period in nanoseconds;
    *affinity* the CPUs to run on.
    """

    scheduler: tuple[int, int, int, int, int, int, int] | None
    io_priority: tuple[int, int] | None
    personality: int | None
    affinity: list[int] | None


class ProcessJob(TypedDict):
    """What to execute, and as what.

    *capabilities* are bounding, effective, permitted, inheritable and ambient names; None leaves
    all sets as they are. *apparmor* names a profile, or is empty. *seccomp* is a compiled filter,
    or empty. *tied*: it is killed when its parent ends. *scheduling* is None where nothing was
    asked for.
    """

    args: list[bytes]
    env: list[bytes]
    cwd: bytes
    uid: int
    gid: int
    groups: list[int]
    umask: int
    rlimits: list[tuple[str, int, int]]
    capabilities: tuple[list[str], list[str], list[str], list[str], list[str]] | None
    no_new_privileges: bool
    seccomp: bytes
    seccomp_flags: int
    oom_score_adj: int | None
    apparmor: bytes
    tied: bool
    scheduling: SchedulingJob | None


class ExecJob(TypedDict):
    """A process to add; *process* in the form that the driver's monitor takes."""

    exec_id: str
    process: Any
    stdio: StdioJob
    procs: list[int]
    connection: ConnectionJob | None


class Reply(TypedDict, total=False):
    """An answer: with *error* set, what went wrong (and at which step), else what was asked for."""

    error: Literal["step", "start", "hook", "conflict", "missing", "refused", "internal"]
    step: int
    errno: int
    text: str
    pid: int
    times: list[int]
    status: str
    exit_status: int
    hooks: bool
    time: int


class Event(TypedDict):
    """A process has ended: *finished* seconds after the epoch, the first one where no *exec_id*."""

    exec_id: str | None
    exit_status: int
    finished: float


class Departure(TypedDict):
    """A client has left a process by the detaching keys; the first one where no *exec_id*."""

    exec_id: str | None
    detached: bool


class MonitorJob(TypedDict):
    """A container for a new monitor to create.

    :param mechanism: ``module:class`` of what makes it, and *job* what that is told.
    :param folder: a descriptor of the container's folder.
    :param own_pids: all processes end with the first one.
    """

    mechanism: str
    id: str
    folder: int
    stdio: StdioJob
    own_pids: bool
    job: Any
