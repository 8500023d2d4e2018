"""One container's group."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pannier.errors import (
    Conflict,
    DriverError,
    InvalidRequest,
    NotFound,
    PannierError,
    UnsupportedOperation,
)
from pannier.linux.cgroupfs import read_file, write_file

__all__ = ["Group", "Write"]

_UNSET_THROTTLES = "rbps=max wbps=max riops=max wiops=max"


_MEANINGS: Final[dict[int, tuple[type[PannierError], str | None]]] = {
    errno.EINVAL: (InvalidRequest, "compare it with the other limits and the parent's"),
    errno.ERANGE: (InvalidRequest, "compare it with the other limits and the parent's"),
    errno.ENODEV: (InvalidRequest, "name a block device that exists"),
    errno.ENXIO: (InvalidRequest, "name a block device that exists"),
    errno.EBUSY: (Conflict, "it contradicts what is in use"),
    errno.EOPNOTSUPP: (UnsupportedOperation, None),
    errno.EROFS: (UnsupportedOperation, None),
}


@dataclass(frozen=True, slots=True)
class Write:
    """A value to write to a file.

    :param purpose: what it is for, in an error's words (``the memory limit``).
    """

    file: str
    value: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Group:
    """A group's files.

    :param path: its folder.
    :param files: the names of the files that a group has on this host.
    """

    path: str
    files: frozenset[str]

    def exists(self) -> bool:
        """Whether the group is there."""
        return self.read("cgroup.controllers") is not None

    def read(self, file: str) -> str | None:
        """Return a file's content; None where it, or the group, is missing."""
        try:
            return read_file(f"{self.path}/{file}")
        except OSError as error:
            # ENODEV: the group went while its file was open; EOPNOTSUPP: switched off at boot.
            if error.errno in {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}:
                return None
            raise

    def number(self, file: str) -> int:
        """Return a file's number; 0 where there is none, or no limit (``max``)."""
        text = self.read(file) or ""
        return int(text) if text.isdigit() else 0

    def check(self, write: Write) -> None:
        """See whether this host has the file for a write.

        :raises UnsupportedOperation: it has not.
        """
        if write.file not in self.files:
            hint = "leave the limit away, or enable the controller in the parent groups"
            if "swap" in write.file:
                hint = "leave the limit away, or boot with swapaccount=1"
            raise UnsupportedOperation(
                f"{write.purpose} cannot be set: groups have no {write.file} on this host",
                hint=hint,
            )

    def write(self, write: Write) -> None:
        """Write one value.

        :raises InvalidRequest: the kernel refuses the value.
        :raises UnsupportedOperation: the kernel has no such control.
        :raises Conflict: the value contradicts what is in use.
        :raises NotFound: there is no such group.
        """
        try:
            write_file(f"{self.path}/{write.file}", write.value)
        except OSError as error:
            raise self._explain(write, error) from error

    def _explain(self, write: Write, error: OSError) -> Exception:
        asked = f"{write.purpose} cannot be set to {write.value!r} for the group {self.path}"
        reason = f"{asked}: {write.file}: {error.strerror}"
        if error.errno == errno.ENOENT:
            if self.exists():
                return UnsupportedOperation(
                    f"{asked}: it has no {write.file}",
                    hint="enable the controller in the parent groups",
                )
            return NotFound(f"{asked}: there is no such group")
        kind, hint = _MEANINGS.get(error.errno or 0, (DriverError, None))
        return kind(reason, hint=hint)

    def previous(self, write: Write) -> Write:
        """Return the write that restores what a file says now."""
        text = self.read(write.file) or ""
        subject = write.value.partition(" ")[0]
        if subject != "default" and ":" not in subject:
            return replace(write, value=text)
        # A line for each device, and one for all others.
        unset = _UNSET_THROTTLES if write.file == "io.max" else "default"
        lines = text.splitlines()
        value = next((line for line in lines if line.startswith(f"{subject} ")), None)
        return replace(write, value=value or f"{subject} {unset}")

    def update(self, writes: list[Write]) -> None:
        """Write all of them; on a failure write back what was there before, last first."""
        done: list[Write] = []
        try:
            for write in writes:
                before = self.previous(write)
                self.write(write)
                done.append(before)
        except Exception:
            for before in reversed(done):
                self.write(before)
            raise

    def entrance(self) -> Path:
        """Return the folder of the group that a process may enter.

        A container that runs a service manager hands controllers down itself: then no process may
        be in its own group, and one joins its first process instead.
        """
        path = Path(self.path)
        while _hands_down(path):
            inhabited = (below for below in sorted(path.iterdir()) if _inhabited(below))
            below = next(inhabited, None)
            if below is None:
                break
            path = below
        return path


def _hands_down(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return bool(read_file(path / "cgroup.subtree_control"))
    return False


def _inhabited(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return "populated 1" in read_file(path / "cgroup.events")
    return False
