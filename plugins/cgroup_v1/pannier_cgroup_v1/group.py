"""One container's group: the same path in every hierarchy."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pannier.errors import Conflict, DriverError, InvalidRequest, NotFound, UnsupportedOperation
from pannier.linux.cgroupfs import processes, read_file, write_file

if TYPE_CHECKING:
    from pannier_cgroup_v1.hierarchies import Hierarchies

__all__ = ["Group", "Write"]


@dataclass(frozen=True, slots=True)
class Write:
    """A value to write to a controller's file.

    :param purpose: what it is for, in an error's words (``the memory limit``).
    """

    controller: str
    file: str
    value: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Group:
    """A group's files, by controller.

    :param name: its path below every mount point, without a leading slash.
    :param files: the names of all controllers' files on this host.
    """

    hierarchies: Hierarchies
    name: str
    files: frozenset[str]

    def path(self, controller: str) -> str | None:
        """Return the group's folder in a controller's hierarchy; None where that is not here."""
        point = self.hierarchies.by_controller.get(controller)
        return None if point is None else f"{point}/{self.name}"

    def paths(self) -> list[str]:
        """Return the group's folders in all hierarchies."""
        return [f"{point}/{self.name}" for point in self.hierarchies.points]

    def pids(self) -> list[int]:
        """List the processes in it and below, in whichever hierarchy they are."""
        return sorted({pid for path in self.paths() for pid in processes(path)})

    def read(self, controller: str, file: str) -> str | None:
        """Return a file's content; None where the controller, the group or the file is missing."""
        folder = self.path(controller)
        if folder is None:
            return None
        try:
            return read_file(f"{folder}/{file}")
        except OSError as error:
            # ENODEV: the group went while its file was open; EOPNOTSUPP: switched off at boot.
            if error.errno in {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}:
                return None
            raise

    def number(self, controller: str, file: str) -> int:
        """Return a file's number; 0 where there is none."""
        text = self.read(controller, file)
        return int(text) if text is not None and text.lstrip("-").isdigit() else 0

    def below(self, name: str) -> Group:
        """Return the group *name* in this one."""
        return replace(self, name=f"{self.name}/{name}")

    def check(self, write: Write) -> None:
        """See whether this host has the file for a write.

        :raises UnsupportedOperation: it has not.
        """
        if self.path(write.controller) is None:
            raise UnsupportedOperation(
                f"{write.purpose} cannot be set: no {write.controller} hierarchy of cgroup v1 is "
                "mounted",
                hint=f"mount -t cgroup -o {write.controller} none "
                f"/sys/fs/cgroup/{write.controller}",
            )
        if write.file not in self.files:
            raise UnsupportedOperation(
                f"{write.purpose} cannot be set: this kernel has no {write.file}",
                hint="leave the limit away, or boot with swapaccount=1"
                if "memsw" in write.file
                else "leave the limit away, or run a kernel that is built with it",
            )

    def previous(self, write: Write) -> Write:
        """Return the write that restores what a file says now."""
        lines = (self.read(write.controller, write.file) or "").splitlines()
        device, separator, _ = write.value.partition(" ")
        if separator:  # a line for each device; 0 takes a device's line away
            value = next((line for line in lines if line.startswith(f"{device} ")), f"{device} 0")
        else:  # a value, or lines of which only the first can be written
            value = lines[0].rpartition(" ")[2] if lines else ""
        return replace(write, value=value)

    def write(self, write: Write) -> None:
        """Write one value.

        :raises InvalidRequest: the kernel refuses the value.
        :raises UnsupportedOperation: the kernel has no such control, or no such device.
        :raises Conflict: the value contradicts what is in use.
        :raises NotFound: there is no such group.
        """
        folder = self.path(write.controller)
        try:
            write_file(f"{folder}/{write.file}", write.value)
        except OSError as error:
            raise self._explain(write, error) from error

    def _explain(self, write: Write, error: OSError) -> Exception:
        asked = f"{write.purpose} cannot be set to {write.value!r} for the group {self.name}"
        reason = f"{asked}: {write.file}: {error.strerror}"
        if error.errno == errno.ENOENT:
            return NotFound(f"{asked}: there is no such group")
        if error.errno in {errno.EINVAL, errno.ERANGE}:
            return InvalidRequest(reason, hint="compare it with the other limits and the parent's")
        if error.errno in {errno.ENODEV, errno.ENXIO}:
            return InvalidRequest(reason, hint="name a block device that exists")
        if error.errno == errno.EBUSY:
            return Conflict(reason, hint="more than that is in use; choose a larger value")
        if error.errno in {errno.EOPNOTSUPP, errno.EROFS}:
            return UnsupportedOperation(reason)
        return DriverError(reason)
