"""``tmpcopyup``: a tmpfs that begins with what the image has at its place."""

from __future__ import annotations

import os
import stat

__all__ = ["copy_tree"]

_CHUNK = 1 << 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def copy_tree(source: int, target: int) -> None:
    """Copy everything below one directory into another: both are descriptors, O_PATH will do.

    Owners, modes and times are kept; sockets and device nodes are left out.
    """
    _copy(
        os.open(".", _FLAGS | os.O_DIRECTORY, dir_fd=source),
        os.open(".", _FLAGS | os.O_DIRECTORY, dir_fd=target),
    )


def _copy(source: int, target: int) -> None:
    try:
        for name in os.listdir(source):
            _copy_entry(name, source, target)
        _copy_status(source, target)
    finally:
        os.close(source)
        os.close(target)


def _copy_entry(name: str, source: int, target: int) -> None:
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        os.mkdir(name, dir_fd=target)
        _copy(
            os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=source),
            os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=target),
        )
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    elif stat.S_ISREG(status.st_mode):
        _copy_file(name, source, target)


def _copy_file(name: str, source: int, target: int) -> None:
    reading = os.open(name, _FLAGS, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        writing = os.open(name, flags, 0o600, dir_fd=target)
        try:
            while os.sendfile(writing, reading, None, _CHUNK):
                pass
            _copy_status(reading, writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_status(source: int, target: int) -> None:
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))  # after chown, which clears set-id bits
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
