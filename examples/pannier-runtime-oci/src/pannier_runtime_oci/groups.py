"""The external runtime's own control groups: one for each container, in the v2 hierarchy.

Limits are the resource driver's business, whose groups the container's processes are put into. A
runtime wants a group all the same, and would put its own rules and limits there; so it is shown the
v2 hierarchy alone, and has a group in it that nobody else uses. Where the resource driver works
with v1, the container's processes stay in that group, too; else the runtime's is empty again once
they are in the resource driver's.

The hierarchy is reached by a mount that hangs nowhere, whatever the host has at /sys/fs/cgroup.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from typing import TYPE_CHECKING

from pannier.errors import DriverError
from pannier.linux.cgroupfs import kill_processes, processes, remove_group
from pannier.linux.mounts import fsconfig_create, fsmount, fsopen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["clear", "enter", "group_name", "hierarchy"]

_PATIENCE = 60.0


@contextlib.contextmanager
def hierarchy() -> Iterator[int]:
    """Give a descriptor of a mount of the v2 hierarchy, attached nowhere yet.

    :raises OSError: this kernel has no v2 hierarchy, or does not let us have it.
    """
    context = fsopen("cgroup2")
    try:
        fsconfig_create(context)
        mount = fsmount(context)
    finally:
        os.close(context)
    try:
        yield mount
    finally:
        os.close(mount)


def group_name(folder: Path) -> str:
    """Return the name of the group of the container that has this folder."""
    digest = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()
    return f"pannier-oci-{digest[:24]}"


def enter(procs: Sequence[int]) -> None:
    """Have the calling process enter the groups whose files are open as these descriptors.

    :raises OSError: the kernel refuses.
    """
    for descriptor in procs:
        os.write(descriptor, b"0")


def clear(name: str) -> None:
    """Kill what is left in a group, and remove it. Idempotent.

    :raises DriverError: a process does not end.
    """
    deadline = time.monotonic() + _PATIENCE
    try:
        with hierarchy() as mount:
            group = f"/proc/self/fd/{mount}/{name}"
            while processes(group):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise DriverError(f"a process in the control group {name} does not end")
                kill_processes(group, left)
            remove_group(group, _PATIENCE)
    except OSError as error:
        raise DriverError(f"cannot clear the control group {name}: {error.strerror}") from error
