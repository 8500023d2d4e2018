"""Giving a transfer up: from outside, at any moment, by whoever asked for it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from pannier.errors import PannierError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Cancellation", "Cancelled"]


class Cancelled(PannierError):
    """The transfer was given up."""


class Cancellation:
    """Set once, to end what watches it. Safe to use from every thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        """Whether it was given up."""
        return self._event.is_set()

    def cancel(self) -> None:
        """Give up. Idempotent."""
        with self._lock:
            self._event.set()
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def check(self) -> None:
        """Raise Cancelled if it was given up."""
        if self._event.is_set():
            raise Cancelled("the transfer was cancelled")

    def pause(self, seconds: float) -> None:
        """Wait before another try.

        :raises Cancelled: it was given up meanwhile.
        """
        self._event.wait(seconds)
        self.check()

    @contextlib.contextmanager
    def calling(self, call: Callable[[], None]) -> Iterator[None]:
        """Have *call* called, at most once, when it is given up within the block (or was before).

        :param call: quick, and harmless when called late.
        """
        with self._lock:
            late = self._event.is_set()
            if not late:
                self._calls.append(call)
        if late:
            call()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._calls.remove(call)
