"""Calls of strangers' code that must come back: on a thread of their own, for so long."""

from __future__ import annotations

import sys
import threading
import traceback
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeGuard, TypeVar

from pannier.errors import DriverUnavailable, PannierError, StartFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pannier.drivers.base import Driver

__all__ = ["AT_ONCE", "LOADING", "Patience", "describe", "is_whole", "side_by_side", "within"]

T = TypeVar("T")

LOADING = 30.0
"""Seconds that a plugin may take to be imported, to answer a hook, and to be probed."""


AT_ONCE = 2.0
"""Seconds that a driver may take where the event loop, and with it everybody, waits for it."""


_STATUSES: Final = range(300, 600)
"""What an error may be answered with; an answer of another status would be no error's."""


class _Hanging(DriverUnavailable):
    """What was called has not come back; *thread* is where it is."""

    def __init__(self, message: str, thread: threading.Thread) -> None:
        super().__init__(message, hint="the plugin hangs: uninstall it, or tell its author where")
        self.thread = thread


def within(seconds: float, what: str, function: Callable[[], T]) -> T:
    """Return what *function* returns, or raise what it raises, if it ends in time.

    One that does not keeps its thread, which ends with the process.

    :param what: for the error: what the function was to do, as ``importing it``.
    :raises DriverUnavailable: it did not end, and the message says where it hangs; or it raised
        what nobody here could handle.
    """
    outcome: dict[str, Any] = {}

    def call() -> None:
        try:
            outcome["answer"] = function()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            outcome["error"] = error

    thread = threading.Thread(target=call, name=f"pannier-{what}", daemon=True)
    thread.start()
    thread.join(seconds)
    error = outcome.get("error")
    if error is not None:
        if isinstance(error, Exception) and (
            not isinstance(error, PannierError) or is_whole(error)
        ):
            raise error
        # sys.exit() and its like are meant for the process, which is not a plugin's to end.
        raise DriverUnavailable(f"{what} raised {describe(error)}") from error
    if "answer" in outcome:
        return outcome["answer"]  # type: ignore[no-any-return] # what the function returned
    raise _Hanging(f"{what} did not end within {seconds:g} s{_place(thread)}", thread)


def side_by_side(functions: Sequence[Callable[[], T]]) -> list[T]:
    """Return what each function returns, or raise what the first that failed raises.

    Their threads keep no process from ending.
    """
    futures: list[Future[T]] = [Future() for _ in functions]

    def call(function: Callable[[], T], future: Future[T]) -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            future.set_exception(error)

    for function, future in zip(functions, futures, strict=True):
        threading.Thread(target=call, args=(function, future), daemon=True).start()
    return [future.result() for future in futures]


def _place(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - the documented way
    if frame is None:
        return ""
    innermost = traceback.extract_stack(frame)[-1]
    return f"; it hangs in {innermost.filename}:{innermost.lineno} ({innermost.name})"


def is_whole(error: BaseException) -> TypeGuard[PannierError]:
    """Whether an error is one of Pannier's, with all that those who handle it rely on.

    A stranger's subclass may have left its root's constructor out, or say what it likes.
    """
    if not isinstance(error, PannierError):
        return False
    try:
        return (
            isinstance(error.message, str)
            and (error.hint is None or isinstance(error.hint, str))
            and isinstance(str(error), str)
            and isinstance(error.status, int)
            and error.status in _STATUSES
            and (not isinstance(error, StartFailed) or isinstance(error.errno, int))
        )
    except BaseException:  # noqa: BLE001 - a stranger's object may raise anything
        return False


def describe(error: BaseException) -> str:
    """Return an exception's kind and words, whatever a stranger's exception does when asked.

    An error of Pannier's own is its message alone, and one without words its kind.
    """
    if is_whole(error) and error.message.strip():
        return error.message
    try:
        words = str(error)
    except BaseException:  # noqa: BLE001 - as the docstring says
        words = ""
    return f"{type(error).__name__}: {words}" if words.strip() else type(error).__name__


class Patience:
    """Asks drivers where nobody must be held up: at the daemon's start, or on its event loop.

    A driver that hangs is waited for once. Until what it was asked then comes back, it is asked
    nothing more, so that a hundred questions take no longer than one.

    :param seconds: how long an answer may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._hanging: dict[str, threading.Thread] = {}

    def ask(self, driver: Driver, function: Callable[[], T]) -> T:
        """Return what *function*, which asks *driver* something, returns.

        :raises DriverUnavailable: it does not answer in time, or has not answered before.
        """
        name = f"the {driver.kind} driver {driver.id!r}"
        thread = self._hanging.get(name)
        if thread is not None and thread.is_alive():
            raise DriverUnavailable(
                f"{name} still hangs in what it was asked before{_place(thread)}",
                hint="it is asked again when it has answered; a restart of the daemon helps sooner",
            )
        try:
            return within(self._seconds, f"asking {name}", function)
        except _Hanging as error:
            self._hanging[name] = error.thread
            raise
