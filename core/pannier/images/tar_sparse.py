"""The maps of sparse files in tar archives: GNU's old form, and PAX 0.0, 0.1 and 1.0.

A map is numbers in turn: the offset of a piece that the archive holds, and its length. It stands in
the headers, or goes on in blocks behind them, which the caller reads on demand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pannier.errors import ImageInvalid
from pannier.images.tar_headers import GNU_SPARSE, decimal, number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["checked_pieces", "old_map", "pax_map", "pax_size"]

_LIMIT: Final = 1 << 20
"""How many numbers a map may have."""


def old_map(header: bytes, block: Callable[[], bytes]) -> tuple[list[int], int]:
    """Return the map of GNU's old form, and the file's size in bytes.

    :param block: reads the next block of the map.
    :raises ImageInvalid: it is broken, or has too many pieces.
    """
    pairs, more, real = GNU_SPARSE.unpack(header)
    numbers = _fields(pairs)
    while more not in b"\x000":
        following = block()
        numbers += _fields(following[:504])
        more = following[504:505]
        if len(numbers) > _LIMIT:
            raise ImageInvalid("a sparse map has too many pieces")
    return numbers, number(real, "real size")


def _fields(pairs: bytes) -> list[int]:
    numbers: list[int] = []
    for start in range(0, len(pairs), 24):
        piece = pairs[start : start + 24]
        if not piece[12]:
            break
        numbers += [number(piece[:12], "sparse offset"), number(piece[12:], "sparse length")]
    return numbers


def pax_size(pax: Mapping[bytes, bytes]) -> int | None:
    """Return the size in bytes of a file that PAX records call sparse; None for any other."""
    real = pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size"))
    return None if real is None else decimal(b"GNU.sparse.realsize", real)


def pax_map(
    pax: Mapping[bytes, bytes], loose: list[int], block: Callable[[], bytes]
) -> Sequence[int]:
    """Return the map of a file that PAX records call sparse.

    :param loose: the numbers of form 0.0, which has a record for each.
    :param block: reads the next block of the file's content, where form 1.0 has the map.
    :raises ImageInvalid: it is broken, or has too many pieces.
    """
    if pax.get(b"GNU.sparse.major") == b"1":
        return _map_in_content(block)
    if b"GNU.sparse.map" in pax:
        written = pax[b"GNU.sparse.map"]
        return [decimal(b"GNU.sparse.map", item) for item in written.split(b",") if written]
    return loose


def _map_in_content(block: Callable[[], bytes]) -> list[int]:
    """Read the map of form 1.0: decimal lines, padded to whole blocks."""
    taken = b""
    expected: int | None = None
    while True:
        if len(taken) > 24 * _LIMIT:
            raise ImageInvalid("broken sparse map: it is longer than the file's content")
        taken += block()
        if expected is None and b"\n" in taken:
            expected = 2 * decimal(b"sparse map", taken.partition(b"\n")[0])
            if expected > _LIMIT:
                raise ImageInvalid("a sparse map has too many pieces")
        if expected is not None and taken.count(b"\n") > expected:
            lines = taken.split(b"\n")[1 : expected + 1]
            return [decimal(b"sparse map", line) for line in lines]


def checked_pieces(
    name: bytes, numbers: Sequence[int], *, size: int, stored: int
) -> tuple[tuple[int, int], ...]:
    """Return the (offset, length) pieces that a map means.

    :param size: bytes of the file, holes included.
    :param stored: bytes that the archive has of it.
    :raises ImageInvalid: they overlap, or do not fit.
    """
    if len(numbers) % 2:
        raise ImageInvalid("broken sparse map: an offset has no length")
    pieces = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    end = total = 0
    for offset, length in pieces:
        if offset < end or length < 0:
            raise ImageInvalid(f"broken sparse map of {name!r}: its pieces overlap")
        end = offset + length
        total += length
    if end > size or total > stored:
        raise ImageInvalid(f"broken sparse map of {name!r}: it exceeds the file's size")
    return pieces
