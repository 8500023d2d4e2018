"""Calls of strangers' code that must come back: on a thread of their own, for so long."""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, TypeVar

from pannier.errors import DriverUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LOADING", "within"]

T = TypeVar("T")

LOADING = 30.0
"""Seconds that a plugin may take to be imported, to answer a hook, and to be probed."""


def within(seconds: float, what: str, function: Callable[[], T]) -> T:
    """Return what *function* returns, or raise what it raises, if it ends in time.

    One that does not keeps its thread, which ends with the process.

    :param what: for the error: what the function was to do, as ``importing it``.
    :raises DriverUnavailable: it did not end; the message says where it hangs.
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
        if isinstance(error, Exception):
            raise error
        # sys.exit() and its like are meant for the process, which is not a plugin's to end.
        raise DriverUnavailable(f"{what} raised {error!r}") from error
    if "answer" in outcome:
        return outcome["answer"]  # type: ignore[no-any-return] # what the function returned
    raise DriverUnavailable(
        f"{what} did not end within {seconds:g} s{_place(thread)}",
        hint="the plugin hangs: uninstall it, or tell its author where",
    )


def _place(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - the documented way
    if frame is None:
        return ""
    innermost = traceback.extract_stack(frame)[-1]
    return f"; it hangs in {innermost.filename}:{innermost.lineno} ({innermost.name})"
