"""What COPY and ADD take: files found in a root, and digests of them for the cache.

A root is a folder of the host (the context) or a mount of a stage's or image's layers. Every path
is resolved inside it, through descriptors.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.build.ignore import IgnoreRules, match_pattern
from pannier.errors import InvalidRequest
from pannier.linux.paths import open_in_root
from pannier.linux.trees import DIRECTORY, PATH, list_names, walk_tree
from pannier.linux.xattrs import proc_path, read_xattrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Item", "Root", "combined_digest"]

_CHUNK: Final = 1 << 20
_TYPES: Final = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to copy.

    :param path: inside the root, relative.
    :param name: what it is called in a destination folder.
    :param digest: of its content and metadata but for times: ``file:…`` or ``dir:…``.
    """

    path: str
    name: str
    folder: bool
    digest: str


def combined_digest(items: list[Item]) -> str:
    """Return one digest of several items, in Docker's form."""
    if len(items) == 1:
        return items[0].digest
    return _joined("multi", [item.digest for item in items])


def _joined(prefix: str, digests: list[str]) -> str:
    return f"{prefix}:{hashlib.sha256(','.join(digests).encode()).hexdigest()}"


class Root:
    """A tree that is copied from; it does not change meanwhile. May be used from one thread only.

    :param descriptor: of its folder; the caller's.
    :param what: what messages call it.
    :param excludes: patterns of ``--exclude``.
    """

    def __init__(self, descriptor: int, what: str = "build context") -> None:
        self.descriptor = descriptor
        self.what = what
        self._digests: dict[bytes, str] = {}

    def find(self, source: str, excludes: IgnoreRules | None = None) -> list[Item]:
        """Return what a source of COPY names: one file or folder, or all that a pattern fits.

        :raises InvalidRequest: there is none, or it lies outside.
        """
        path = posixpath.normpath(posixpath.join("/", source)).lstrip("/")
        outside = posixpath.normpath(source)
        if not source.startswith("/") and (outside == ".." or outside.startswith("../")):
            raise InvalidRequest(
                f"forbidden path outside the {self.what}: {source}",
                hint="copy the file into the context, or build in the folder above",
            )
        if _is_pattern(path):
            items = [self._item(found, excludes) for found in self._glob(path)]
        else:
            items = [self._item(path, excludes)]
        return [item for item in items if item is not None]

    def _glob(self, pattern: str) -> list[str]:
        found = [""]
        for part in pattern.split("/"):
            found = [match for folder in found for match in self._match(folder, part)]
        return found

    def _match(self, folder: str, part: str) -> Iterator[str]:
        try:
            descriptor = open_in_root(self.descriptor, folder or ".", os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return
        try:
            opened = os.open(b".", DIRECTORY, dir_fd=descriptor)
        except NotADirectoryError:
            return
        finally:
            os.close(descriptor)
        try:
            names = sorted(list_names(opened))
        finally:
            os.close(opened)
        for raw in names:
            name = os.fsdecode(raw)
            if match_pattern(part, name):
                yield f"{folder}/{name}" if folder else name

    def open(self, path: str) -> int:
        """Return a descriptor (O_PATH) of a file or folder, links on the way and last followed.

        :raises InvalidRequest: it is not there.
        """
        try:
            return open_in_root(self.descriptor, path or ".", os.O_PATH)
        except OSError as error:
            raise InvalidRequest(
                f"file not found in {self.what} or excluded by .dockerignore: stat {path}: "
                f"{(error.strerror or 'unknown error').lower()}",
                hint="paths are relative to the context's folder",
            ) from None

    def _item(self, path: str, excludes: IgnoreRules | None) -> Item | None:
        name = posixpath.basename(path)
        if excludes is not None and excludes.ignores(name):
            return None
        descriptor = self.open(path)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                return Item(
                    path, name, folder=True, digest=self._folder(descriptor, path, excludes)
                )
            digest = self._file(descriptor, self._real(descriptor, path), status)
            return Item(path, name, folder=False, digest=f"file:{digest}")
        finally:
            os.close(descriptor)

    def _real(self, descriptor: int, path: str) -> bytes:
        """Return the path of an open file without links: what is copied, not how it is called."""
        try:
            full = os.readlink(proc_path(descriptor))  # noqa: PTH115 - names are bytes
            root = os.readlink(proc_path(self.descriptor))  # noqa: PTH115 - as above
        except OSError:  # longer than a page
            return os.fsencode(path)
        root = root.rstrip(b"/") + b"/"
        return full[len(root) :] if full.startswith(root) else os.fsencode(path)

    def _folder(self, descriptor: int, path: str, excludes: IgnoreRules | None) -> str:
        prefix = os.fsencode(path)
        # The folder itself counts, but for the root of all, which has no name.
        digests = [self._file(descriptor, prefix, os.fstat(descriptor))] if prefix else []
        opened = os.open(b".", DIRECTORY, dir_fd=descriptor)
        try:
            for found in walk_tree(opened):
                if excludes is not None and excludes.ignores(os.fsdecode(found.path)):
                    continue
                if stat.S_ISSOCK(found.status.st_mode):
                    continue
                full = prefix + b"/" + found.path if prefix else found.path
                # In between a file may become something else only in a hostile way, harmlessly.
                with contextlib.suppress(FileNotFoundError):
                    inner = os.open(found.name, PATH, dir_fd=found.dir_fd)
                    try:
                        digests.append(self._file(inner, full, found.status))
                    finally:
                        os.close(inner)
        finally:
            os.close(opened)
        return _joined("dir", sorted(digests))

    def _file(self, descriptor: int, path: bytes, status: os.stat_result) -> str:
        known = self._digests.get(path)
        if known is None:
            known = self._digests[path] = file_digest(descriptor, path, status)
        return known


def file_digest(descriptor: int, path: bytes, status: os.stat_result) -> str:
    """Return a digest of a file's name, metadata and content, without its times.

    The fields and their order are those of Docker's "tarsum" of version 1, so that a history
    written by either builder fits the other.

    :param descriptor: of the file, O_PATH will do.
    """
    kind = stat.S_IFMT(status.st_mode)
    regular = kind == stat.S_IFREG
    link = os.readlink(b"", dir_fd=descriptor) if kind == stat.S_IFLNK else b""
    device = status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    name = path + b"/" if kind == stat.S_IFDIR else path
    fields: list[tuple[bytes, bytes]] = [
        (b"name", name),
        (b"mode", b"%d" % stat.S_IMODE(status.st_mode)),
        (b"uid", b"%d" % status.st_uid),
        (b"gid", b"%d" % status.st_gid),
        (b"size", b"%d" % (status.st_size if regular else 0)),
        (b"typeflag", _TYPES.get(kind, b"")),
        (b"linkname", link),
        (b"uname", b""),
        (b"gname", b""),
        (b"devmajor", b"%d" % os.major(device)),
        (b"devminor", b"%d" % os.minor(device)),
    ]
    state = hashlib.sha256()
    if regular:
        attributes = read_xattrs(proc_path(descriptor))
        capability = attributes.get(b"security.capability")
        if capability is not None:
            fields.append((b"security.capability", capability))
    for key, value in fields:
        state.update(key)
        state.update(value)
    if regular and status.st_size:
        opened = os.open(proc_path(descriptor), os.O_RDONLY | os.O_CLOEXEC)
        try:
            while data := os.read(opened, _CHUNK):
                state.update(data)
        finally:
            os.close(opened)
    return state.hexdigest()


def _is_pattern(path: str) -> bool:
    position = 0
    while position < len(path):
        if path[position] == "\\":
            position += 1
        elif path[position] in "*?[":
            return True
        position += 1
    return False
