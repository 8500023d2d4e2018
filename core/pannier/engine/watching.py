"""Watches of containers' events, on the event loop, and what is done where one breaks.

A runtime's watch is a stranger's object that the event loop polls. One that raises, or that says
for ever that there is something to read and has nothing, would have the loop spin: it is let go of,
once and with a word in the log. From then on the runtime is asked, on a worker thread and ever less
often, for the container's state and a new watch. So a container goes on, and its end is known, if a
little later. A runtime one of whose watches blocked is asked for states only, for all of its
containers: no method of its watches is called on the event loop any more.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pannier.bounded import describe
from pannier.drivers.runtime import DetachEvent, ExitEvent
from pannier.engine.promptness import Aside, Blocked, promptly
from pannier.errors import DriverError, NotFound, PannierError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.runtime import RuntimeDriver, RuntimeWatch
    from pannier.engine.launching import Launcher
    from pannier.engine.registry import Live
    from pannier.engine.workers import Workers

__all__ = ["EmptyReads", "Watching"]

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds before a runtime whose watch broke is asked again; doubled each time."""

LOST_STATUS = 137

_EMPTY = 200
_WITHIN = 1.0
"""How often a watch may be readable within so many seconds, and have nothing to read."""

_log = logging.getLogger("pannier.engine")


@dataclass(slots=True)
class EmptyReads:
    """Counts how often a descriptor was readable, and there was nothing to read.

    Now and then that happens. Again and again it would have the event loop spin.
    """

    _count: int = 0
    _since: float = 0.0

    def another(self) -> bool:
        """Take note of one more; return whether it was one too many."""
        now = time.monotonic()
        if now - self._since > _WITHIN:
            self._since, self._count = now, 0
        self._count += 1
        return self._count > _EMPTY


@dataclass(slots=True)
class _Polled:
    """A watch that the event loop polls, under *descriptor*, whatever the watch says later."""

    live: Live
    descriptor: int
    empty: EmptyReads = field(default_factory=EmptyReads)


