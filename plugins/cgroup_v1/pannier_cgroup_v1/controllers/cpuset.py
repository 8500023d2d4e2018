"""CPUs and memory nodes: ``admin-guide/cgroup-v1/cpusets.rst``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.linux.cgroupfs import read_file, write_file
from pannier_cgroup_v1.group import Write

if TYPE_CHECKING:
    from pannier.drivers.resources import Limits

__all__ = ["fill", "inherit", "writes"]

_FILES: Final = ("cpuset.cpus", "cpuset.mems")


def writes(limits: Limits) -> list[Write]:
    """Return the writes for *limits*."""
    found = []
    if limits.cpuset_cpus:
        found.append(Write("cpuset", _FILES[0], limits.cpuset_cpus, "the set of CPUs"))
    if limits.cpuset_mems:
        found.append(Write("cpuset", _FILES[1], limits.cpuset_mems, "the set of memory nodes"))
    return found


def fill(path: str) -> None:
    """Give a new group what its parent has: empty, it takes no process.

    Does nothing where the kernel has copied already (``cgroup.clone_children``). A parent that has
    nothing itself, as whoever made it left it, is filled first.
    """
    for file in _FILES:
        _filled(Path(path), file)


def _filled(group: Path, file: str) -> str:
    found = read_file(group / file)
    if not found:
        found = _filled(group.parent, file)  # ends at the root, which has all
        write_file(group / file, found)
    return found


def inherit(path: str) -> None:
    """Have the kernel copy a group's sets to every group made in it from now on."""
    write_file(f"{path}/cgroup.clone_children", "1")
