"""The shapes of what the driver and a container's monitor say to each other.

Numbers called a *descriptor* are indexes into the descriptors that came with the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from pannier.stdio.jobs import ConnectionJob, LogJob

__all__ = ["BindJob", "ContainerJob", "Event", "ExecJob", "GroupsJob", "Reply", "StdioJob"]


class StdioJob(TypedDict):
    """A process's streams."""

    terminal: bool
    stdin: bool
    stdin_once: bool
    log: LogJob | None


class BindJob(TypedDict):
    """A descriptor of a detached mount, and where it is attached: a path below the bundle."""

    tree: int
    place: str


class GroupsJob(TypedDict):
    """What is to be shown below /sys/fs/cgroup: groups, each a bind of its own, and links."""

    groups: list[BindJob]
    links: dict[str, str]


class ContainerJob(TypedDict):
    """A container to create.

    :param runtime: the program's path.
    :param folder: a descriptor of the bundle, which has its ``config.json``; *root* likewise.
    :param group: the name of the control group that is the runtime's own.
    :param procs: descriptors of the files that the first process's id is written to.
    :param own_pids: all processes end with the first one.
    :param own_cgroups: it has a cgroup namespace of its own.
    """

    id: str
    runtime: str
    folder: int
    root: int
    group: str
    procs: list[int]
    binds: list[BindJob]
    groups: GroupsJob | None
    own_pids: bool
    own_cgroups: bool
    stdio: StdioJob


class ExecJob(TypedDict):
    """A process to add; *process* is JSON, as the specification has it."""

    exec_id: str
    process: str
    stdio: StdioJob
    procs: list[int]
    client: ConnectionJob | None


class Event(TypedDict):
    """A process has ended: *finished* seconds after the epoch, the first one where no *exec_id*."""

    exec_id: str | None
    exit_status: int
    finished: float


class Reply(TypedDict, total=False):
    """An answer: with *error* set, what went wrong, else what was asked for."""

    error: Literal["start", "conflict", "missing", "refused"]
    text: str
    errno: int
    pid: int
    status: Literal["created", "running"]
