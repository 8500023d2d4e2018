"""Times as the API writes them: RFC 3339 with nanoseconds, and durations for people."""

from __future__ import annotations

import time
from typing import Final

__all__ = ["ZERO_TIME", "human_duration", "rfc3339"]

ZERO_TIME: Final = "0001-01-01T00:00:00Z"
"""Go's zero time, which clients take for *never*."""

_SECOND: Final = 10**9


def rfc3339(nanoseconds: int) -> str:
    """Return a time since the epoch as ``2006-01-02T15:04:05.000000005Z``; 0 as never.

    Trailing zeros of the fraction are left out, as Go does.
    """
    if nanoseconds <= 0:
        return ZERO_TIME
    seconds, fraction = divmod(nanoseconds, _SECOND)
    year, month, day, hour, minute, second, *_ = time.gmtime(seconds)
    text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    if fraction:
        text += f".{fraction:09}".rstrip("0")
    return f"{text}Z"


def human_duration(seconds: float) -> str:
    """Return a duration in Docker's words: ``About a minute``, ``3 hours``, ``2 weeks``."""
    whole = int(seconds)
    if whole < 60:
        return {0: "Less than a second", 1: "1 second"}.get(max(whole, 0), f"{whole} seconds")
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, divisor, unit in (
        (48, 1, "hours"),
        (24 * 7 * 2, 24, "days"),
        (24 * 30 * 2, 24 * 7, "weeks"),
        (24 * 365 * 2, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // divisor} {unit}"
    return f"{hours // 24 // 365} years"
