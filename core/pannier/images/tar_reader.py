"""Reads a tar archive from a stream, entry by entry, never more than a buffer in memory.

The standard library's tarfile costs several times as much for an entry as creating the file does;
layers are what an engine unpacks all day, so the format is read here directly: ustar, GNU (long
names, sparse) and PAX (long names, times, ids, extended attributes, sparse 0.0, 0.1 and 1.0).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from pannier.errors import ImageInvalid
from pannier.images.tar_headers import (
    BLOCK,
    HEADER,
    checksum_ok,
    decimal,
    number,
    pax_records,
    pax_time,
    text,
)
from pannier.images.tar_sparse import checked_pieces, old_map, pax_map, pax_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["TarEntry", "TarReader"]

_CHUNK: Final = 1 << 20
_METADATA_LIMIT: Final = 1 << 20
_PADDING_LIMIT: Final = 16 << 20
_XATTR: Final = b"SCHILY.xattr."
_KNOWN: Final = b"0123456S"
_PAX_NUMBERS: Final = {
    b"size": "size",
    b"uid": "uid",
    b"gid": "gid",
    b"SCHILY.devmajor": "major",
    b"SCHILY.devminor": "minor",
}
_NO_XATTRS: Final[Mapping[bytes, bytes]] = {}
_ZEROES: Final = bytes(BLOCK)
_MAX_NANOSECONDS: Final = (1 << 40) * 1_000_000_000


@dataclass(slots=True)
class TarEntry:
    """One member of an archive.

    :param name: as written, with GNU and PAX long names put in.
    :param type: the ustar type flag, with ``0`` for every form of regular file.
    :param mode: permission bits with set-id and sticky.
    :param size: bytes of a regular file, holes included.
    :param mtime: nanoseconds since the epoch.
    :param xattrs: extended attributes by their full names.
    :param sparse: the (offset, length) pieces that the archive holds; None for a whole file.
    """

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes
    major: int
    minor: int
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    sparse: tuple[tuple[int, int], ...] | None = None


@dataclass(slots=True)
class _Extended:
    """What extended headers say of the entry that follows them."""

    pax: dict[bytes, bytes] = field(default_factory=dict)
    sparse: list[int] = field(default_factory=list)
    name: bytes | None = None
    link: bytes | None = None

    def is_empty(self) -> bool:
        return not self.pax and not self.sparse and self.name is None and self.link is None


class TarReader:
    """The members of an archive, in order.

    :param stream: an uncompressed archive; read in pieces of one MiB, to its end.
    :param max_bytes: refuse a stream longer than this.
    :param unended: take an archive that just ends behind an entry, without an end marker or the
        last file's padding, as Go's library does: some builders write layers so.
    """

    def __init__(self, stream: BinaryIO, *, max_bytes: int, unended: bool = False) -> None:
        self._stream = stream
        self._budget = max_bytes
        self._limit = max_bytes
        self._data = b""
        self._position = 0
        self._left = 0
        self._padding = 0
        self._unended = unended
        self._begun = False
        self._globals: dict[bytes, bytes] = {}

    # The stream.

    def _refill(self) -> bool:
        chunk = self._stream.read(_CHUNK)
        if not chunk:
            return False
        self._budget -= len(chunk)
        if self._budget < 0:
            raise ImageInvalid(
                f"the archive is longer than the limit of {self._limit} bytes",
                hint="raise the limit if you trust where the image comes from",
            )
        rest = self._data[self._position :]
        self._data = rest + chunk if rest else chunk
        self._position = 0
        return True

    def _take(self, count: int, what: str) -> bytes:
        end = self._position + count
        while end > len(self._data):
            if not self._refill():
                raise ImageInvalid(f"truncated archive: it ends inside {what}")
            end = self._position + count
        piece = self._data[self._position : end]
        self._position = end
        return piece

    def _skip(self, count: int, what: str) -> None:
        while True:
            available = len(self._data) - self._position
            if count <= available:
                self._position += count
                return
            count -= available
            self._position = len(self._data)
            if not self._refill():
                raise ImageInvalid(f"truncated archive: it ends inside {what}")

    def drain(self) -> None:
        """Read what follows the archive's end, so that the stream's owner sees all of it.

        :raises ImageInvalid: it is more than any padding: a bomb, perhaps.
        """
        rest = -self._position
        while True:
            rest += len(self._data)
            if rest > _PADDING_LIMIT:
                raise ImageInvalid(
                    f"the archive goes on for over {_PADDING_LIMIT} bytes after its end marker"
                )
            self._position = len(self._data)
            if not self._refill():
                return

    # The content of the present entry.

    def copy_to(self, descriptor: int, entry: TarEntry) -> None:
        """Write the entry's content to *descriptor*, holes left as holes."""
        if entry.sparse is None:
            self._copy(descriptor, self._left)
            return
        for offset, length in entry.sparse:
            os.lseek(descriptor, offset, os.SEEK_SET)
            self._copy(descriptor, length)
        os.ftruncate(descriptor, entry.size)

    def _copy(self, descriptor: int, count: int) -> None:
        self._left -= count
        while count:
            position = self._position
            available = min(count, len(self._data) - position)
            if not available:
                if not self._refill():
                    raise ImageInvalid("truncated archive: it ends inside a file's content")
                continue
            piece: bytes | memoryview
            if position == 0 and available == len(self._data):
                piece = self._data
            else:
                piece = memoryview(self._data)[position : position + available]
            written = os.write(descriptor, piece)
            self._position += written
            count -= written

    def read_content(self, limit: int) -> bytes:
        """Return the whole content of the present, not sparse, entry.

        :raises ImageInvalid: it is larger than *limit* bytes.
        """
        if self._left > limit:
            raise ImageInvalid(f"a member of {self._left} bytes exceeds the limit of {limit}")
        body = self._take(self._left, "a file's content")
        self._left = 0
        return body

    # The headers.

    def next(self) -> TarEntry | None:
        """Return the next entry, or None at the archive's end marker.

        :raises ImageInvalid: the archive is broken, or ends without its end marker.
        """
        if self._unended and self._begun and self._just_ends():
            return None
        self._begun = True
        extended = _Extended()
        while True:
            if self._left or self._padding:
                self._skip(self._left + self._padding, "a file's content")
                self._left = self._padding = 0
            header = self._take(BLOCK, "a header, or before its end marker")
            if header == _ZEROES:
                if not extended.is_empty():
                    raise ImageInvalid("broken archive: an extended header stands before its end")
                return None
            fields = HEADER.unpack(header)
            if not checksum_ok(header, fields[6]):
                raise ImageInvalid("broken archive: a header's checksum is wrong")
            kind = fields[7]
            if kind in b"xXgLK":
                self._extend(extended, kind, number(fields[4], "size"))
            elif kind == b"V":  # a volume's label
                self._left = number(fields[4], "size")
                self._padding = -self._left % BLOCK
            else:
                return self._entry(header, fields, extended)

    def _just_ends(self) -> bool:
        """Whether the stream ends with the present entry's content, or within its padding."""
        self._skip(self._left, "a file's content")
        self._left = 0
        while len(self._data) - self._position <= self._padding:
            if not self._refill():
                return True
        return False

    def _extend(self, extended: _Extended, kind: bytes, size: int) -> None:
        body = self._metadata(size)
        if kind == b"L":
            extended.name = text(body)
        elif kind == b"K":
            extended.link = text(body)
        elif kind == b"g":
            self._globals.update(pax_records(body))
        else:
            for key, value in pax_records(body):
                if key in {b"GNU.sparse.offset", b"GNU.sparse.numbytes"}:
                    extended.sparse.append(decimal(key, value))
                else:
                    extended.pax[key] = value

    def _metadata(self, size: int) -> bytes:
        if not 0 <= size <= _METADATA_LIMIT:
            raise ImageInvalid(
                f"an extended header of {size} bytes exceeds the limit of {_METADATA_LIMIT}"
            )
        body = self._take(size, "an extended header")
        self._skip(-size % BLOCK, "an extended header")
        return body

    def _entry(self, header: bytes, fields: tuple[bytes, ...], extended: _Extended) -> TarEntry:
        name = extended.name
        if name is None:
            name = text(fields[0])
            if fields[15][0] and fields[9] == b"ustar\0":
                name = text(fields[15]) + b"/" + name
        kind = _kind(fields[7], name)
        device = kind in b"34"
        entry = TarEntry(
            name=name,
            type=kind,
            mode=number(fields[1], "mode") & 0o7777,
            uid=number(fields[2], "uid"),
            gid=number(fields[3], "gid"),
            size=number(fields[4], "size"),
            mtime=number(fields[5], "mtime") * 1_000_000_000,
            link=text(fields[8]) if extended.link is None else extended.link,
            major=number(fields[13], "device number") if device else 0,
            minor=number(fields[14], "device number") if device else 0,
            xattrs=_NO_XATTRS,
        )
        pax = extended.pax
        if pax or self._globals:
            self._apply_pax(entry, self._globals | pax)
        if entry.size < 0:
            raise ImageInvalid(f"broken archive: {name!r} has a negative size")
        # Only regular files have content, and GNU's folders; what a header says of others is void.
        stored = entry.size if kind in b"0S" or fields[7] == b"D" else 0
        self._left = stored
        self._padding = -stored % BLOCK
        if kind == b"S":
            entry.type = b"0"
            self._old_sparse(entry, header)
        elif kind != b"0":
            entry.size = 0
        elif pax:
            self._pax_sparse(entry, pax, extended.sparse)
        entry.mtime = max(-_MAX_NANOSECONDS, min(entry.mtime, _MAX_NANOSECONDS))
        return entry

    def _apply_pax(self, entry: TarEntry, records: dict[bytes, bytes]) -> None:
        xattrs: dict[bytes, bytes] = {}
        for key, value in records.items():
            if key.startswith(_XATTR):
                xattrs[key[len(_XATTR) :]] = value
            elif key in _PAX_NUMBERS:
                setattr(entry, _PAX_NUMBERS[key], decimal(key, value))
            elif key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.link = value
            elif key == b"mtime":
                entry.mtime = pax_time(value)
        if xattrs:
            entry.xattrs = xattrs

    # Sparse files.

    def _old_sparse(self, entry: TarEntry, header: bytes) -> None:
        numbers, size = old_map(header, lambda: self._take(BLOCK, "a sparse map"))
        self._set_sparse(entry, numbers, size)

    def _pax_sparse(self, entry: TarEntry, pax: dict[bytes, bytes], loose: list[int]) -> None:
        size = pax_size(pax)
        if size is not None:
            entry.name = pax.get(b"GNU.sparse.name", entry.name)
            self._set_sparse(entry, pax_map(pax, loose, self._map_block), size)

    def _map_block(self) -> bytes:
        """Take a block of the present entry's content, where its map stands."""
        if self._left < BLOCK:
            raise ImageInvalid("broken sparse map: it is longer than the file's content")
        self._left -= BLOCK
        return self._take(BLOCK, "a sparse map")

    def _set_sparse(self, entry: TarEntry, numbers: Sequence[int], size: int) -> None:
        entry.sparse = checked_pieces(entry.name, numbers, size=size, stored=self._left)
        entry.size = size


def _kind(flag: bytes, name: bytes) -> bytes:
    """Return an entry's type: one flag for each form of regular file, and of folder."""
    if flag in b"0\x007":
        # Before POSIX, a folder was a file whose name ends in a slash.
        return b"5" if flag == b"\0" and name.endswith(b"/") else b"0"
    if flag == b"D":  # GNU's incremental dumps: a folder, with its listing as content
        return b"5"
    if flag not in _KNOWN:
        raise ImageInvalid(f"the archive's entry {name!r} has the unknown type {flag!r}")
    return flag
