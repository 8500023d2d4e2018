"""Extended attributes of files named by a folder's descriptor: xattr(7)."""

from __future__ import annotations

import os
from errno import ENODATA, ENOENT, ENOTSUP, EPERM

__all__ = ["get_xattr", "proc_path", "read_xattrs", "set_xattr"]


def proc_path(dir_fd: int, name: bytes = b"") -> bytes:
    """Return a path that names what *dir_fd* is, or a file directly in it.

    For system calls that take no descriptor of a folder; nothing of a path can be exchanged
    underneath, since only the last component is looked up.
    """
    return b"/proc/self/fd/%d/%s" % (dir_fd, name) if name else b"/proc/self/fd/%d" % dir_fd


def read_xattrs(target: int | bytes) -> dict[bytes, bytes]:
    """Return every extended attribute of a descriptor, or of a path whose link is not followed.

    A filesystem without them gives none; one that vanishes meanwhile is left out.
    """
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (ENOTSUP, EPERM):
            return {}
        raise
    found = {}
    for name in names:
        key = os.fsencode(name)
        value = get_xattr(target, key)
        if value is not None:
            found[key] = value
    return found


def get_xattr(target: int | bytes, name: bytes) -> bytes | None:
    """Return one extended attribute, or None where there is none of that name."""
    try:
        return os.getxattr(target, name, follow_symlinks=isinstance(target, int))
    except OSError as error:
        if error.errno in (ENODATA, ENOENT, ENOTSUP):
            return None
        raise


def set_xattr(target: int | bytes, name: bytes, value: bytes) -> None:
    """Set one extended attribute on a descriptor, or on a path whose link is not followed."""
    os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
