"""Containers' lines handed to log drivers that deliver; see :mod:`pannier.drivers.log`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pannier.engine.delivering import Delivery
from pannier.engine.logdrivers import delivers, driver_of, driver_options, source_of
from pannier.engine.undelivered import is_behind
from pannier.linux.inotify import IN_MODIFY, IN_MOVED_TO, Inotify

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.driverset import DriverSet
    from pannier.engine.model import Container
    from pannier.engine.workers import Workers

__all__ = ["Deliveries"]

PATIENCE = 10.0
"""Seconds that a container's removal waits for its last lines to be delivered, as Docker does."""

_PAUSE = 0.02
"""Seconds between two looks at what was written: a busy log wakes the event loop no oftener."""

_CLOSING = 2.0
"""Seconds that the engine's end waits for the threads, all in all."""

_LOG = "output.log"

_log = logging.getLogger("pannier.engine")


@dataclass(slots=True, eq=False)
class _Course:
    """A delivery under way; *settled* is set when it is over, or the driver begins to refuse."""

    delivery: Delivery
    watch: int
    settled: asyncio.Event = field(default_factory=asyncio.Event)


class Deliveries:
    """Keeps one thread for each container whose driver delivers; none for any other.

    On the event loop's thread.

    :param folder: where each container has a folder of its own.
    :param host: what the host is called.
    """

    def __init__(self, folder: Path, drivers: DriverSet, host: str, workers: Workers) -> None:
        self._folder = folder
        self._drivers = drivers
        self._host = host
        self._workers = workers
        self._courses: dict[str, _Course] = {}
        self._watched: dict[int, str] = {}
        self._inotify: Inotify | None = None
        self._resting: asyncio.TimerHandle | None = None

    def begin(self, container: Container) -> None:
        """Deliver what a running container writes."""
        if not delivers(self._drivers, container.host.log):
            return
        course = self._courses.get(container.id)
        if course is None or not course.delivery.revive():
            self._start(container)

    def ended(self, container: Container) -> None:
        """Deliver the rest of a container that has ended."""
        if not delivers(self._drivers, container.host.log):
            return
        course = self._courses.get(container.id) or self._start(container)
        course.delivery.end()

    async def recover(self, containers: list[Container]) -> None:
        """Go on with what an earlier engine left, of containers that have ended, too."""
        wanted = [
            container
            for container in containers
            if delivers(self._drivers, container.host.log) and container.id not in self._courses
        ]
        for container in wanted:
            log = self._folder / container.id / _LOG
            if await self._workers.bulk(is_behind, log) and not container.state.running:
                self.ended(container)

    async def finish(self, container: Container) -> None:
        """Return when all is delivered, the driver refuses it, or patience is at its end.

        The container is about to be removed, and what is not delivered then goes with it.
        """
        course = self._courses.get(container.id)
        if course is None:
            return
        course.settled.clear()
        if not (course.delivery.over or course.delivery.failing):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await course.settled.wait()
        if not course.delivery.over:
            _log.warning("%s: removed before all of its log was delivered", container.id[:12])
        course.delivery.abandon()
        self._forget(container.id)

    async def close(self) -> None:
        """End the threads, as far as they let us; the next engine goes on where they stopped."""
        if self._resting is not None:
            self._resting.cancel()
        for course in self._courses.values():
            course.delivery.abandon()
        deadline = time.monotonic() + _CLOSING
        for id, course in tuple(self._courses.items()):
            left = max(deadline - time.monotonic(), 0.0)
            if not await asyncio.to_thread(course.delivery.join, left):
                _log.warning("%s: its log driver hangs", id[:12])
        self._courses.clear()
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def _start(self, container: Container) -> _Course:
        loop = asyncio.get_running_loop()
        if self._inotify is None:
            self._inotify = Inotify()
            loop.add_reader(self._inotify.fileno(), self._changed)
        folder = self._folder / container.id
        watch = self._inotify.watch(folder, IN_MODIFY | IN_MOVED_TO)
        self._watched[watch] = container.id

        def told() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._told, container.id, course)

        log = container.host.log
        source = source_of(container, self._host)
        driver = driver_of(self._drivers, log)
        delivery = Delivery(driver, source, driver_options(log), folder / _LOG, told)
        course = self._courses[container.id] = _Course(delivery, watch)
        delivery.start()
        return course

    def _told(self, id: str, course: _Course) -> None:
        course.settled.set()
        if course.delivery.over and self._courses.get(id) is course:
            self._forget(id)

    def _forget(self, id: str) -> None:
        """Let go of a course; its watch goes with the folder, or serves the next one."""
        course = self._courses.pop(id, None)
        if course is not None:
            self._watched.pop(course.watch, None)

    def _changed(self) -> None:
        assert self._inotify is not None
        for number, _, name in self._inotify.read():
            id = self._watched.get(number)
            if id is not None and name == _LOG.encode():
                self._courses[id].delivery.wake()
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._inotify.fileno())
        listen = functools.partial(loop.add_reader, self._inotify.fileno(), self._changed)
        self._resting = loop.call_later(_PAUSE, listen)
