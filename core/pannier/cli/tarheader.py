"""A tar member's header, made by hand: importing tarfile costs a start more than a small context.

ustar (POSIX.1-1988), with a PAX header before it (pax(1)) for what does not fit.
"""

from __future__ import annotations

__all__ = ["BLOCK", "member_header"]

BLOCK = 512

_NAME = 100
_MAX_DEVICE = 0o7777777
_MAX_SIZE = 0o77777777777
_SECOND = 1_000_000_000


def member_header(
    name: bytes,
    kind: bytes,
    mode: int,
    mtime: int,
    *,
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """Return the header of a member that belongs to root.

    :param kind: ustar's type flag.
    :param mode: permission bits.
    :param mtime: nanoseconds since the epoch; what is under a second, or before it, is kept too.
    :param size: bytes that follow.
    :param device: major and minor number.
    """
    records = b""
    if len(name) > _NAME:
        records += _record(b"path", name)
    if len(link) > _NAME:
        records += _record(b"linkpath", link)
    if size > _MAX_SIZE:
        records += _record(b"size", b"%d" % size)
    seconds, rest = divmod(abs(mtime), _SECOND)
    whole = mtime // _SECOND
    if rest or not 0 <= whole <= _MAX_SIZE:
        sign = b"-" if mtime < 0 else b""
        records += _record(b"mtime", b"%s%d.%09d" % (sign, seconds, rest))
    fields = _fields(name, kind, (mode, size, whole), link, device)
    if not records:
        return fields
    extended = _fields(b"PaxHeaders.0/entry", b"x", (0o644, len(records), 0))
    return extended + records + bytes(-len(records) % BLOCK) + fields


def _record(key: bytes, value: bytes) -> bytes:
    """Return ``length key=value``, where the length counts its own digits too."""
    bare = len(key) + len(value) + 3
    length = bare + len(str(bare))
    if len(str(length)) > len(str(bare)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _fields(
    name: bytes,
    kind: bytes,
    numbers: tuple[int, int, int],
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """Return a block.

    :param numbers: mode, size and seconds.
    """
    mode, size, seconds = numbers
    before = name[:_NAME].ljust(_NAME, b"\0") + b"%07o\0%07o\0%07o\0" % (mode, 0, 0)
    before += _octal(size, 11, _MAX_SIZE) + _octal(seconds, 11, _MAX_SIZE)
    before += b"        "  # the checksum is counted as spaces
    magic = b"ustar\0" + b"00" + bytes(2 * 32)
    places = b"".join(_octal(one, 7, _MAX_DEVICE) for one in device)
    head = before + kind + link[:_NAME].ljust(_NAME, b"\0") + magic + places
    head = head.ljust(BLOCK, b"\0")
    return b"%s%06o\0 %s" % (head[:148], sum(head), head[156:])


def _octal(value: int, digits: int, limit: int) -> bytes:
    return b"%0*o\0" % (digits, value if 0 <= value <= limit else 0)
