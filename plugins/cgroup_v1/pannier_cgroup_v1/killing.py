"""Killing a whole group, forking and frozen processes included."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from pannier.errors import DriverError, NotFound
from pannier.linux.cgroupfs import kill_processes, processes
from pannier_cgroup_v1.controllers import freezer

if TYPE_CHECKING:
    from pannier_cgroup_v1.group import Group

__all__ = ["kill_group"]

_TIMEOUT: Final = 10.0
_ROUND: Final = 0.5


def kill_group(group: Group) -> None:
    """Kill every process of the group and wait until they have ended. Idempotent.

    :raises DriverError: one did not end in ten seconds.
    """
    deadline = time.monotonic() + _TIMEOUT
    while left := group.pids():
        if time.monotonic() > deadline:
            raise DriverError(
                f"processes of the group {group.name} do not end: {left[:5]}",
                hint="they wait for a disk or a network filesystem; try again later",
            )
        _kill_frozen(group)
        for path in group.paths():
            kill_processes(path, _ROUND)


def _kill_frozen(group: Group) -> None:
    """Signal all while none can fork, nor end and leave its number to a stranger.

    Thawing also lets those go on, and end, that a user had frozen.
    """
    folder = group.path("freezer")
    if folder is None:
        return
    try:
        freezer.freeze(group)
        for pid in processes(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    except (DriverError, NotFound):
        pass  # what cannot be frozen is killed without
    finally:
        with contextlib.suppress(NotFound, OSError):
            freezer.thaw(group)
