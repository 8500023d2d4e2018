"""The thread that hands one container's lines to its log driver."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

from pannier.bounded import describe
from pannier.engine.undelivered import Undelivered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pannier.drivers.log import LogDriver, LogEntry, LogSink, LogSource

__all__ = ["Delivery"]

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
"""Seconds before lines that could not be delivered are offered again; doubled from try to try."""

_log = logging.getLogger("pannier.engine")


class Delivery:
    """Delivers until the container has ended and nothing is left of what it wrote.

    Each method but :meth:`run` returns at once, whatever the driver does. The thread is never
    waited for without a bound, and does not keep the process from ending.

    :param told: called on the thread when :attr:`over` or :attr:`failing` becomes true.
    """

    def __init__(
        self,
        driver: LogDriver,
        source: LogSource,
        options: Mapping[str, str],
        log: Path,
        told: Callable[[], None],
    ) -> None:
        self._driver = driver
        self._source = source
        self._options = options
        self._path = log
        self._told = told
        self._sink: LogSink | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._abandoned = threading.Event()
        self._running = True
        self.over = False
        """Whether the thread has come to its end."""
        self.failing = False
        """Whether the driver refuses what it is offered."""
        self._thread = threading.Thread(
            target=self.run, name=f"pannier-log-{source.id[:12]}", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Say that something was written."""
        self._wake.set()

    def revive(self) -> bool:
        """Say that the container runs again; return False where the thread is done already."""
        with self._lock:
            self._running = not self.over
            return self._running

    def end(self) -> None:
        """Say that the container has ended: the thread does, too, when all is delivered."""
        self._running = False
        self._wake.set()

    def abandon(self) -> None:
        """Have the thread end soon, whatever is left: a later one goes on."""
        self._abandoned.set()
        self._wake.set()

    def join(self, seconds: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def run(self) -> None:
        """Deliver; the thread's own function."""
        try:
            with contextlib.closing(Undelivered(self._path)) as undelivered:
                self._follow(undelivered)
        except OSError as error:
            if not self._abandoned.is_set():  # as it is when the container is removed
                _log.warning("%s: its log cannot be delivered: %s", self._source.id[:12], error)
        finally:
            self._drop_sink()
            self.over = True
            self._told()

    def _follow(self, undelivered: Undelivered) -> None:
        while not self._abandoned.is_set():
            # Both asked before reading: what was written before the end is then read.
            self._wake.clear()
            ended = not self._running
            entries = undelivered.read() or (undelivered.rest() if ended else [])
            if entries:
                if self._deliver(entries):
                    undelivered.note()
            elif ended and self._finish():
                return
            else:
                self._wake.wait()

    def _finish(self) -> bool:
        """Decide to end, unless the container was started again in the meantime."""
        with self._lock:
            self.over = not self._running
            return self.over

    def _deliver(self, entries: list[LogEntry]) -> bool:
        """Offer lines until they are taken; return False where delivery was abandoned."""
        pause = FIRST_PAUSE
        while not self._abandoned.is_set():
            try:
                if self._sink is None:
                    self._sink = self._driver.open(self._source, self._options)
                self._sink.write(entries)
            except BaseException as error:  # noqa: BLE001 - a stranger's code may raise anything
                self._refused(error)
                self._abandoned.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._taken()
                return True
        return False

    def _refused(self, error: BaseException) -> None:
        self._drop_sink()
        if not self.failing:
            self.failing = True
            _log.warning(
                "%s: the log driver %s takes nothing; it is tried again: %s",
                *(self._source.id[:12], self._driver.id, describe(error)),
            )
            self._told()

    def _taken(self) -> None:
        if self.failing:
            self.failing = False
            _log.info(
                "%s: the log driver %s takes lines again", self._source.id[:12], self._driver.id
            )

    def _drop_sink(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            with contextlib.suppress(BaseException):
                sink.close()
