"""Being told by the kernel that processes were killed for want of memory (``cgroup-v2.rst``)."""

from __future__ import annotations

from pannier.drivers.resources import OomWatch
from pannier.linux.cgroupfs import CounterWatch

__all__ = ["EventsWatch"]


class EventsWatch(OomWatch):
    """Watches ``memory.events``, of the group and of those below.

    :param folder: the group's.
    :raises OSError: there is no such group.
    """

    def __init__(self, folder: str) -> None:
        self._counter = CounterWatch(f"{folder}/memory.events", "oom_kill")

    def fileno(self) -> int:
        """Return what polls readable after a change of the file."""
        return self._counter.fileno()

    def read(self) -> int:
        """Return how many processes were killed."""
        return self._counter.read()

    def close(self) -> None:
        """Close the file."""
        self._counter.close()
