"""Taking away the quota groups of subvolumes that are no more.

The kernel makes a group with every subvolume where quotas are kept, and before Linux 6.13 leaves it
behind when the subvolume goes. It can be taken away only once the subvolume's tree has been cleaned
up, by a thread of the kernel's after the filesystem's next commit, and counts nothing any more,
since the commit after that. Nobody waits so long. The group is noted before the subvolume is
destroyed, and tried again whenever another one was, and when the driver is opened: so a kill loses
none, and only the latest are left over.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from pannier.linux.trees import list_names, opened_directory

from pannier_storage_btrfs import ioctls

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["QuotaGroups"]

_NAME: Final = "quota-groups"
_NOTE: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC

_OFTEN: Final = 8
"""So many groups are tried for each subvolume that is removed, in the long run."""

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTCONN})
"""What is said of a group that the kernel has taken away itself, and where quotas are off."""


class QuotaGroups:
    """Notes which groups are to go: each by an empty file, whose name is its number.

    Safe to use from several threads, and several processes.

    :param place: the driver's folder, on the filesystem that keeps the groups.
    """

    def __init__(self, place: Path) -> None:
        self._folder = place / _NAME
        self._due = 0

    def make(self) -> None:
        """Make a place for notes. Idempotent; without one there are none."""
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def note(self, subvolume: int) -> None:
        """Have the group of a subvolume that is about to be destroyed go once it can.

        Where there is no place or no room for the note, the group may stay: that is no harm.

        :param subvolume: its number.
        """
        with contextlib.suppress(OSError), opened_directory(self._folder) as folder:
            if not _forget(folder, subvolume):
                os.close(os.open(b"%d" % subvolume, _NOTE, 0o600, dir_fd=folder))

    def sweep(self) -> None:
        """Take away those groups that were noted and can go now."""
        left = 0
        with contextlib.suppress(FileNotFoundError), opened_directory(self._folder) as folder:
            for name in list_names(folder):
                if not (name.isdigit() and _forget(folder, int(name))):
                    left += 1
                    continue
                with contextlib.suppress(FileNotFoundError):  # another thread was faster
                    os.unlink(name, dir_fd=folder)
        self._due = left // _OFTEN

    def sweep_now_and_then(self) -> None:
        """Sweep after a removal: less often where many groups wait, which would each be tried."""
        self._due -= 1
        if self._due < 0:
            self.sweep()


def _forget(descriptor: int, subvolume: int) -> bool:
    """Take a group away if that can be; return whether it is gone."""
    try:
        ioctls.forget_quota_group(descriptor, subvolume)
    except OSError as error:
        return error.errno in _GONE
    return True
