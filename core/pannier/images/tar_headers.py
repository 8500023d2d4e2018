"""The numbers and records inside a tar archive's headers: ustar, GNU and PAX (pax(1), tar(5))."""

from __future__ import annotations

import struct
from typing import Final

from pannier.errors import ImageInvalid

__all__ = [
    "BLOCK",
    "GNU_SPARSE",
    "HEADER",
    "checksum_ok",
    "decimal",
    "number",
    "pax_records",
    "pax_time",
    "text",
]

BLOCK: Final = 512

HEADER: Final = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
"""name mode uid gid size mtime checksum type linkname magic version uname gname major minor
prefix."""

GNU_SPARSE: Final = struct.Struct("386x96sc12s17x")
"""The old GNU sparse header: four (offset, size) pairs, "more follows", the real size."""

_SPACES: Final = b"        "


def text(field: bytes) -> bytes:
    """Return a field up to its first NUL."""
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


def number(field: bytes, what: str) -> int:
    """Return a numeric field: octal digits, or GNU's base-256 where the first bit is set."""
    first = field[0]
    if first & 0x80:
        value = int.from_bytes(field, "big", signed=True)
        # The bit that marks the form is not part of a positive number.
        return value if first == 0xFF else value + (1 << (8 * len(field) - 1))
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    raise ImageInvalid(f"broken tar header: {what} is {digits!r}, not an octal number")


def checksum_ok(header: bytes, stored: bytes) -> bool:
    """Whether the header's bytes add up; some old writers added them as signed ones."""
    try:
        expected = int(stored.partition(b"\0")[0].strip(b" ") or b"x", 8)
    except ValueError:
        return False
    rest = header[:148] + _SPACES + header[156:]
    total = sum(rest)
    return total == expected or total - 256 * sum(byte > 127 for byte in rest) == expected


def pax_records(body: bytes) -> list[tuple[bytes, bytes]]:
    """Split a PAX extended header into its ``length key=value`` records, in order."""
    records = []
    position = 0
    while position < len(body):
        space = body.find(b" ", position, position + 20)
        digits = body[position:space]
        if space < 0 or not digits.isdigit():
            if not body[position:].strip(b"\0"):
                break
            raise ImageInvalid("broken PAX header: a record has no length")
        end = position + int(digits)
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if end <= space + 1 or end > len(body) or body[end - 1] != 0x0A or not equals or not key:
            raise ImageInvalid(f"broken PAX header: a record of {digits!r} bytes does not fit")
        records.append((key, value))
        position = end
    return records


def pax_time(value: bytes) -> int:
    """Return a PAX time (decimal seconds, any number of fraction digits) in nanoseconds."""
    negative = value.startswith(b"-")
    whole, _, fraction = value.lstrip(b"-").partition(b".")
    if not (whole.isdigit() and (not fraction or fraction.isdigit())) or len(whole) > 20:
        raise ImageInvalid(f"broken PAX header: the time {value[:40]!r} is no number")
    total = int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0")
    return -total if negative else total


def decimal(key: bytes, value: bytes) -> int:
    """Return the number that a PAX record gives for *key*."""
    if value.isdigit() and len(value) <= 20:
        return int(value)
    raise ImageInvalid(f"broken PAX header: {key!r} is {value[:40]!r}, not a number")
