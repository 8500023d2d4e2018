"""The unified hierarchy: where it is mounted, and handing its controllers down."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from pannier.errors import DriverError
from pannier.linux.cgroupfs import cgroup_mounts, make_group, read_file, write_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CONTROLLERS", "Hierarchy"]

CONTROLLERS: Final = ("cpuset", "cpu", "io", "memory", "pids", "hugetlb")
"""What a container's group uses, where the host has it."""


@dataclass(frozen=True)
class Hierarchy:
    """The mounted hierarchy.

    :param elsewhere: the controllers that are bound to cgroup v1 on this host.
    """

    root: Path
    read_only: bool = False
    elsewhere: frozenset[str] = frozenset()

    @classmethod
    def discover(cls, mountinfo: str | Path = "/proc/self/mountinfo") -> Hierarchy | None:
        """Find the hierarchy that this process sees; None where none is mounted."""
        mounts = cgroup_mounts(mountinfo)
        elsewhere = frozenset(name for mount in mounts for name in mount.controllers)
        for mount in mounts:
            if mount.version == 2:
                return cls(mount.path, mount.read_only, elsewhere)
        return None

    def offered(self, group: str = "") -> frozenset[str]:
        """Return the controllers that a group may hand to those below it."""
        return frozenset(read_file(self.root / group / "cgroup.controllers").split())

    def enabled(self, group: str = "") -> frozenset[str]:
        """Return the controllers that a group does hand to those below it."""
        return frozenset(read_file(self.root / group / "cgroup.subtree_control").split())

    @cached_property
    def _wanted(self) -> frozenset[str]:
        """What the whole hierarchy has of :data:`CONTROLLERS`; a reboot changes it."""
        return self.offered() & set(CONTROLLERS)

    def is_prepared(self, parent: str) -> bool:
        """Whether a parent group is there and hands all controllers down; one file is read."""
        try:
            return self._wanted <= self.enabled(parent)
        except FileNotFoundError:
            return False

    def prepare(self, parent: str, *, lenient: bool = False) -> None:
        """Make a parent group, and hand the controllers down to those that will be in it.

        Idempotent.

        :param lenient: what is in the parent can do without controllers, where it must.
        :raises DriverError: a group cannot be made; or, unless *lenient*, a process sits in one on
            the way, which the kernel does not allow where controllers are handed down.
        """
        self.hand_down("", lenient=lenient)
        group = ""
        for part in parent.split("/") if parent else []:
            group = f"{group}/{part}".lstrip("/")
            try:
                make_group(self.root / group)
            except OSError as error:
                raise DriverError(
                    f"the group {self.root / group} cannot be made: {error.strerror}"
                ) from error
            self.hand_down(group, lenient=lenient)

    def hand_down(self, group: str, *, lenient: bool = False) -> frozenset[str]:
        """Hand a group's controllers to those below; return those that were not before.

        :param lenient: do nothing where processes sit in the group itself.
        :raises DriverError: the kernel does not allow it.
        """
        missing = (self.offered(group) & set(CONTROLLERS)) - self.enabled(group)
        if not missing:
            return missing
        file = self.root / group / "cgroup.subtree_control"
        try:
            write_file(file, " ".join(f"+{name}" for name in sorted(missing)))
        except OSError as error:
            hint = None
            if error.errno == errno.EBUSY:
                if lenient:
                    return frozenset()
                hint = (
                    "processes sit in that group itself; move them to one below it, as an init in "
                    "a container of its own has to"
                )
            raise DriverError(
                f"the controllers {', '.join(sorted(missing))} cannot be handed down by {file}: "
                f"{error.strerror}",
                hint=hint,
            ) from error
        return missing

    def take_back(self, group: str, controllers: frozenset[str]) -> None:
        """Undo :meth:`hand_down`, as far as no one below uses it."""
        for name in controllers:
            try:
                write_file(self.root / group / "cgroup.subtree_control", f"-{name}")
            except OSError as error:
                if error.errno not in {errno.EBUSY, errno.ENOENT}:
                    raise
