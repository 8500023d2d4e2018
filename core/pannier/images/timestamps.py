"""RFC 3339 times with nanoseconds, as image configurations and Docker's API write them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

__all__ = ["ZERO", "format_time", "now", "parse_time"]

ZERO = "0001-01-01T00:00:00Z"
"""How Go writes a time that was never set."""

_BILLION = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


def now() -> int:
    """Return the present time in nanoseconds since the epoch."""
    return time.time_ns()


def parse_time(text: str) -> int:
    """Return nanoseconds since the epoch (negative before it).

    :raises ValueError: it is no RFC 3339 time.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:100]!r} is not an RFC 3339 time")
    *parts, fraction, sign, hours, minutes = match.groups()
    moment = datetime(*map(int, parts), tzinfo=UTC)  # type: ignore[misc,arg-type]  # six integers, by the pattern
    since = moment - _EPOCH
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        since += -offset if sign == "+" else offset
    seconds = since.days * 86400 + since.seconds
    return seconds * _BILLION + int((fraction or "0").ljust(9, "0"))


def format_time(nanoseconds: int) -> str:
    """Return a time as Go writes it: UTC, and no trailing zeros in the fraction."""
    seconds, fraction = divmod(nanoseconds, _BILLION)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    # strftime does not pad the year to four digits on every C library.
    text = text.rjust(19, "0")
    return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"
