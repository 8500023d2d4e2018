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

    Does nothing where the kernel has copied already (``cgroup.clone_children``).
    """
    parent = str(Path(path).parent)
    for file in _FILES:
        if not read_file(f"{path}/{file}"):
            write_file(f"{path}/{file}", read_file(f"{parent}/{file}"))


def inherit(path: str) -> None:
    """Have the kernel copy a group's sets to every group made in it from now on."""
    write_file(f"{path}/cgroup.clone_children", "1")
