"""Layer archives to give to a storage driver, entry by entry."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["STAMP", "Member", "archive", "archive_stream", "entry", "sparse_entry"]

STAMP: Final = 1_600_000_000
"""The modification time of entries that have no other, in seconds since the epoch."""

_BLOCK: Final = 512


class Member(tarfile.TarInfo):
    """An archive's member with its content."""

    content: bytes = b""

    def __repr__(self) -> str:
        return f"<{self.type!r} {self.name} {self.linkname}>"


def entry(name: str, content: bytes = b"", **fields: Any) -> Member:
    """Describe a member; a name that ends in a slash is a folder.

    :param fields: attributes of :class:`tarfile.TarInfo`; ``xattrs`` are pax headers.
    """
    member = Member(name.rstrip("/"))
    member.mode = 0o755 if name.endswith("/") else 0o644
    member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    member.mtime = STAMP
    member.size = len(content)
    member.content = content
    member.pax_headers = fields.pop("xattrs", {})
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def sparse_entry(name: str, size: int, offset: int, data: bytes) -> Member:
    """Describe a file of *size* bytes that is a hole but for *data* at *offset*.

    In the sparse format 1.0 of GNU tar's manual: the map, in blocks, stands before the data.
    """
    table = f"1\n{offset}\n{len(data)}\n".encode()
    table += bytes(-len(table) % _BLOCK)
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size),
    }
    return entry(f"GNUSparseFile.0/{name}", table + data, xattrs=headers)


def archive(*entries: Member) -> io.BytesIO:
    """Return an archive of entries."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in entries:
            tar.addfile(member, io.BytesIO(member.content))
    out.seek(0)
    return out


def archive_stream(
    data: bytes | Iterator[bytes], at: int | None = None, then: Callable[[], None] | None = None
) -> BinaryIO:
    """Return a stream of an archive, as bytes or in pieces.

    :param at: how many bytes are given before *then* is called, which raises or does not return.
    """
    return io.BufferedReader(_Stream(data, at, then), 4096)


class _Stream(io.RawIOBase):
    """An archive that is not held in memory twice, and at one point of which something happens."""

    def __init__(
        self, data: bytes | Iterator[bytes], at: int | None, then: Callable[[], None] | None
    ) -> None:
        self._pieces = iter([data]) if isinstance(data, bytes) else data
        self._left = memoryview(b"")
        self._at = at
        self._then = then
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        buffer = memoryview(into)
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        if self._at is not None:
            if self._given >= self._at:
                assert self._then is not None
                self._then()
            count = min(count, self._at - self._given)
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        self._given += count
        return count