@dataclass(slots=True)
class _Broken:
    """A container whose watch broke, and that is asked for instead."""

    pause: float = FIRST_PAUSE
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Watching:
    """Watches containers. On the event loop's thread.

    :param told: is called with each event of a container.
    """

    launcher: Launcher
    workers: Workers
    told: Callable[[Live, ExitEvent | DetachEvent], None]
    _polled: dict[str, _Polled] = field(default_factory=dict)
    _broken: dict[str, _Broken] = field(default_factory=dict)
    _blocking: set[str] = field(default_factory=set)  # runtimes, by their ids
    _aside: Aside = field(default_factory=Aside)

    def begin(self, live: Live, watch: RuntimeWatch) -> None:
        """Watch a running container by *watch*, which is closed when it is watched no more."""
        if live.container.host.runtime in self._blocking:
            self._close(live, watch)
            self._ask_instead(live)
            return
        live.watch = watch
        try:
            descriptor = promptly(watch.fileno)
            asyncio.get_running_loop().add_reader(descriptor, self._readable, live)
        except (PannierError, OSError, RuntimeError, ValueError) as error:
            self.breaks(live, error)
            return
        self._polled[live.container.id] = _Polled(live, descriptor)
        # What came before the reader was there would wake nobody on an edge.
        self.drain(live)

    def _readable(self, live: Live) -> None:
        if self.drain(live):
            return
        polled = self._polled.get(live.container.id)
        if polled is not None and polled.empty.another():
            self.breaks(live, DriverError("it is always readable, and has nothing to read"))

    def drain(self, live: Live) -> bool:
        """Handle the events that are there; return whether there were any."""
        if live.watch is None:
            return False
        try:
            events = promptly(live.watch.read)
        except PannierError as error:
            self.breaks(live, error)
            return False
        for event in events:
            self.told(live, event)
            if isinstance(event, ExitEvent) and event.exec_id is None:
                break
        return bool(events)

    def end(self, live: Live) -> None:
        """Stop watching. Idempotent."""
        broken = self._broken.pop(live.container.id, None)
        if broken is not None and broken.timer is not None:
            broken.timer.cancel()
        self._let_go(live)

    def _let_go(self, live: Live) -> None:
        watch, live.watch = live.watch, None
        polled = self._polled.pop(live.container.id, None)
        if polled is not None:
            asyncio.get_running_loop().remove_reader(polled.descriptor)
        if watch is not None:
            self._close(live, watch)

    def _close(self, live: Live, watch: RuntimeWatch) -> None:
        runtime = live.container.host.runtime
        if runtime in self._blocking:
            self._aside.call(watch.close)
            return
        try:
            promptly(watch.close)
        except PannierError as error:
            _log.warning("%s: its watch was not closed: %s", live.container.id[:12], error)
            if isinstance(error, Blocked):
                self._blocks(runtime)

    # What broke.

    def breaks(self, live: Live, error: Exception) -> None:
        """Ask for a container's state from now on: its watch fails, or cannot be had."""
        id, runtime = live.container.id, live.container.host.runtime
        if id not in self._broken:
            _log.warning(
                "%s: the watch of its runtime %s broke, which is asked for its state from now on: "
                "%s",
                *(id[:12], runtime, describe(error)),
            )
        if isinstance(error, Blocked):
            self._blocks(runtime, but=live)
        self._ask_instead(live)

    def _blocks(self, runtime: str, *, but: Live | None = None) -> None:
        """Let go of all watches of a runtime one of whose watches blocked.

        :param but: a container that the caller sees to.
        """
        self._blocking.add(runtime)
        lives = [polled.live for polled in self._polled.values() if polled.live is not but]
        others = [live for live in lives if live.container.host.runtime == runtime]
        _log.warning(
            "the runtime %s is asked for its containers' states from now on, and watched no more",
            runtime,
        )
        for live in others:
            self._ask_instead(live)

    def _ask_instead(self, live: Live) -> None:
        """Let go of a container's watch, and ask for its state after a while."""
        self._let_go(live)
        self._ask_later(live, self._broken.setdefault(live.container.id, _Broken()))

    def _ask_later(self, live: Live, broken: _Broken) -> None:
        loop = asyncio.get_running_loop()
        broken.timer = loop.call_later(
            broken.pause, lambda: self.workers.spawn(self._ask(live, broken))
        )
        broken.pause = min(broken.pause * 2, LONGEST_PAUSE)

    async def _ask(self, live: Live, broken: _Broken) -> None:
        """Ask what became of a container, and for a new watch of one that runs."""
        id = live.container.id
        event = watch = None
        try:
            runtime = self.launcher.runtime(live.container)
            only_state = live.container.host.runtime in self._blocking
            look = functools.partial(_look, runtime, id, only_state=only_state)
            event, watch = await self.workers.run(look)
        except NotFound:
            event = ExitEvent(id, None, LOST_STATUS, time.time(), lost=True)
        except PannierError as error:
            _log.debug("%s: its runtime does not answer: %s", id[:12], error)
        if self._broken.get(id) is not broken:  # it is watched no more, or by another
            if watch is not None:
                self._close(live, watch)
        elif event is not None:
            self.told(live, event)
        elif watch is None:
            self._ask_later(live, broken)
        else:
            self.begin(live, watch)


def _look(
    runtime: RuntimeDriver, id: str, *, only_state: bool
) -> tuple[ExitEvent | None, RuntimeWatch | None]:
    """Return a container's end, if it has come, else a watch; on a worker thread."""
    state = runtime.state(id)
    if state.status != "stopped":
        return None, None if only_state else runtime.watch(id)
    lost = state.lost or state.exit_status is None
    status = LOST_STATUS if state.exit_status is None else state.exit_status
    return ExitEvent(id, None, status, state.finished or time.time(), lost), None
