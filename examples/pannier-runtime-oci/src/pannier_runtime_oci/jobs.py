"""The shapes of what the driver says to the mechanism in a container's monitor.

Numbers called a *descriptor* are indexes into the descriptors that came with the message.
"""

from __future__ import annotations

from typing import TypedDict

__all__ = ["BindJob", "ContainerJob", "GroupsJob"]


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
    :param config: the bundle's ``config.json``.
    :param root: a descriptor of the root, a detached mount.
    :param group: the name of the control group that is the runtime's own.
    :param procs: descriptors of the files that the first process's id is written to.
    :param own_cgroups: it has a cgroup namespace of its own.
    """

    runtime: str
    config: str
    root: int
    group: str
    procs: list[int]
    binds: list[BindJob]
    groups: GroupsJob | None
    own_cgroups: bool
