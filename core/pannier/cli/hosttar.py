"""Packs and unpacks this host's side of ``cp``.

What a container sends is not to be trusted: a link in it must not lead what follows it to another
place of the host (CVE-2018-15664, CVE-2019-14271). So every step of every path is opened through
a descriptor without following links.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from typing import IO, TYPE_CHECKING, cast

from pannier.errors import InvalidRequest, PannierError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Count", "pack", "unpack"]

_PIECE = 512 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Count:
    """Counts the bytes of an archive that passed."""

    def __init__(self) -> None:
        self.bytes = 0

    def over(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the pieces unchanged."""
        for piece in pieces:
            self.bytes += len(piece)
            yield piece


# -- out of this host ----------------------------------------------------------------------------


def pack(source: str, name: str, *, contents: bool) -> Iterator[bytes]:
    """Yield a tar archive of a file or a folder as ``name``.

    :param contents: a folder's contents only, without the folder itself.
    :raises PannierError: where something cannot be read.
    """
    # Only headers are made by it, nothing is written through it.
    builder = tarfile.TarFile(fileobj=io.BytesIO(), mode="w", format=tarfile.PAX_FORMAT)
    try:
        if not contents:
            yield from _pack_one(builder, source, name)
        if stat.S_ISDIR(os.lstat(source).st_mode):
            yield from _pack_folder(builder, source, "." if contents else name)
    except OSError as error:
        raise PannierError(f"cannot read {error.filename or source}: {error.strerror}") from error
    yield bytes(2 * tarfile.BLOCKSIZE)


def _pack_folder(builder: tarfile.TarFile, source: str, name: str) -> Iterator[bytes]:
    with os.scandir(source) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        inner = f"{name}/{entry.name}"
        yield from _pack_one(builder, entry.path, inner)
        if entry.is_dir(follow_symlinks=False):
            yield from _pack_folder(builder, entry.path, inner)


def _pack_one(builder: tarfile.TarFile, path: str, name: str) -> Iterator[bytes]:
    if stat.S_ISSOCK(os.lstat(path).st_mode):
        # A socket has no place in an archive.
        return
    info = builder.gettarinfo(path, arcname=name)
    info.uname = info.gname = ""
    if not info.isreg():
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        return
    with open(path, "rb", buffering=0, opener=_no_follow) as file:
        info.size = os.fstat(file.fileno()).st_size
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        left = info.size
        while left:
            # A file that shrinks meanwhile is filled up, or the archive would be torn.
            data = file.read(min(left, _PIECE)) or bytes(min(left, _PIECE))
            left -= len(data)
            yield data
    if info.size % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - info.size % tarfile.BLOCKSIZE)


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


# -- onto this host ------------------------------------------------------------------------------


class _Pieces(io.RawIOBase):
    """Pieces as a file to read from."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        super().__init__()
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        # The base class takes any buffer; these two are what tarfile's reader passes.
        """Read what the current piece has."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def unpack(pieces: Iterable[bytes], folder: str, name: str, *, owners: bool) -> None:
    """Unpack an archive whose entries lie under one top entry, as ``name`` in ``folder``.

    :param name: what the top entry is called here; empty for the top's contents only.
    :param owners: give files their owners from the archive, and keep set-id bits. Without it, the
        files belong to who runs this, and a container's set-uid program must not become theirs.
    :raises InvalidRequest: where the archive is malformed or leads out of its place.
    """
    try:
        base = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PannierError(f"cannot open {folder}: {error.strerror}") from error
    place = _Place(base, owners=owners)
    try:
        with tarfile.open(
            fileobj=cast("IO[bytes]", _Pieces(pieces)), mode="r|", bufsize=_PIECE
        ) as archive:
            for member in archive:
                place.take(archive, member, _parts(member.name, name))
        place.finish()
    except tarfile.TarError as error:
        raise InvalidRequest(f"the daemon's archive is malformed: {error}") from error
    except OSError as error:
        where = f"{folder}/{name}".rstrip("/")
        raise PannierError(f"cannot write under {where}: {error.strerror}") from error
    finally:
        os.close(base)


def _parts(path: str, name: str) -> tuple[str, ...]:
    """Return where an entry goes: its path below the top entry, under ``name``."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidRequest(f"the daemon's archive leads out of its place: {path!r}")
    topless = path.startswith(("/", "./")) or path in ("", ".")
    below = parts if topless else parts[1:]
    return (name, *below) if name else tuple(below)


class _Place:
    """A folder that entries go into, never beyond it."""

    def __init__(self, base: int, *, owners: bool) -> None:
        self._base = base
        self._owners = owners
        self._folders: list[tuple[tuple[str, ...], tarfile.TarInfo]] = []

    def take(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, parts: tuple[str, ...]
    ) -> None:
        """Write one entry."""
        if not parts:
            return
        with self._open(parts[:-1]) as parent:
            leaf = parts[-1]
            if member.isdir():
                with contextlib.suppress(FileExistsError):
                    os.mkdir(leaf, 0o700, dir_fd=parent)
                os.close(os.open(leaf, _FOLDER, dir_fd=parent))
                self._folders.append((parts, member))
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(leaf, dir_fd=parent)
            self._write(archive, member, parent, leaf, parts)

    def _write(
        self,
        archive: tarfile.TarFile,
        member: tarfile.TarInfo,
        parent: int,
        leaf: str,
        parts: tuple[str, ...],
    ) -> None:
        if member.issym():
            os.symlink(member.linkname, leaf, dir_fd=parent)
            if self._owners:
                os.chown(leaf, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        elif member.islnk():
            self._link(member, parent, leaf, parts)
        elif member.isreg():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(leaf, flags, 0o600, dir_fd=parent)
            try:
                self._fill(archive, member, descriptor)
                self._finish_one(descriptor, member)
            finally:
                os.close(descriptor)
        elif member.isfifo():
            os.mkfifo(leaf, member.mode & 0o777, dir_fd=parent)
        # A device of a container is nothing to be made on the host.

    def _link(
        self, member: tarfile.TarInfo, parent: int, leaf: str, parts: tuple[str, ...]
    ) -> None:
        # The name that a link points to is spelled as the entries' names are.
        top = parts[:1] if not member.name.startswith(("/", "./")) else ()
        target = _parts(member.linkname, top[0] if top else "")
        if not target:
            raise InvalidRequest(f"the daemon's archive links to nothing: {member.name!r}")
        with self._open(target[:-1]) as source:
            os.link(target[-1], leaf, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def _fill(self, archive: tarfile.TarFile, member: tarfile.TarInfo, descriptor: int) -> None:
        reader = archive.extractfile(member)
        assert reader is not None
        while data := reader.read(_PIECE):
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]

    def _finish_one(self, descriptor: int, member: tarfile.TarInfo) -> None:
        if self._owners:
            os.fchown(descriptor, member.uid, member.gid)
        os.fchmod(descriptor, member.mode & (0o7777 if self._owners else 0o1777))
        os.utime(descriptor, (member.mtime, member.mtime))

    def finish(self) -> None:
        """Give folders their modes and times, innermost first: what is written in them is done."""
        for parts, member in sorted(self._folders, key=lambda one: -len(one[0])):
            with self._open(parts) as descriptor:
                self._finish_one(descriptor, member)

    @contextlib.contextmanager
    def _open(self, parts: tuple[str, ...]) -> Iterator[int]:
        """Open a folder below the base, step by step, following no link."""
        descriptor = os.dup(self._base)
        try:
            for part in parts:
                inner = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)
