"""Text as Go's ``%q`` and ``%v`` write it, which is what image histories hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.images.config import Healthcheck

__all__ = ["duration", "health", "quoted", "quoted_list"]

_ESCAPES: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}
_UNITS: Final = ((3_600_000_000_000, "h"), (60_000_000_000, "m"))
_SECOND: Final = 1_000_000_000


def quoted(text: str, quote: str = '"') -> str:
    """Return a Go string literal."""
    out = []
    for character in text:
        code = ord(character)
        if character == quote:
            out.append("\\" + quote)
        elif character in _ESCAPES:
            out.append(_ESCAPES[character])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
            out.append(f"\\x{code - 0xDC00:02x}")
        elif character.isprintable():
            out.append(character)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(f"\\U{code:08x}")
    return f"{quote}{''.join(out)}{quote}"


def quoted_list(words: Iterable[str]) -> str:
    """Return ``["a" "b"]``."""
    return f"[{' '.join(quoted(word) for word in words)}]"


def duration(nanoseconds: int) -> str:
    """Return a duration as Go writes it: ``1m30s``, ``500ms``, ``0s``."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < _SECOND:
        for size, unit in ((1_000_000, "ms"), (1_000, "µs"), (1, "ns")):
            if nanoseconds >= size:
                return f"{_decimal(nanoseconds, size)}{unit}"
    out, rest = "", nanoseconds
    for size, unit in _UNITS:
        if rest >= size or out:
            out += f"{rest // size}{unit}"
            rest %= size
    return f"{out}{_decimal(rest, _SECOND)}s"


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    if not rest:
        return str(whole)
    digits = len(str(size)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0")


def health(check: Healthcheck) -> str:
    """Return a health check as Docker's history has it."""
    times = (check.interval, check.timeout, check.start_period)
    parts = [quoted_list(check.test), *(quoted(duration(time)) for time in times)]
    parts.append(quoted(chr(check.retries) if check.retries < 0xD800 else "\ufffd", "'"))
    return f"&{{{' '.join(parts)}}}"
