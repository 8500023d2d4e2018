"""Stopping and going on: ``admin-guide/cgroup-v1/freezer-subsystem.rst``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pannier.errors import DriverError, NotFound, UnsupportedOperation
from pannier.linux.cgroupfs import write_file

if TYPE_CHECKING:
    from pannier_cgroup_v1.group import Group

__all__ = ["freeze", "thaw"]

_TIMEOUT = 10.0
_SHORTEST_PAUSE = 0.0002
_LONGEST_PAUSE = 0.01


def freeze(group: Group) -> None:
    """Stop every process of the group, and return once all have stopped.

    :raises DriverError: one did not stop in ten seconds; the group goes on.
    """
    path = _path(group)
    deadline = time.monotonic() + _TIMEOUT
    pause = _SHORTEST_PAUSE
    # This file cannot be polled for, and a process that forks while it is being frozen may leave
    # the group FREEZING until it is told again.
    while True:
        write_file(path, "FROZEN")
        if group.read("freezer", "freezer.state") == "FROZEN":
            return
        if time.monotonic() > deadline:
            write_file(path, "THAWED")
            raise DriverError(
                f"the group {group.name} could not be frozen within {_TIMEOUT:.0f} s",
                hint="a process waits for a disk or a network filesystem; try again",
            )
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def thaw(group: Group) -> None:
    """Let a frozen group go on. Idempotent."""
    write_file(_path(group), "THAWED")


def _path(group: Group) -> str:
    folder = group.path("freezer")
    if folder is None:
        raise UnsupportedOperation(
            "a group cannot be frozen: no freezer hierarchy of cgroup v1 is mounted",
            hint="mount -t cgroup -o freezer none /sys/fs/cgroup/freezer",
        )
    if group.read("freezer", "freezer.state") is None:
        raise NotFound(f"there is no group {group.name}")
    return f"{folder}/freezer.state"
