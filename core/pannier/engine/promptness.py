"""Calls of strangers' code on the event loop, cut short where they block.

What a driver hands out to be polled is read on the loop, for the way over a thread would cost every
container's exit more than the reading. Its contract forbids it to block. Where it does so all the
same, everybody would wait: so a thread looks on, and has a signal interrupt the call, out of which
the signal's handler raises. That ends what waits in the kernel, for a lock, or for ever in Python;
an extension in C that goes on whatever happens it does not.

The thread begins with the first call, and sleeps while there are none.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

from pannier import bounded
from pannier.bounded import describe
from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Aside", "Blocked", "promptly"]

T = TypeVar("T")

_log = logging.getLogger("pannier.engine")

_SIGNAL: Final = signal.SIGURG
"""Ignored by whoever does not handle it, and used for nothing else here."""

_LOOKS: Final = 4
"""How often the thread must find the same call, one pause after the other, to interrupt it."""

_IDLE: Final = 20
"""How often the thread looks in vain before it sleeps until it is woken."""


class Blocked(DriverError):
    """A call that must return at once did not, and was interrupted."""


class Aside:
    """Calls of code that has blocked before: one after another, on a thread that nobody waits for.

    One that hangs holds up those behind it, and nothing else: neither a thread for each of them nor
    the end of the daemon. There is no thread while there are no calls.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Callable[[], object]] = deque()
        self._busy = False

    def call(self, function: Callable[[], object]) -> None:
        """Have a function called; what it raises is logged."""
        with self._lock:
            self._calls.append(function)
            if self._busy:
                return
            self._busy = True
        threading.Thread(target=self._work, name="pannier-aside", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._busy = False
                    return
                function = self._calls.popleft()
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - the next one is called all the same
                _log.warning("a call that nobody waits for failed: %s", describe(error))


class _Overdue(BaseException):
    """Raised in a call that takes too long; no ``except Exception`` of a stranger's holds it."""

    def __init__(self) -> None:
        super().__init__(f"it did not return within {bounded.AT_ONCE:g} s")


class _Overseer:
    """Looks on while the main thread is in a stranger's code."""

    def __init__(self) -> None:
        self.entered = 0.0  # on the monotonic clock; 0 while the main thread is in no call
        self.interrupted = False
        self._overdue = 0.0  # the call to interrupt
        self._used = False
        self._wanted = threading.Event()
        self._started = False

    def enter(self) -> None:
        """Begin to look on. In the main thread."""
        self.interrupted = False
        self._used = True
        self.entered = time.monotonic()
        if not self._wanted.is_set():
            self._wanted.set()
            if not self._started:
                self._started = True
                signal.signal(_SIGNAL, self._interrupt)
                threading.Thread(target=self._look, name="pannier-overseer", daemon=True).start()

    def _interrupt(self, *_: object) -> None:
        # Else the call has ended meanwhile, and another one may have begun.
        if self.entered and self.entered == self._overdue:
            self.interrupted = True
            raise _Overdue

    def _look(self) -> None:
        idle = seen = 0
        last = 0.0
        while True:
            if idle >= _IDLE:
                self._wanted.clear()
                if not self._used:  # looked at last, or one that has just come would be missed
                    self._wanted.wait()
                idle = 0
            idle = 0 if self._used else idle + 1
            self._used = False
            time.sleep(bounded.AT_ONCE / _LOOKS)
            entered = self.entered
            # Counted and not timed: a machine that stands still stops this thread, too.
            seen = seen + 1 if entered and entered == last else 0
            last = entered
            if seen >= _LOOKS:
                self._used = True
                self._overdue = entered
                signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)


_overseer = _Overseer()


def promptly(function: Callable[[], T]) -> T:
    """Return what *function* returns, or raise what it raises.

    Calls do not nest. Only those on the main thread are overseen, where a daemon's event loop is.

    :raises Blocked: it did not return within :data:`pannier.bounded.AT_ONCE` seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    try:
        try:
            _overseer.enter()
            answer = function()
        finally:
            _overseer.entered = 0.0
    except BaseException as error:
        if _overseer.interrupted:
            raise _blocked() from error
        raise
    if _overseer.interrupted:  # and it did not let itself be stopped
        raise _blocked()
    return answer


def _blocked() -> Blocked:
    return Blocked(
        f"it did not return within {bounded.AT_ONCE:g} s, while everybody waited",
        hint="a fault of the driver's: the daemon's log has the place, for its author",
    )
