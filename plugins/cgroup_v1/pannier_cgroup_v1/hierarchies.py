"""The v1 hierarchies of this host, as they are mounted: one each, or several co-mounted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pannier.linux.cgroupfs import cgroup_mounts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Hierarchies"]


@dataclass(frozen=True)
class Hierarchies:
    """Where each controller's groups are.

    :param mounts: the mount point of each hierarchy, by its list of controllers (``memory``,
        ``cpu,cpuacct``, ``name=systemd``).
    :param read_only: those of *mounts* that cannot be written.
    """

    mounts: Mapping[str, Path]
    read_only: frozenset[str] = frozenset()

    @classmethod
    def discover(cls, mountinfo: str | Path = "/proc/self/mountinfo") -> Hierarchies:
        """Find the v1 hierarchies that this process sees."""
        found = [mount for mount in cgroup_mounts(mountinfo) if mount.version == 1]
        return cls(
            {",".join(mount.controllers): mount.path for mount in found},
            frozenset(",".join(mount.controllers) for mount in found if mount.read_only),
        )

    @cached_property
    def by_controller(self) -> Mapping[str, str]:
        """The mount point of each controller that is bound to v1."""
        return {name: str(path) for names, path in self.mounts.items() for name in names.split(",")}

    @cached_property
    def points(self) -> tuple[str, ...]:
        """Every mount point."""
        return tuple(str(path) for path in self.mounts.values())
