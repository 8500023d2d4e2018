"""Being told by the kernel that a group's memory ran out (``cgroup-v1/memory.rst``, section 10)."""

from __future__ import annotations

import os
from pathlib import Path

from pannier.drivers.resources import OomWatch
from pannier.linux.cgroupfs import write_file

__all__ = ["EventWatch"]


class EventWatch(OomWatch):
    """An eventfd that the kernel adds to for each time.

    :param folder: the group's, in the hierarchy that has the memory controller.
    :raises OSError: there is no such group, or the kernel has no such events.
    """

    def __init__(self, folder: str) -> None:
        self._control = f"{folder}/cgroup.event_control"
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            source = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                write_file(self._control, f"{self._event} {source}")
            finally:
                os.close(source)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the eventfd."""
        return self._event

    def read(self) -> int:
        """Return how often it happened; the group's removal, which is signalled, too, is not it."""
        try:
            count = os.eventfd_read(self._event)
        except BlockingIOError:
            return 0
        return count if Path(self._control).exists() else 0

    def close(self) -> None:
        """Close it; the kernel forgets it by itself."""
        if self._event >= 0:
            os.close(self._event)
            self._event = -1
