"""Mount destinations: found, and made where missing, inside a root through descriptors only.

What the image or an earlier mount has put there may be hostile: symlinks lead where the root's
owner wants, but never outside (openat2(2), RESOLVE_IN_ROOT).
"""

from __future__ import annotations

import os
import posixpath
import stat
from errno import ELOOP, ENOTDIR

from pannier.linux.paths import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    open_in_root,
    openat2,
)

__all__ = ["make_directory", "make_file", "make_parent", "open_plain_directory"]

_MOST_LINKS = 40
_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644


def make_directory(root: int, path: bytes, *, links: int = _MOST_LINKS) -> int:
    """Return an O_PATH descriptor of a directory, made with its parents where missing."""
    try:
        found = open_in_root(root, path)
    except FileNotFoundError:
        return _create(root, path, links, directory=True)
    if not stat.S_ISDIR(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(ENOTDIR, os.strerror(ENOTDIR), path)
    return found


def make_file(root: int, path: bytes, *, links: int = _MOST_LINKS) -> int:
    """Return an O_PATH descriptor of what is at *path*: an empty file is made where nothing is."""
    try:
        return open_in_root(root, path)
    except FileNotFoundError:
        return _create(root, path, links, directory=False)


def make_parent(root: int, path: bytes) -> tuple[int, bytes]:
    """Return a descriptor of the directory that *path* lies in, and its last part."""
    folder, name = posixpath.split(posixpath.normpath(path))
    return make_directory(root, folder or b"/"), name


def open_plain_directory(root: int, path: bytes) -> int:
    """Return a directory as :func:`make_directory`, but refuse symlinks on the way.

    For /proc and /sys: a link there could lead what is written to them elsewhere.
    """
    os.close(make_directory(root, path))
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    return openat2(root, path, os.O_PATH | os.O_DIRECTORY, resolve=resolve)


def _create(root: int, path: bytes, links: int, *, directory: bool) -> int:
    if not links:
        raise OSError(ELOOP, os.strerror(ELOOP), path)
    folder, name = posixpath.split(posixpath.normpath(path))
    parent = make_directory(root, folder or b"/", links=links - 1)
    try:
        try:
            if directory:
                os.mkdir(name, _DIRECTORY_MODE, dir_fd=parent)
            else:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                os.close(os.open(name, flags, _FILE_MODE, dir_fd=parent))
        except FileExistsError:
            # A link that leads nowhere yet: what it names is made, as seen from inside.
            target = _link(parent, name)
            if target is not None:
                return _follow(root, posixpath.join(folder, target), links, directory=directory)
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)
    if stat.S_ISLNK(os.fstat(found).st_mode):  # put there by somebody else meanwhile
        os.close(found)
        raise OSError(ELOOP, os.strerror(ELOOP), path)
    return found


def _link(parent: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None


def _follow(root: int, path: bytes, links: int, *, directory: bool) -> int:
    make = make_directory if directory else make_file
    return make(root, path, links=links - 1)
