"""Sizes, times and numbers as the docker client reads and writes them."""

from __future__ import annotations

import time

from pannier.errors import InvalidRequest

__all__ = [
    "ago",
    "duration",
    "human_binary",
    "human_duration",
    "human_size",
    "parse_duration",
    "parse_size",
    "parse_time",
    "short_id",
    "short_ids",
]

_BINARY = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DURATIONS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DIGITS = "0123456789."


def short_id(identifier: str) -> str:
    """Return the twelve characters that a listing shows, without the algorithm's name."""
    return identifier.removeprefix("sha256:")[:12]


def short_ids(text: str) -> str:
    """Return a text in which whole ids and digests are cut to their first twelve characters."""
    import re

    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", text)


def parse_size(text: str) -> int:
    """Return bytes for ``64m``, ``1.5g``, ``2 KiB``, ``100``; units are powers of 1024.

    :raises InvalidRequest: for anything else.
    """
    number = text.rstrip(" ").rstrip("".join(set(text) - set(_DIGITS) - {"-", " "})) if text else ""
    number = number.rstrip(" ")
    suffix = text[len(number) :].strip().lower()
    try:
        value = float(number) if number and set(number) <= set(_DIGITS) else -1.0
    except ValueError:
        value = -1.0
    if value < 0:
        raise InvalidRequest(f"invalid size: '{text}'", hint="write for example 64m or 1.5g")
    unit = suffix[:1]
    if unit not in _BINARY or suffix[1:] not in ("", "b", "ib") or suffix == "bb":
        raise InvalidRequest(f"invalid suffix: '{suffix}'", hint="the units are b, k, m, g, t, p")
    return int(value * _BINARY[unit])


def _human(size: float, base: float, units: tuple[str, ...], digits: int) -> str:
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return f"{size:.{digits}g}{units[index]}"


def human_size(size: float, digits: int = 4) -> str:
    """Return a size in powers of 1000: ``4.26MB``."""
    return _plain(_human(size, 1000.0, ("B", "kB", "MB", "GB", "TB", "PB", "EB"), digits))


def human_binary(size: float) -> str:
    """Return a size in powers of 1024: ``7.609GiB``."""
    return _plain(_human(size, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"), 4))


def _plain(text: str) -> str:
    """Undo the exponent that ``%g`` chooses for what rounds up to 1000 and over."""
    if "e+" not in text:
        return text
    number = text.rstrip("BKMGTPEikb")
    return f"{float(number):.0f}{text[len(number) :]}"


def duration(nanoseconds: int) -> str:
    """Return a duration as Go prints one: ``1m30s``, ``500ms``."""
    if not nanoseconds:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left < _DURATIONS["s"]:
        for unit in ("ms", "µs", "ns"):
            if left >= _DURATIONS[unit]:
                return f"{sign}{left / _DURATIONS[unit]:.9g}{unit}"
    hours, left = divmod(left, _DURATIONS["h"])
    minutes, left = divmod(left, _DURATIONS["m"])
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return f"{sign}{text}{left / _DURATIONS['s']:.11g}s"


def parse_duration(text: str) -> int:
    """Return nanoseconds for ``1h30m``, ``1.5s``, ``500ms``.

    :raises InvalidRequest: for anything else, a number without a unit included.
    """
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total = 0.0
    while rest:
        number = rest[: len(rest) - len(rest.lstrip(_DIGITS))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("nusµμmh"))]
        unit = unit if unit in _DURATIONS else unit[:1]
        if number.count(".") > 1 or number in ("", ".") or unit not in _DURATIONS:
            break
        total += float(number) * _DURATIONS[unit]
        rest = rest[len(unit) :]
    else:
        if text.lstrip("+-"):
            return round(-total if text.startswith("-") else total)
    raise InvalidRequest(f"invalid duration {text!r}", hint="write for example 30s, 1m30s or 500ms")


def human_duration(seconds: float) -> str:
    """Return about how long: ``2 hours``, ``About a minute``, ``Less than a second``."""
    hours = int(seconds / 3600 + 0.5)
    days = hours // 24
    # Each row: a value, the limit that it must be under, and what is then said.
    steps = (
        (seconds, 1, "Less than a second"),
        (seconds, 2, "1 second"),
        (seconds, 60, f"{int(seconds)} seconds"),
        (seconds, 120, "About a minute"),
        (seconds, 3600, f"{int(seconds / 60)} minutes"),
        (hours, 2, "About an hour"),
        (hours, 48, f"{hours} hours"),
        (days, 14, f"{days} days"),
        (days, 60, f"{days // 7} weeks"),
        (days, 730, f"{days // 30} months"),
    )
    for value, limit, words in steps:
        if value < limit:
            return words
    return f"{int(seconds / 3600) // 24 // 365} years"


def ago(then: float, now: float | None = None) -> str:
    """Return how long ago a moment (seconds since the epoch) was; ``N/A`` for none."""
    if then <= 0:
        return "N/A"
    return human_duration((time.time() if now is None else now) - then) + " ago"


def parse_time(text: str) -> float:
    """Return seconds since the epoch for an RFC 3339 time as the API writes it; 0 for none.

    Go's zero time, year 1, is none.
    """
    if not text or text.startswith("0001-"):
        return 0.0
    import calendar

    moment, fraction, zone = text[:19], 0.0, text[19:]
    if zone.startswith("."):
        digits = zone[1:].rstrip("Z").partition("+")[0].partition("-")[0]
        fraction = float(f"0.{digits}") if digits.isdigit() else 0.0
        zone = zone[1 + len(digits) :]
    try:
        seconds = calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%S"))
        offset = 0
        if zone[:1] in ("+", "-"):
            offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
            offset = -offset if zone.startswith("-") else offset
    except ValueError:
        return 0.0
    return seconds - offset + fraction
