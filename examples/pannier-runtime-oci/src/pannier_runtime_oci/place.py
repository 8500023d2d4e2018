"""The place in which the external runtime works: a mount namespace of the monitor's own.

The container's root is attached there, and what is bound into it: detached mounts are all that the
driver is given of them. When the last process in the namespace has ended, they are gone.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.linux.cgroupfs import discard_group
from pannier.linux.mounts import MS_BIND, MS_REC, MS_SLAVE, mount, move_mount
from pannier.linux.namespaces import CLONE_NEWCGROUP, CLONE_NEWNS, unshare

from pannier_runtime_oci.groups import enter, hierarchy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier_runtime_oci.jobs import BindJob, GroupsJob

__all__ = [
    "CGROUPS",
    "GROUPS",
    "attach",
    "attach_groups",
    "leave_group",
    "make_cgroup_namespace",
    "prepare",
]

CGROUPS = "cgroups"
"""Where the container's cgroup namespace can be joined, below the bundle."""

GROUPS = "groups"
"""Where the control groups are that a container is shown, below the bundle."""

_HIERARCHIES = "/sys/fs/cgroup"


def prepare(root: int) -> None:
    """Leave the host's mount namespace; attach the root in the bundle, the working directory.

    Of the control groups only the v2 hierarchy is seen then.

    :raises OSError: the kernel refuses.
    """
    unshare(CLONE_NEWNS)
    mount(None, "/", None, MS_REC | MS_SLAVE)
    Path("rootfs").mkdir()
    move_mount(root, "rootfs")
    with hierarchy() as groups:
        move_mount(groups, _HIERARCHIES)


def attach(binds: Sequence[BindJob], descriptors: Sequence[int]) -> None:
    """Attach detached mounts, of folders and of files, below the bundle."""
    for bind in binds:
        place = Path(bind["place"])
        tree = descriptors[bind["tree"]]
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        move_mount(tree, place)


def attach_groups(job: GroupsJob, descriptors: Sequence[int]) -> None:
    """Make the folder that a container is shown as /sys/fs/cgroup."""
    Path(GROUPS).mkdir()
    mount("tmpfs", GROUPS, "tmpfs", 0, "mode=755,size=64k")
    attach(job["groups"], descriptors)
    for name, target in job["links"].items():
        Path(GROUPS, name).symlink_to(target)


def make_cgroup_namespace(group: str, procs: Sequence[int]) -> None:
    """Make a cgroup namespace whose roots are the container's groups; it can be joined by a file.

    One that the runtime made itself would have the monitor's groups, or only its own, as roots.

    :raises OSError: the kernel refuses.
    """
    own = Path(_HIERARCHIES, group)
    own.mkdir(exist_ok=True)
    Path(CGROUPS).touch()
    ready, tell = os.pipe()
    hold, let_go = os.pipe()
    child = os.fork()
    if not child:
        try:
            (own / "cgroup.procs").write_text("0", encoding="ascii")
            enter(procs)
            unshare(CLONE_NEWCGROUP)
            os.write(tell, b"x")
            os.close(let_go)
            os.read(hold, 1)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(hold)
    try:
        if not os.read(ready, 1):
            raise OSError(0, "the container's control groups cannot be entered")
        mount(f"/proc/{child}/ns/cgroup", CGROUPS, None, MS_BIND)
    finally:
        os.close(ready)
        os.close(let_go)
        os.waitpid(child, 0)


def leave_group(group: str) -> None:
    """Remove the runtime's own group, unless there are processes in it.

    A runtime that would put an added process into it then leaves that where it is.
    """
    discard_group(f"{_HIERARCHIES}/{group}")
