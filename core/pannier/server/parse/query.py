"""Query parameters, read as Docker reads them. Unknown ones are ignored."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pannier.errors import InvalidRequest
from pannier.server.parse.fields import INT64_MAX, INT64_MIN, clean_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from multidict import MultiMapping

__all__ = ["Query", "parse_time"]

_INTEGER = re.compile(r"[+-]?\d{1,20}")
_UNIX_TIME = re.compile(r"-?\d{1,12}(?:\.\d{1,30})?")
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?)?([Zz]|[+-]\d\d:\d\d)?"
)
_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,8})m)?(?:(\d{1,10}(?:\.\d{1,9})?)s)?")

_FALSE = {"", "0", "no", "false", "none"}


class Query:
    """The parameters of one request."""

    __slots__ = ("_values",)

    def __init__(self, values: MultiMapping[str]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str = "") -> str:
        """Read a parameter as it is."""
        return clean_text(self._values.get(name, default), name)

    def texts(self, name: str) -> list[str]:
        """Read a parameter that may be given several times."""
        return [clean_text(value, name) for value in self._values.getall(name, [])]

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """Read a boolean: everything but ``0``, ``no``, ``false``, ``none`` and nothing is true."""
        value = self._values.get(name)
        return default if value is None else value.strip().lower() not in _FALSE

    def integer(self, name: str, default: int = 0) -> int:
        """Read a whole number that fits 64 bits; an empty value is the default."""
        value = self._values.get(name, "")
        if not value:
            return default
        if _INTEGER.fullmatch(value) is None or not INT64_MIN <= int(value) <= INT64_MAX:
            raise InvalidRequest(f"invalid value for {name}: {value!r} is not a whole number")
        return int(value)

    def optional_integer(self, name: str) -> int | None:
        """Read a whole number that may be absent."""
        return self.integer(name) if self._values.get(name) else None

    def time(self, name: str, now: Callable[[], float]) -> int:
        """Read a point in time, in nanoseconds since the epoch; 0 where it is absent."""
        value = self._values.get(name, "")
        return 0 if value in {"", "0"} else parse_time(value, now)

    def filters(
        self, allowed: Collection[str], *, others: bool = False
    ) -> dict[str, tuple[str, ...]]:
        """Read ``filters``, in today's form or the one of before API 1.22.

        :param allowed: the names that this listing knows.
        :param others: leave others out; else they are refused.
        """
        text = self._values.get("filters", "")
        if not text:
            return {}
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidRequest(f"invalid filter: {text[:100]!r} is not JSON") from None
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidRequest("invalid filter: an object is expected")
        unknown = [name for name in value if name not in allowed]
        if unknown and not others:
            raise InvalidRequest(f"invalid filter '{unknown[0]}'", hint=_known(allowed))
        return {name: _filter_values(name, item) for name, item in value.items() if name in allowed}


def _known(allowed: Collection[str]) -> str:
    return "known here: " + ", ".join(sorted(allowed)) if allowed else "there are none here"


def _filter_values(name: str, value: Any) -> tuple[str, ...]:
    # {"status": ["running"]}, or {"status": {"running": true}}, whose booleans mean nothing.
    values = list(value) if isinstance(value, (list, dict)) else None
    if values is None or not all(isinstance(item, str) for item in values):
        raise InvalidRequest(f"invalid filter '{name}': an array of strings is expected")
    return tuple(clean_text(item, name) for item in values)


def parse_time(text: str, now: Callable[[], float]) -> int:
    """Parse a time as ``--since`` takes it: Unix, RFC 3339, or a duration back from *now*.

    :returns: nanoseconds since the epoch; at least 1 of what is before it.
    """
    if _UNIX_TIME.fullmatch(text):
        nanoseconds = int(Decimal(text) * 10**9)
        return max(nanoseconds, 1) if text.startswith("-") else nanoseconds
    match = _RFC3339.fullmatch(text)
    if match is not None:
        return _parse_date(text, match)
    match = _DURATION.fullmatch(text)
    if match is not None and text:
        seconds = (
            Decimal(match[1] or 0) * 3600 + Decimal(match[2] or 0) * 60 + Decimal(match[3] or 0)
        )
        return max(int((Decimal(now()) - seconds) * 10**9), 0)
    raise InvalidRequest(
        f"invalid time {text!r}",
        hint="write seconds since the epoch, 2006-01-02T15:04:05Z, or a duration such as 1h30m",
    )


def _parse_date(text: str, match: re.Match[str]) -> int:
    day, clock, fraction, zone = match[1], match[2] or "00:00:00", match[3] or "", match[4] or "Z"
    if len(clock) == 5:
        clock += ":00"
    zone = "+00:00" if zone in {"Z", "z"} else zone
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone}")
    except ValueError:
        raise InvalidRequest(f"invalid time {text!r}") from None
    seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return max(seconds * 10**9 + int(fraction.ljust(9, "0")), 0)
