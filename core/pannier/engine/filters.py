"""What the filters of lists and prunes have in common."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest
from pannier.patterns import searcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

__all__ = ["label_matches", "moment", "patterns", "refuse_unknown", "truth", "until"]

Filters = "Mapping[str, tuple[str, ...]]"

_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_SPECIAL = re.compile(r"[^\w/-]", re.ASCII)


def refuse_unknown(filters: Mapping[str, tuple[str, ...]], known: AbstractSet[str]) -> None:
    """Refuse a filter that is not among *known*.

    :raises InvalidRequest: with the filter's name.
    """
    for name in filters:
        if name not in known:
            raise InvalidRequest(
                f"invalid filter '{name}'", hint=f"there are: {', '.join(sorted(known))}"
            )


def truth(value: str, name: str) -> bool:
    """Read a yes-or-no filter's value.

    :raises InvalidRequest: it is neither.
    """
    if value.lower() in {"1", "t", "true"}:
        return True
    if value.lower() in {"0", "f", "false"}:
        return False
    raise InvalidRequest(f"invalid filter '{name}={value}'", hint="true or false")


def patterns(filters: Mapping[str, tuple[str, ...]], name: str) -> Callable[[str], bool]:
    """Return what says whether a text passes a filter of patterns, as Docker's names are filtered.

    Without the filter, all do. What is no pattern, or too large a one, matches nothing but itself.
    """
    values = frozenset(filters.get(name, ()))
    if not values:
        return lambda _: True
    tests = [test for value in values if (test := _matcher(value)) is not None]
    return lambda text: text in values or any(test(text) for test in tests)


def _matcher(pattern: str) -> Callable[[str], object] | None:
    """Return what says whether a text holds a match of a pattern; None where it is none."""
    if not _SPECIAL.search(pattern):  # what most people ask for
        return lambda text: pattern in text
    try:
        return searcher(pattern)
    except ValueError:
        return None


def label_matches(labels: Mapping[str, str], filters: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether all ``label`` filters hold, and no ``label!`` filter does."""

    def has(text: str) -> bool:
        key, equals, value = text.partition("=")
        return key in labels and (not equals or labels[key] == value)

    return all(has(text) for text in filters.get("label", ())) and not any(
        has(text) for text in filters.get("label!", ())
    )


def until(filters: Mapping[str, tuple[str, ...]]) -> int | None:
    """Return the moment that the filter ``until`` gives, in nanoseconds since the epoch.

    :raises InvalidRequest: there are several, or it is no time.
    """
    values = filters.get("until", ())
    if len(values) > 1:
        raise InvalidRequest("more than one until filter specified")
    return moment(values[0], time.time_ns()) if values else None


def moment(text: str, now_ns: int) -> int:
    """Read a time: seconds since the epoch, a duration before now (``1h30m``), or RFC 3339.

    :returns: nanoseconds since the epoch.
    :raises InvalidRequest: it is none of them.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        seconds, _, fraction = text.partition(".")
        return int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9] or 0)
    if text and _DURATION.sub("", text) == "":
        total = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
        return now_ns - int(total)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f'failed to parse value as time or duration: "{text}"',
            hint="for instance 10m, 1h30m, 2026-01-02T15:04:05Z, or seconds since the epoch",
        ) from None
    return int(found.astimezone().timestamp() * 10**6) * 1000
