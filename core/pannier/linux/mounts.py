"""Mounts: mount(2) and umount2(2), and the descriptor-based interface of Linux 5.2 and later."""

from __future__ import annotations

import ctypes
import os

from pannier.linux.libc import check, libc, syscall

__all__ = [
    "AT_EMPTY_PATH",
    "AT_RECURSIVE",
    "clone_tree",
    "fsconfig_create",
    "fsconfig_flag",
    "fsconfig_set",
    "fsmount",
    "fsopen",
    "mount",
    "mount_setattr",
    "move_mount",
    "pivot_root",
    "umount",
]

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_DIRSYNC = 128
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 1 << 15
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24

MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

libc.mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]
libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


def _encode(text: str | bytes | os.PathLike[str] | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def mount(
    source: str | bytes | os.PathLike[str] | None,
    target: str | bytes | os.PathLike[str],
    kind: str | None = None,
    flags: int = 0,
    data: str | None = None,
) -> None:
    """Mount, remount, bind or change propagation: mount(2)."""
    check(libc.mount(_encode(source), _encode(target), _encode(kind), flags, _encode(data)), target)


def umount(target: str | bytes | os.PathLike[str], flags: int = MNT_DETACH) -> None:
    """Unmount: umount2(2); by default lazily, so that a user does not keep it."""
    check(libc.umount2(_encode(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make *new_root* the root of this mount namespace: pivot_root(2)."""
    syscall("pivot_root", os.fsencode(new_root), os.fsencode(put_old), path=new_root)


def open_tree(path: str | os.PathLike[str], flags: int, *, dir_fd: int = AT_FDCWD) -> int:
    """Return a descriptor of the mount at *path*, or of a detached copy of it: open_tree(2)."""
    name = os.fsencode(path)
    return syscall("open_tree", dir_fd, name, flags | OPEN_TREE_CLOEXEC, path=name)


def clone_tree(
    path: str | os.PathLike[str], *, dir_fd: int = AT_FDCWD, recursive: bool = False
) -> int:
    """Return a descriptor of a detached bind mount of *path*; with "" of what *dir_fd* is.

    The mount is gone with the last descriptor, unless it was attached with :func:`move_mount`.
    """
    flags = OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0)
    if not os.fspath(path):
        flags |= AT_EMPTY_PATH
    return open_tree(path, flags, dir_fd=dir_fd)


def move_mount(
    source_fd: int, target: str | os.PathLike[str] = "", *, dir_fd: int = AT_FDCWD
) -> None:
    """Attach the mount behind *source_fd* at *target*, or at what *dir_fd* is: move_mount(2)."""
    flags = MOVE_MOUNT_F_EMPTY_PATH
    name = os.fsencode(target)
    if not name:
        flags |= MOVE_MOUNT_T_EMPTY_PATH
    syscall("move_mount", source_fd, b"", dir_fd, name, flags, path=name)


def mount_setattr(
    dir_fd: int,
    path: str = "",
    *,
    set: int = 0,
    clear: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
    recursive: bool = False,
) -> None:
    """Change the properties of a mount, or of a whole tree of them: mount_setattr(2)."""
    attributes = b"".join(
        value.to_bytes(8, "little") for value in (set, clear, propagation, userns_fd)
    )
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    name = os.fsencode(path)
    syscall("mount_setattr", dir_fd, name, flags, attributes, len(attributes), path=name)


def fsopen(kind: str) -> int:
    """Begin to make a new filesystem instance: fsopen(2). Returns its context's descriptor."""
    return syscall("fsopen", kind.encode(), FSOPEN_CLOEXEC, path=kind)


def fsconfig_set(context: int, key: str, value: str | bytes) -> None:
    """Set a string option (at most 255 bytes): fsconfig(2)."""
    name = key.encode()
    syscall("fsconfig", context, FSCONFIG_SET_STRING, name, os.fsencode(value), 0, path=name)


def fsconfig_flag(context: int, key: str) -> None:
    """Set an option that has no value: fsconfig(2)."""
    name = key.encode()
    syscall("fsconfig", context, FSCONFIG_SET_FLAG, name, None, 0, path=name)


def fsconfig_fd(context: int, key: str, descriptor: int) -> None:
    """Set an option to a descriptor: fsconfig(2)."""
    name = key.encode()
    syscall("fsconfig", context, FSCONFIG_SET_FD, name, None, descriptor, path=name)


def fsconfig_create(context: int) -> None:
    """Make the filesystem instance with the options that were set: fsconfig(2)."""
    syscall("fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(context: int, attributes: int = 0) -> int:
    """Return a descriptor of a detached mount of the new instance: fsmount(2)."""
    return syscall("fsmount", context, FSMOUNT_CLOEXEC, attributes)
