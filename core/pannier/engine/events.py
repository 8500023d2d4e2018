"""Events: what happens, told to whoever listens, with a bounded memory for those who ask later."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from pannier.engine.results import Event

__all__ = ["Events", "matches"]

_HISTORY = 1024
_BACKLOG = 65536
"""A listener that is so far behind is let go: it would hold the memory for ever."""

Filters = "Mapping[str, tuple[str, ...]]"


class Events:
    """The bus.

    All methods are called on the event loop's thread.

    :param clock: nanoseconds since the epoch.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._history: deque[Event] = deque(maxlen=_HISTORY)
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._last = 0

    def publish(self, event: Event) -> None:
        """Tell everyone, and remember; an event without a time gets the present one."""
        # Strictly increasing, so that "since" of the last event seen misses and repeats none.
        time_ns = max(event.time_ns or self._clock(), self._last + 1)
        self._last = time_ns
        event = replace(event, time_ns=time_ns)
        self._history.append(event)
        for queue in tuple(self._listeners):
            if queue.qsize() < _BACKLOG:
                queue.put_nowait(event)
            else:
                self._listeners.discard(queue)
                queue.put_nowait(None)

    def subscribe(
        self, since: int = 0, until: int = 0, filters: Mapping[str, tuple[str, ...]] | None = None
    ) -> AsyncIterator[Event]:
        """Yield past events from *since* on, then those to come; ends at *until*.

        The subscription begins with this call, not with the first step of the iteration.

        :param since: nanoseconds since the epoch; 0 for no past events.
        :param until: likewise; 0 for no end. A time in the past ends after the replay.
        :param filters: as of ``docker events``; see :func:`matches`.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        past = [event for event in self._history if since and event.time_ns >= since]
        self._listeners.add(queue)
        return self._iterate(queue, past, until, filters or {})

    def close(self) -> None:
        """End every subscription."""
        for queue in self._listeners:
            queue.put_nowait(None)
        self._listeners.clear()

    async def _iterate(
        self,
        queue: asyncio.Queue[Event | None],
        past: list[Event],
        until: int,
        filters: Mapping[str, tuple[str, ...]],
    ) -> AsyncIterator[Event]:
        try:
            for event in past:
                if (not until or event.time_ns <= until) and matches(event, filters):
                    yield event
            while (event_or_end := await self._next(queue, until)) is not None:
                if matches(event_or_end, filters):
                    yield event_or_end
        finally:
            self._listeners.discard(queue)

    async def _next(self, queue: asyncio.Queue[Event | None], until: int) -> Event | None:
        if not until:
            return await queue.get()
        try:
            async with asyncio.timeout(max(until - self._clock(), 0) / 1e9):
                event = await queue.get()
        except TimeoutError:
            return None
        return event if event is not None and event.time_ns <= until else None


def matches(event: Event, filters: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether an event passes: for each filter, one of its values must match."""
    return all(
        any(_matches_one(event, name, value) for value in values)
        for name, values in filters.items()
        if values
    )


def _matches_one(event: Event, name: str, value: str) -> bool:
    if name == "type":
        return event.kind == value
    if name == "event":
        # "exec_start: sh" answers to "exec_start", "health_status: healthy" to "health_status".
        return value in (event.action, event.action.partition(":")[0])
    if name == "label":
        key, equals, wanted = value.partition("=")
        return key in event.attributes and (not equals or event.attributes[key] == wanted)
    if name == "scope":
        return value == "local"
    if name in {"container", "image", "network", "volume", "daemon"}:
        return _is_about(event, name, value)
    return False


def _is_about(event: Event, kind: str, value: str) -> bool:
    if kind == "image" and event.kind == "container":
        return _same_image(event.attributes.get("image", ""), value)
    if kind == "container" and event.kind in {"network", "volume"}:
        return event.attributes.get("container", "").startswith(value)
    if event.kind != kind:
        return False
    name = event.attributes.get("name", "")
    if kind == "image":
        return _same_image(event.actor, value) or _same_image(name, value)
    # Docker takes the beginning of a name for it, as that of an id.
    return name.startswith(value) or event.actor.startswith(value)


def _same_image(image: str, value: str) -> bool:
    return bool(value) and (image == value or image.partition(":")[0] == value)
