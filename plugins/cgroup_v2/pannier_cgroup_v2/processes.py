"""Freezing and killing all that is in a group."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from pannier.errors import DriverError, NotFound
from pannier.linux.cgroupfs import kill_processes, processes, wait_for_event, write_file

if TYPE_CHECKING:
    from pannier_cgroup_v2.group import Group

__all__ = ["freeze", "kill", "thaw"]

_TIMEOUT: Final = 10.0
_ROUND: Final = 0.5


def freeze(group: Group) -> None:
    """Stop every process, and return once the kernel says that all have stopped.

    :raises NotFound: there is no such group.
    :raises DriverError: one did not stop in ten seconds; the group goes on.
    """
    _write_freeze(group, "1")
    if not wait_for_event(group.path, "frozen", 1, _TIMEOUT):
        _write_freeze(group, "0")
        raise DriverError(
            f"the group {group.path} could not be frozen within {_TIMEOUT:.0f} s",
            hint="a process waits for a disk or a network filesystem; try again",
        )


def thaw(group: Group) -> None:
    """Let a frozen group go on. Idempotent.

    :raises NotFound: there is no such group.
    """
    _write_freeze(group, "0")


def _write_freeze(group: Group, value: str) -> None:
    try:
        write_file(f"{group.path}/cgroup.freeze", value)
    except FileNotFoundError:
        raise NotFound(f"there is no group {group.path}") from None


def kill(group: Group) -> None:
    """Kill every process, frozen ones too, and wait until they have ended. Idempotent.

    :raises DriverError: one did not end in ten seconds.
    """
    deadline = time.monotonic() + _TIMEOUT
    # There is no such file before Linux 5.14, nor where the group has gone.
    with contextlib.suppress(FileNotFoundError):
        write_file(f"{group.path}/cgroup.kill", "1")
        wait_for_event(group.path, "populated", 0, _TIMEOUT)
    while left := processes(group.path):
        if time.monotonic() > deadline:
            raise DriverError(
                f"processes of the group {group.path} do not end: {left[:5]}",
                hint="they wait for a disk or a network filesystem; try again later",
            )
        _kill_frozen(group)
        kill_processes(group.path, _ROUND)


def _kill_frozen(group: Group) -> None:
    """Signal all while none can fork; a frozen group of v2 dies without being thawed."""
    with contextlib.suppress(DriverError, NotFound):
        freeze(group)
        for pid in processes(group.path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(NotFound):
        thaw(group)
