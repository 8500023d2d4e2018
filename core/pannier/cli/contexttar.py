"""Packs a build's context: a folder as a tar stream, without what ``.dockerignore`` names."""

from __future__ import annotations

import os
import stat

from pannier.cli.tarheader import BLOCK, member_header
from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.build.ignore import IgnoreRules

__all__ = ["pack_context"]

_PIECE = 512 * 1024
_FILE, _LINK, _SYMLINK, _FOLDER = b"0", b"1", b"2", b"5"
_TYPES = {
    stat.S_IFREG: _FILE,
    stat.S_IFLNK: _SYMLINK,
    stat.S_IFDIR: _FOLDER,
    stat.S_IFIFO: b"6",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
}


def pack_context(folder: str, rules: IgnoreRules | None) -> Iterator[bytes]:
    """Yield a folder as an archive in large pieces; every file belongs to root in it.

    :raises PannierError: something cannot be read.
    """
    packer = _Packer(rules)
    try:
        yield from packer.folder(folder, "")
    except OSError as error:
        raise PannierError(
            f"cannot read {error.filename or folder}: {error.strerror}",
            hint="name it in .dockerignore if the build does not need it",
        ) from error
    yield packer.rest() + bytes(2 * BLOCK)


class _Packer:
    def __init__(self, rules: IgnoreRules | None) -> None:
        self._rules = rules
        self._links: dict[tuple[int, int], bytes] = {}
        self._pending: list[bytes] = []
        self._size = 0

    def folder(self, path: str, inside: str) -> Iterator[bytes]:
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            name = f"{inside}/{entry.name}" if inside else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if self._rules is not None and self._rules.ignores(name):
                # What is in it may be taken back by a later rule.
                if is_folder and not self._rules.prunes(name):
                    yield from self.folder(entry.path, name)
                continue
            yield from self._one(entry, name)
            if is_folder:
                yield from self.folder(entry.path, name)

    def _one(self, entry: os.DirEntry[str], name: str) -> Iterator[bytes]:
        status = entry.stat(follow_symlinks=False)
        kind = _TYPES.get(stat.S_IFMT(status.st_mode))
        if kind is None:  # a socket has no place in an archive
            return
        encoded = os.fsencode(name)
        link = b""
        if kind == _SYMLINK:
            link = os.fsencode(os.readlink(entry.path))  # noqa: PTH115 - pathlib is slow
        elif kind == _FILE and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), encoded)
            if first != encoded:
                kind, link = _LINK, first
        if kind == _FILE:
            yield from self._file(entry.path, encoded, status)
            return
        device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in b"34" else (0, 0)
        shown = encoded + b"/" if kind == _FOLDER else encoded
        mode = stat.S_IMODE(status.st_mode)
        header = member_header(shown, kind, mode, status.st_mtime_ns, link=link, device=device)
        yield from self._add(header)

    def _file(self, path: str, name: bytes, status: os.stat_result) -> Iterator[bytes]:
        with open(path, "rb", buffering=0, opener=_no_follow) as file:
            size = left = os.fstat(file.fileno()).st_size
            mode = stat.S_IMODE(status.st_mode)
            yield from self._add(member_header(name, _FILE, mode, status.st_mtime_ns, size=size))
            while left:
                # A file that shrinks meanwhile is filled up, or the archive would be torn.
                data = file.read(min(left, _PIECE)) or bytes(min(left, _PIECE))
                left -= len(data)
                yield from self._add(data)
        if size % BLOCK:
            yield from self._add(bytes(-size % BLOCK))

    def _add(self, data: bytes) -> Iterator[bytes]:
        self._pending.append(data)
        self._size += len(data)
        if self._size >= _PIECE:
            yield self.rest()

    def rest(self) -> bytes:
        """Return what was packed and not yielded yet."""
        data = b"".join(self._pending)
        self._pending, self._size = [], 0
        return data


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
