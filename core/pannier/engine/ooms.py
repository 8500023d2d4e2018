"""Telling that a container's memory ran out, while it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pannier.engine.promptness import Blocked, promptly
from pannier.engine.watching import EmptyReads
from pannier.errors import PannierError

if TYPE_CHECKING:
    from pannier.drivers.resources import OomWatch
    from pannier.driverset import DriverSet
    from pannier.engine.model import Container
    from pannier.engine.registry import Live
    from pannier.engine.telling import Teller
    from pannier.engine.workers import Workers

__all__ = ["Ooms"]

DELAY = 0.25
"""Seconds after a start in which nothing is watched: what ends sooner costs nothing here.

What happened in that time is counted by the kernel, and told then or at the container's end.
"""


_log = logging.getLogger("pannier.engine")


@dataclass(slots=True, eq=False)
class _Watched:
    """A container that runs.

    :param told: whether its memory was told to have run out.
    """

    live: Live
    fresh: bool
    timer: asyncio.TimerHandle | None = None
    watch: OomWatch | None = None
    descriptor: int = -1
    empty: EmptyReads = field(default_factory=EmptyReads)
    told: bool = False


class Ooms:
    """Publishes the event ``oom``. On the event loop's thread."""

    def __init__(self, drivers: DriverSet, teller: Teller, workers: Workers) -> None:
        self._drivers = drivers
        self._teller = teller
        self._workers = workers
        self._running: dict[str, _Watched] = {}
        self._blocking = False

    def begin(self, live: Live, *, fresh: bool) -> None:
        """Watch a container that runs.

        :param fresh: it was just started; else an earlier engine told what happened before.
        """
        if self._blocking:  # one watch held everybody up; ends still tell
            return
        watched = self._running[live.container.id] = _Watched(live, fresh)
        loop = asyncio.get_running_loop()
        watched.timer = loop.call_later(
            DELAY, lambda: self._workers.spawn(self._open(live.container, watched))
        )

    def end(self, live: Live) -> bool:
        """Stop watching a container; return whether its memory was told to have run out."""
        watched = self._running.pop(live.container.id, None)
        if watched is None:
            return False
        self._changed(watched)
        self._let_go(watched)
        return watched.told

    def close(self) -> None:
        """Stop watching all."""
        for watched in self._running.values():
            self._let_go(watched)
        self._running.clear()

    async def _open(self, container: Container, watched: _Watched) -> None:
        watch, kills = await self._workers.run(self._look, container)
        if self._running.get(container.id) is not watched:
            _close(watch)
            return
        if watch is not None:
            self._poll(watched, watch)
        if kills and watched.fresh:
            self._tell(watched)
        watched.told = watched.told or kills > 0

    def _look(self, container: Container) -> tuple[OomWatch | None, int]:
        """Return a watch, and how many were killed before; on a worker thread."""
        resources, parent = self._drivers.resources, container.host.cgroup_parent
        try:
            watch = resources.oom_watch(container.id, parent)
            # In this order, so that nothing can happen unseen between the two.
            return watch, resources.events(container.id, parent).oom_kill
        except (PannierError, OSError):  # its end will say what there is to say
            return None, 0

    def _poll(self, watched: _Watched, watch: OomWatch) -> None:
        watched.watch = watch
        try:
            descriptor = promptly(watch.fileno)
            asyncio.get_running_loop().add_reader(descriptor, self._changed, watched)
        except (PannierError, OSError, RuntimeError, ValueError) as error:
            self._breaks(watched, error)
        else:
            watched.descriptor = descriptor

    def _changed(self, watched: _Watched) -> None:
        if watched.watch is None:
            return
        try:
            times = promptly(watched.watch.read)
        except PannierError as error:
            self._breaks(watched, error)
            return
        if times:
            self._tell(watched)
        elif watched.empty.another():
            self._let_go(watched)  # as where the group has gone: the end is on its way

    def _breaks(self, watched: _Watched, error: Exception) -> None:
        """Let go of a watch that fails; the container's end says whether memory ran out."""
        self._blocking = self._blocking or isinstance(error, Blocked)
        id = watched.live.container.id[:12]
        _log.warning("%s: that its memory runs out is told at its end only: %s", id, error)
        self._let_go(watched)

    def _tell(self, watched: _Watched) -> None:
        watched.told = True
        self._teller.container(watched.live.container, "oom")

    def _let_go(self, watched: _Watched) -> None:
        if watched.timer is not None:
            watched.timer.cancel()
        if watched.descriptor >= 0:
            asyncio.get_running_loop().remove_reader(watched.descriptor)
            watched.descriptor = -1
        _close(watched.watch)
        watched.watch = None


def _close(watch: OomWatch | None) -> None:
    if watch is not None:
        with contextlib.suppress(PannierError):  # there is nothing more to be had of it
            promptly(watch.close)
