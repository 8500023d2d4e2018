"""Small stand-ins for parts of the standard library, in the processes that become containers.

What is imported there costs every container's monitor memory, and every container's start time:
contextlib brings collections and functools, signal brings enumerations, traceback brings re. The
C modules below them have all that is needed here.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # has no stubs; signal's are the same
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import TracebackType
else:
    signal = _signal

__all__ = ["failure_text", "signal", "suppress"]


class suppress:  # noqa: N801 - as contextlib's
    """Go on behind the block where one of these errors ends it."""

    __slots__ = ("_errors",)

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return kind is not None and issubclass(kind, self._errors)


def failure_text() -> str:
    """Return the error being handled, with the lines that led to it."""
    kind, error, trace = sys.exc_info()
    lines = []
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f"  {code.co_filename}:{trace.tb_lineno} in {code.co_name}\n")
        trace = trace.tb_next
    name = kind.__name__ if kind is not None else "nothing"
    return f"{''.join(lines)}{name}: {error}\n"
