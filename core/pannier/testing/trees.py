"""Ways to look at, and to write to, a tree of which there is a descriptor and no path."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.linux.trees import walk_tree
from pannier.linux.xattrs import proc_path, read_xattrs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Facts", "describe_tree", "names", "read", "write"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is to be compared of one file.

    :param content: of a regular file; a symbolic link's target.
    :param attributes: the extended attributes that users and images can set.
    :param links: the first name, in order, of the files that are the same inode.
    """

    mode: str
    owner: tuple[int, int]
    device: int
    time: int
    content: bytes
    attributes: Mapping[bytes, bytes]
    links: str


def describe_tree(root: int) -> dict[str, Facts]:
    """Describe everything below the folder *root*, by path; the folder itself is ``.``."""
    found: dict[str, Facts] = {}
    inodes: dict[tuple[int, int], str] = {}
    opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
    try:
        found["."] = _facts(os.fstat(opened), b"", read_xattrs(opened), ".")
        for item in walk_tree(opened):
            path = os.fsdecode(item.path)
            first = inodes.setdefault((item.status.st_dev, item.status.st_ino), path)
            attributes = read_xattrs(proc_path(item.dir_fd, item.name))
            content = _content(item.name, item.dir_fd, item.status.st_mode)
            found[path] = _facts(item.status, content, attributes, first)
    finally:
        os.close(opened)
    return found


def _content(name: bytes, dir_fd: int, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return os.fsencode(os.readlink(name, dir_fd=dir_fd))
    if not stat.S_ISREG(mode):
        return b""
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=dir_fd), "rb") as file:
        return file.read()


def _facts(
    status: os.stat_result, content: bytes, attributes: Mapping[bytes, bytes], links: str
) -> Facts:
    kept = {
        key: value
        for key, value in attributes.items()
        if key.startswith(b"user.") or key == b"security.capability"
    }
    owner = (status.st_uid, status.st_gid)
    device = status.st_rdev
    return Facts(oct(status.st_mode), owner, device, status.st_mtime_ns, content, kept, links)


def names(root: int, folder: str = ".") -> list[str]:
    """List a folder below a root."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
    try:
        return sorted(os.listdir(descriptor))  # noqa: PTH208 - no path at hand
    finally:
        os.close(descriptor)


def read(root: int, name: str) -> bytes:
    """Read a file below a root."""
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=root), "rb") as file:
        return file.read()


def write(root: int, name: str, content: bytes = b"") -> None:
    """Write a file below a root, in place of what it had; its mode is 0644 if it is new."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=root)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
