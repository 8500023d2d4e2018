"""A small event loop over poll(2): descriptors with callbacks, and timers."""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GONE", "READ", "WRITE", "Loop"]

READ = select.POLLIN
WRITE = select.POLLOUT
GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Loop:
    """Calls back whoever has something to do; runs in one thread."""

    __slots__ = ("_callbacks", "_poll", "_timers")

    def __init__(self) -> None:
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Have *callback* called with the events that came; replaces an earlier watch."""
        self._poll.register(descriptor, events)
        self._callbacks[descriptor] = callback

    def unwatch(self, descriptor: int) -> None:
        """End a watch; nothing where there is none. To be called before the descriptor closes."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have *callback* called once, after so many seconds."""
        self._timers.append((time.monotonic() + seconds, callback))
        self._timers.sort(key=lambda timer: timer[0])

    def run_once(self) -> None:
        """Wait for the next event or timer, and make the calls that are due."""
        timeout: float | None = None
        if self._timers:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) * 1000
        for descriptor, events in self._poll.poll(timeout):
            # An earlier callback of this round may have ended the watch.
            callback = self._callbacks.get(descriptor)
            if callback is not None:
                callback(events)
        while self._timers and self._timers[0][0] <= time.monotonic():
            self._timers.pop(0)[1]()
