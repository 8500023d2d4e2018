"""Packs a build's context: a folder as a tar stream, without what ``.dockerignore`` names."""

from __future__ import annotations

import os
import stat
import tarfile

from pannier.errors import PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.build.ignore import IgnoreRules

__all__ = ["pack_context"]

_PIECE = 512 * 1024
_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
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
    yield packer.rest() + bytes(2 * tarfile.BLOCKSIZE)


class _Packer:
    def __init__(self, rules: IgnoreRules | None) -> None:
        self._rules = rules
        self._links: dict[tuple[int, int], str] = {}
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
        info = tarfile.TarInfo(name)
        info.type = kind
        info.mode = stat.S_IMODE(status.st_mode)
        info.mtime = status.st_mtime
        if kind == tarfile.SYMTYPE:
            info.linkname = os.readlink(entry.path)  # noqa: PTH115 - pathlib is slow
        elif kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        elif kind == tarfile.REGTYPE and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                info.type, info.linkname = tarfile.LNKTYPE, first
        if info.type == tarfile.REGTYPE:
            yield from self._file(entry.path, info)
        else:
            yield from self._add(self._header(info))

    def _file(self, path: str, info: tarfile.TarInfo) -> Iterator[bytes]:
        with open(path, "rb", buffering=0, opener=_no_follow) as file:
            info.size = os.fstat(file.fileno()).st_size
            yield from self._add(self._header(info))
            left = info.size
            while left:
                # A file that shrinks meanwhile is filled up, or the archive would be torn.
                data = file.read(min(left, _PIECE)) or bytes(min(left, _PIECE))
                left -= len(data)
                yield from self._add(data)
        if info.size % tarfile.BLOCKSIZE:
            yield from self._add(bytes(tarfile.BLOCKSIZE - info.size % tarfile.BLOCKSIZE))

    def _header(self, info: tarfile.TarInfo) -> bytes:
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")

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
