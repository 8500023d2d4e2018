"""Regular expressions of clients: in Go's syntax, which is RE2's, and matched by RE2.

Python's ``re`` backtracks. A short pattern from a client could keep it, and with it the whole
daemon, busy for years.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["searcher"]

_MEMORY: Final = 1 << 20
"""Bytes that a pattern, and what is remembered of its matching, may take up."""


def searcher(pattern: str) -> Callable[[str], object]:
    """Return what finds a pattern in a text: something true where it does.

    :raises ValueError: it is no pattern, or too large a one.
    """
    import re2  # noqa: PLC0415 - few ask for it

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        search: Callable[[str], object] = re2.compile(pattern, options).search
    except re2.error as error:
        why = error.args[0] if error.args else ""
        raise ValueError(why.decode() if isinstance(why, bytes) else str(why)) from None
    return search
