"""Threads for drivers' calls, of which some may never come back.

A driver is a stranger's code. One that hangs keeps its thread, and nothing else: the pool makes
another thread in its place, whoever waits is told after a time, and the daemon ends without it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pannier.bounded import describe
from pannier.drivers.operations import Abandonment
from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pool"]

T = TypeVar("T")

_SLOW = 5.0
"""Seconds after which a call does not count among those that will soon be done."""

_MOST = 256
"""However many hang, threads are not made without end."""

_log = logging.getLogger("pannier.engine")


@dataclass(eq=False, slots=True)
class _Call:
    """A call to make, and where its answer is waited for."""

    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    begun: float = 0.0
    thread: int = 0
    abandonment: Abandonment = field(default_factory=Abandonment)


class Pool:
    """A number of threads that is always to be had.

    :param size: how many calls are made at once; those that take long are not counted.
    :param name: what the threads are called.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._running: set[_Call] = set()
        self._open = 0  # calls that have no answer yet; changed by the loop's thread only
        self._threads: list[threading.Thread] = []
        self._watched = False

    async def call(self, function: Callable[[], T], patience: float | None = None) -> T:
        """Make a call on a thread.

        :param patience: seconds after which nobody waits for its end any longer.
        :raises DriverError: the patience is at its end; the log has where the call hangs.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        call = _Call(function, loop, future)
        self._open += 1
        self._calls.put(call)
        self._staff(loop)
        if patience is None:
            return await future
        alarm = loop.call_later(patience, self._give_up, call, patience)
        try:
            return await future
        finally:
            alarm.cancel()

    def _staff(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that there is a thread for each call, up to the size."""
        now = time.monotonic()
        slow = sum(now - call.begun > _SLOW for call in tuple(self._running))
        if len(self._threads) < min(self._open, self._size + slow, _MOST):
            thread = threading.Thread(
                target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        if not self._watched and self._open > len(self._threads) >= self._size:
            # All are busy: those that will have become slow are replaced then.
            self._watched = True
            loop.call_later(_SLOW, self._look_again, loop)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watched = False
        for _ in range(self._calls.qsize()):
            self._staff(loop)

    @staticmethod
    def _give_up(call: _Call, patience: float) -> None:
        if call.future.done():
            return
        call.abandonment.set()
        where = _where(call.thread)
        _log.warning(
            "a call%s did not end within %.0f s, and nobody waits for it any longer:\n%s",
            f" of {call.abandonment.doing}" if call.abandonment.doing else "",
            patience,
            where or "it has not begun",
        )
        place = where.splitlines()[-2].strip() if where else "not begun"
        asked = call.abandonment.doing or "a driver"
        call.future.set_exception(
            DriverError(
                f"{asked} did not answer within {patience:.0f} s ({place})",
                hint="the daemon's log has where it hangs; [drivers] patience is how long it may",
            )
        )

    # On the threads.

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            call.thread = threading.get_ident()
            call.begun = time.monotonic()
            self._running.add(call)
            try:
                self._make(call)
            finally:
                self._running.discard(call)
            del call

    def _make(self, call: _Call) -> None:
        try:
            with call.abandonment:
                # Nobody waits for what was given up before it began: it must not happen later.
                call.abandonment.check()
                answer = call.function()
        except StopIteration as error:  # a future takes none
            self._tell(call, call.future.set_exception, RuntimeError(f"{error!r} was raised"))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._tell(call, call.future.set_exception, error)
        except BaseException as error:  # noqa: BLE001 - there it would end the event loop
            failure = DriverError(f"a call raised {describe(error)}")
            self._tell(call, call.future.set_exception, failure)
        else:
            self._tell(call, call.future.set_result, answer)

    def _tell(self, call: _Call, how: Callable[..., None], value: object) -> None:
        def tell() -> None:
            self._open -= 1
            if not call.future.done():
                how(value)

        try:
            call.loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop has ended: nobody waits
            _log.debug("an answer came after the end: %r", value)

    def close(self, patience: float) -> None:
        """End the threads; wait so many seconds for the calls that are being made."""
        for _ in self._threads:
            self._calls.put(None)
        end = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))
        if left := [thread.name for thread in self._threads if thread.is_alive()]:
            _log.warning("ended without waiting for %s", ", ".join(left))


def _where(thread: int) -> str:
    """Return a thread's stack, the innermost call last."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to ask
    return "" if frame is None else "".join(traceback.format_stack(frame))
