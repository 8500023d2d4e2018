"""Copying files and whole trees with everything that a filesystem knows about them.

The content of files goes by the quickest way that the filesystem has: sharing of extents (FICLONE,
ioctl_ficlonerange(2)), else copy_file_range(2), else reading and writing; holes stay holes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Final

from pannier.linux.trees import Folders, walk_tree
from pannier.linux.xattrs import proc_path, read_xattrs, set_xattr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.linux.trees import Found

__all__ = ["copy_content", "copy_metadata", "copy_node", "copy_tree"]

_FICLONE: Final = 0x40049409
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE: Final = 1 << 30
_BUFFER: Final = 1 << 20
_NO_CLONE: Final = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY})
_NO_RANGE: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def copy_content(source: int, target: int, size: int) -> None:
    """Copy the content of a regular file into an empty one; both are descriptors.

    :param size: its size in bytes, as fstat(2) says.
    """
    if size == 0:
        return
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
    else:
        return
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # only a hole is left
                raise
            break
        position = os.lseek(source, start, os.SEEK_HOLE)
        _copy_range(source, target, start, position)
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    try:
        while start < end:
            count = os.copy_file_range(source, target, min(end - start, _PIECE), start, start)
            if not count:  # shorter than it was: somebody truncates it
                return
            start += count
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise
        _copy_by_hand(source, target, start, end)


def _copy_by_hand(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        data = os.pread(source, min(end - start, _BUFFER), start)
        if not data:
            return
        view = memoryview(data)
        while view:
            written = os.pwrite(target, view, start)
            view = view[written:]
            start += written


def copy_metadata(
    attributes: Mapping[bytes, bytes], target: int | bytes, status: os.stat_result
) -> None:
    """Give *target* these extended attributes, and the owner, mode and times of *status*.

    :param target: a descriptor, or a path whose last link is not followed.
    """
    follow = isinstance(target, int)
    # In this order: a change of owner clears set-id bits and file capabilities.
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=follow)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))  # noqa: PTH101 - may be a descriptor
    for key, value in attributes.items():
        try:
            set_xattr(target, key, value)
        except OSError as error:
            if error.errno != errno.ENOTSUP:  # another kind of filesystem
                raise
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(target, ns=times, follow_symlinks=follow)


def copy_node(source: int, dir_fd: int, name: bytes) -> int:
    """Copy one file, of any kind but a folder, to *name* in *dir_fd*; return its bytes.

    :param source: a descriptor of it, which may be one that only names it (O_PATH).
    """
    status = os.fstat(source)
    copied = 0
    if stat.S_ISREG(status.st_mode):
        opened = os.open(proc_path(source), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _copy_file(opened, dir_fd, name, status)
        finally:
            os.close(opened)
        return status.st_size
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(b"", dir_fd=source), name, dir_fd=dir_fd)
        copied = status.st_size
    else:
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=dir_fd)
    copy_metadata({}, proc_path(dir_fd, name), status)
    return copied


def _copy_file(opened: int, dir_fd: int, name: bytes, status: os.stat_result) -> None:
    target = os.open(name, _NEW_FILE, 0o600, dir_fd=dir_fd)
    try:
        copy_content(opened, target, status.st_size)
        copy_metadata(read_xattrs(opened), target, status)
    finally:
        os.close(target)


def copy_tree(source: int, target: int) -> None:
    """Copy everything in the folder *source* into the empty folder *target*, itself included.

    Kept are owners, modes, times, extended attributes, hard links, holes, devices, fifos and
    links; sockets are left out, as they mean nothing without the process behind them. The source
    must not change meanwhile.

    :param source: a descriptor of a folder; stays open, as *target* does.
    """
    linked: dict[tuple[int, int], bytes] = {}
    folders: list[tuple[bytes, os.stat_result]] = []
    with contextlib.closing(Folders(target)) as into:
        for found in walk_tree(source):
            status, name = found.status, found.name
            if stat.S_ISSOCK(status.st_mode):
                continue
            parent = into.open(found.path[: -len(name) - 1])
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(name, 0o700, dir_fd=parent)
                attributes = read_xattrs(proc_path(found.dir_fd, name))
                copy_metadata(attributes, proc_path(parent, name), status)
                folders.append((found.path, status))
                continue
            if status.st_nlink > 1:
                identity = (status.st_dev, status.st_ino)
                first = linked.get(identity)
                if first is not None:
                    into.link(first, parent, name)
                    continue
                linked[identity] = found.path
            _copy_found(found, parent)
        for path, status in folders:
            # Only now: each file put into a folder changed its time.
            os.utime(proc_path(into.open(path)), ns=(status.st_atime_ns, status.st_mtime_ns))
    # By paths: the descriptors may be ones that only name the folders (O_PATH).
    attributes = read_xattrs(proc_path(source, b"."))
    copy_metadata(attributes, proc_path(target, b"."), os.fstat(source))


def _copy_found(found: Found, parent: int) -> None:
    name, status = found.name, found.status
    if stat.S_ISREG(status.st_mode):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        opened = os.open(name, flags, dir_fd=found.dir_fd)
        try:
            _copy_file(opened, parent, name, status)
        finally:
            os.close(opened)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=found.dir_fd), name, dir_fd=parent)
    else:
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=parent)
    attributes = read_xattrs(proc_path(found.dir_fd, name))
    copy_metadata(attributes, proc_path(parent, name), status)
