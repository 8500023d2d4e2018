"""Whole folder trees by descriptors: measuring them, and removing them."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from dataclasses import dataclass
from errno import ENOTDIR
from typing import TYPE_CHECKING, Final

from pannier.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

__all__ = [
    "DIRECTORY",
    "PATH",
    "Folders",
    "Found",
    "list_names",
    "measure_files",
    "measure_tree",
    "open_directory",
    "opened_directory",
    "remove_tree",
    "walk_tree",
]

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened to be read: never through a symbolic link."""

PATH: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""How anything is opened only to be named."""

_DEEP: Final = 64
_KEPT: Final = 64
_names = itertools.count()


def open_directory(name: bytes | str, dir_fd: int | None = None) -> int:
    """Open a folder for reading; fails with ENOTDIR or ELOOP on a symbolic link."""
    return os.open(name, DIRECTORY, dir_fd=dir_fd)


@contextlib.contextmanager
def opened_directory(folder: Path) -> Iterator[int]:
    """Give a descriptor of a folder, for as long as the block runs; see :func:`open_directory`."""
    descriptor = os.open(folder, DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def list_names(directory: int) -> list[bytes]:
    """Return the names in a folder, as they come; *directory* is a readable descriptor of it."""
    return [os.fsencode(name) for name in os.listdir(directory)]


@dataclass(frozen=True, slots=True)
class Found:
    """A file that a walk has come to.

    :param path: relative to where the walk began, without a leading slash.
    :param dir_fd: a descriptor of the folder that it is in; valid until the walk goes on.
    :param status: its own lstat(2).
    """

    path: bytes
    name: bytes
    dir_fd: int
    status: os.stat_result


@dataclass(slots=True)
class _Level:
    descriptor: int
    prefix: bytes
    names: list[bytes]


def walk_tree(directory: int) -> Generator[Found, None, None]:
    """Yield every file below, in the order of names, a folder before what is in it.

    Links are not followed, files that vanish meanwhile are left out, and no more than a bounded
    number of descriptors is held, however deep the tree.

    :param directory: a descriptor of the folder to begin in; stays open, is not yielded.
    """
    levels = [_level(os.open(b".", DIRECTORY, dir_fd=directory), b"")]
    try:
        while levels:
            level = levels[-1]
            if not level.names:
                levels.pop()
                if level.descriptor >= 0:
                    os.close(level.descriptor)
                continue
            if level.descriptor < 0 and not _reopen(levels):
                level.names.clear()
                continue
            name = level.names.pop()
            try:
                status = os.stat(name, dir_fd=level.descriptor, follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield Found(level.prefix + name, name, level.descriptor, status)
            if stat.S_ISDIR(status.st_mode):
                _descend(levels, name)
    finally:
        for level in levels:
            if level.descriptor >= 0:
                os.close(level.descriptor)


def _descend(levels: list[_Level], name: bytes) -> None:
    here = levels[-1]
    try:
        inner = os.open(name, DIRECTORY, dir_fd=here.descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return
    levels.append(_level(inner, here.prefix + name + b"/"))
    if len(levels) > _DEEP:
        os.close(here.descriptor)
        here.descriptor = -1


def _level(descriptor: int, prefix: bytes) -> _Level:
    try:
        names = list_names(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return _Level(descriptor, prefix, sorted(names, reverse=True))  # taken from the end


def _reopen(levels: list[_Level]) -> bool:
    """Open the last level again, from the deepest one that is still open; False if it has gone."""
    start = max(index for index, level in enumerate(levels) if level.descriptor >= 0)
    relative = levels[-1].prefix[len(levels[start].prefix) : -1].split(b"/")
    here = os.dup(levels[start].descriptor)
    for name in relative:
        try:
            inner = os.open(name, DIRECTORY, dir_fd=here)
        except (FileNotFoundError, NotADirectoryError):
            return False
        finally:
            os.close(here)
        here = inner
    levels[-1].descriptor = here
    return True


def measure_tree(directory: int) -> tuple[int, int]:
    """Return the apparent bytes of what is below, hard links once, and how many files there are.

    Bytes are those of regular files and of symbolic links (their targets' names), as Docker counts
    them; folders have none. The folder itself is not counted.

    :param directory: a descriptor of a folder; stays open.
    """
    return _sum(found.status for found in walk_tree(directory))


def measure_files(directory: int, paths: Iterable[bytes]) -> tuple[int, int]:
    """Return the same as :func:`measure_tree`, but for the files *paths* and not what is in them.

    Those that have vanished are left out.
    """
    return _sum(_statuses(directory, paths))


def _statuses(directory: int, paths: Iterable[bytes]) -> Iterator[os.stat_result]:
    with contextlib.closing(Folders(directory)) as folders:
        for path in paths:
            head, _, name = path.rpartition(b"/")
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                yield os.stat(name, dir_fd=folders.open(head), follow_symlinks=False)


def _sum(statuses: Iterator[os.stat_result]) -> tuple[int, int]:
    size = inodes = 0
    linked: set[tuple[int, int]] = set()
    for status in statuses:
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            identity = (status.st_dev, status.st_ino)
            if identity in linked:
                continue
            linked.add(identity)
        inodes += 1
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            size += status.st_size
    return size, inodes


def remove_tree(
    name: bytes,
    dir_fd: int,
    *,
    aside: int | None = None,
    between: Callable[[], None] = lambda: None,
) -> None:
    """Remove the file or folder *name* in the folder *dir_fd*, whatever is in it. Idempotent.

    Only descriptors are used, and no link is followed. However deep the tree is, a constant number
    of descriptors and stack frames are: folders below a certain depth are first moved up.

    :param aside: where deep folders are moved meanwhile (on the same filesystem); *dir_fd* if None.
    :param between: called before each folder; it may take its time.
    """
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    except OSError as error:
        if error.errno != ENOTDIR:
            raise
    else:
        return
    top = dir_fd if aside is None else aside
    remover = _Remover(top, between)
    remover.remove(name, dir_fd, 0)
    while remover.moved:
        remover.remove(remover.moved.pop(), top, 0)


class _Remover:
    """Removes folders.

    :param top: where those that lie too deep are moved.
    :ivar moved: the names that they have there.
    """

    def __init__(self, top: int, between: Callable[[], None]) -> None:
        self.moved: list[bytes] = []
        self._top = top
        self._between = between

    def remove(self, name: bytes, dir_fd: int, depth: int) -> None:
        self._between()
        try:
            here = os.open(name, DIRECTORY, dir_fd=dir_fd)
        except FileNotFoundError:
            return
        try:
            for folder in _remove_files(here):
                if depth < _DEEP:
                    self.remove(folder, here, depth + 1)
                    continue
                unique = b".pannier-removed-%d-%d" % (os.getpid(), next(_names))
                os.rename(folder, unique, src_dir_fd=here, dst_dir_fd=self._top)
                self.moved.append(unique)
        finally:
            os.close(here)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=dir_fd)


def _remove_files(here: int) -> list[bytes]:
    """Remove what is no folder; return the names of the folders."""
    folders = []
    with os.scandir(here) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(os.fsencode(entry.name))
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.name, dir_fd=here)
    return folders


class Folders:
    """Descriptors of folders below a root, the last few used kept open.

    Paths are relative to the root, and no link in them is followed.

    :param root: a descriptor of the root; stays open.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: dict[bytes, int] = {}

    def open(self, path: bytes) -> int:
        """Return a descriptor (O_PATH) that is valid until some more were asked for."""
        descriptor = self._open.pop(path, None)
        if descriptor is None:
            flags = os.O_PATH | os.O_DIRECTORY
            resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
            descriptor = openat2(self._root, path or b".", flags, resolve=resolve)
            if len(self._open) >= _KEPT:
                os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = descriptor  # as the last one used
        return descriptor

    def link(self, first: bytes, parent: int, name: bytes) -> None:
        """Link *name* to *first*; *parent* is the folder that was opened last, and stays open."""
        head, _, old = first.rpartition(b"/")
        os.link(old, name, src_dir_fd=self.open(head), dst_dir_fd=parent, follow_symlinks=False)

    def close(self) -> None:
        """Close what is kept open."""
        while self._open:
            os.close(self._open.popitem()[1])
