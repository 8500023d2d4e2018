"""Durations as Go writes them: ``1h30m``, ``500ms``, ``1.5s``."""

from __future__ import annotations

import re
from decimal import Decimal

from pannier.errors import InvalidRequest

__all__ = ["parse_duration"]

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_MAX_TEXT = 64


def parse_duration(text: str) -> int:
    """Return a duration in nanoseconds, from 0 up.

    :raises InvalidRequest: it is malformed.
    """
    if text == "0":
        return 0
    parts = list(_PART.finditer(text)) if len(text) <= _MAX_TEXT else []
    if not parts or "".join(part[0] for part in parts) != text:
        raise InvalidRequest(
            f'time: invalid duration "{text[:_MAX_TEXT]}"', hint="write 30s, 1m30s or 500ms"
        )
    return int(sum(Decimal(part[1]) * _UNITS[part[2]] for part in parts))
