"""Writes a tar archive: ustar headers, with PAX ones where a value does not fit (pax(1)).

What is written depends on nothing but the entries: owners are numeric, and there are no names of
users, access times or padding to a tape's records.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from pannier.images.tar_headers import BLOCK, HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TarWriter", "Written", "data_pieces"]

_CHUNK: Final = 1 << 20
_NAME: Final = 100
_MAX_ID: Final = 0o7777777
_MAX_SIZE: Final = 0o77777777777
_SECOND: Final = 1_000_000_000
_MIN_HOLES: Final = 1 << 16
_SPARSE: Final = b"GNUSparseFile.0/"
_PAX: Final = b"PaxHeaders.0/"


@dataclass(frozen=True, slots=True)
class Written:
    """One member to write, with the meanings of :class:`pannier.images.tar_reader.TarEntry`."""

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[bytes, bytes] | None = None


class TarWriter:
    """An archive being written to *out*."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def add(self, entry: Written) -> None:
        """Write a member without content."""
        self._header(entry, [], entry.name)

    def add_file(self, entry: Written, source: int) -> None:
        """Write a regular file with the content of the descriptor *source*.

        Of a file that shrinks meanwhile the rest is written as zeroes, of one that grows the rest
        left out; a file with holes of some size is written in GNU's sparse format 1.0.
        """
        size = entry.size
        pieces = data_pieces(source, size) if os.fstat(source).st_blocks * 512 < size else None
        if pieces is None or size - sum(length for _, length in pieces) < _MIN_HOLES:
            self._header(entry, [], entry.name)
            self._content(source, 0, size)
            self._pad(size)
            return
        if not pieces or sum(pieces[-1]) < size:
            # GNU tar takes the file's end from the map alone.
            pieces.append((size, 0))
        numbers = [len(pieces), *(number for piece in pieces for number in piece)]
        table = b"".join(b"%d\n" % number for number in numbers)
        table += bytes(-len(table) % BLOCK)
        stored = len(table) + sum(length for _, length in pieces)
        records = [
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", entry.name),
            (b"GNU.sparse.realsize", b"%d" % size),
        ]
        self._header(entry, records, _SPARSE + entry.name.rpartition(b"/")[2], stored)
        self._out.write(table)
        for offset, length in pieces:
            self._content(source, offset, length)
        self._pad(stored)

    def finish(self) -> None:
        """Write the archive's end marker."""
        self._out.write(bytes(2 * BLOCK))

    def _content(self, source: int, offset: int, count: int) -> None:
        while count:
            data = os.pread(source, min(count, _CHUNK), offset)
            if not data:
                data = bytes(min(count, _CHUNK))
            self._out.write(data)
            offset += len(data)
            count -= len(data)

    def _pad(self, size: int) -> None:
        if size % BLOCK:
            self._out.write(bytes(-size % BLOCK))

    def _header(
        self,
        entry: Written,
        records: list[tuple[bytes, bytes]],
        name: bytes,
        stored: int | None = None,
    ) -> None:
        size = entry.size if stored is None else stored
        records = records + _pax_records(entry, name, size)
        if records:
            body = b"".join(_record(key, value) for key, value in sorted(records))
            base = entry.name.rstrip(b"/").rpartition(b"/")[2]
            short = (_PAX + base)[:_NAME]
            plain = Written(name=short, type=b"x", mode=0o644, uid=0, gid=0, mtime=0)
            self._out.write(_pack(plain, short, len(body)))
            self._out.write(body + bytes(-len(body) % BLOCK))
        self._out.write(_pack(entry, name, size))


def data_pieces(source: int, size: int) -> list[tuple[int, int]]:
    """Return the (offset, length) pieces of a file that are no holes, as lseek(2) finds them."""
    pieces = []
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            break
        position = min(os.lseek(source, start, os.SEEK_HOLE), size)
        if start >= position:
            break
        pieces.append((start, position - start))
    return pieces


def _pax_records(entry: Written, name: bytes, size: int) -> list[tuple[bytes, bytes]]:
    records = []
    if len(name) > _NAME:
        records.append((b"path", name))
    if len(entry.link) > _NAME:
        records.append((b"linkpath", entry.link))
    if size > _MAX_SIZE:
        records.append((b"size", b"%d" % size))
    if entry.uid > _MAX_ID:
        records.append((b"uid", b"%d" % entry.uid))
    if entry.gid > _MAX_ID:
        records.append((b"gid", b"%d" % entry.gid))
    seconds, rest = divmod(abs(entry.mtime), _SECOND)
    if rest or entry.mtime < 0 or seconds > _MAX_SIZE:
        sign = b"-" if entry.mtime < 0 else b""
        fraction = (b".%09d" % rest).rstrip(b"0") if rest else b""
        records.append((b"mtime", sign + b"%d" % seconds + fraction))
    for key, value in (entry.xattrs or {}).items():
        records.append((b"SCHILY.xattr." + key, value))
    return records


def _record(key: bytes, value: bytes) -> bytes:
    """Return ``length key=value``, where the length counts its own digits too."""
    bare = len(key) + len(value) + 3
    length = bare + len(str(bare))
    if len(str(length)) > len(str(bare)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _octal(value: int, width: int, limit: int) -> bytes:
    return b"%0*o\0" % (width - 1, value if 0 <= value <= limit else 0)


def _pack(entry: Written, name: bytes, size: int) -> bytes:
    device = entry.type in b"34"
    header = HEADER.pack(
        name[:_NAME],
        _octal(stat.S_IMODE(entry.mode), 8, _MAX_ID),
        _octal(entry.uid, 8, _MAX_ID),
        _octal(entry.gid, 8, _MAX_ID),
        _octal(size, 12, _MAX_SIZE),
        _octal(entry.mtime // _SECOND, 12, _MAX_SIZE),
        b"        ",
        entry.type,
        entry.link[:_NAME],
        b"ustar\0",
        b"00",
        b"",
        b"",
        _octal(entry.major if device else 0, 8, _MAX_ID),
        _octal(entry.minor if device else 0, 8, _MAX_ID),
        b"",
    )
    return b"%s%06o\0 %s" % (header[:148], sum(header), header[156:])
