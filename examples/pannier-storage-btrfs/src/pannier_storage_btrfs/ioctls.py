"""What btrfs is asked with: the ioctls of linux/btrfs.h, each as a small function.

All work on descriptors of folders opened for reading. Errors are OSError, as the kernel says them;
``ENOTTY`` is what another filesystem answers.
"""

from __future__ import annotations

import fcntl
import stat
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import os

__all__ = [
    "clean_up_soon",
    "create_subvolume",
    "destroy_subvolume",
    "forget_quota_group",
    "is_cleaned_up",
    "is_read_only",
    "is_subvolume",
    "limit_exclusive",
    "set_read_only",
    "snapshot",
    "subvolume_id",
]

_SYNC: Final = 0x9408
_SNAP_DESTROY: Final = 0x5000940F
_TREE_SEARCH: Final = 0xD0009411
_INO_LOOKUP: Final = 0xD0009412
_SNAP_CREATE_V2: Final = 0x50009417
_SUBVOL_CREATE_V2: Final = 0x50009418
_SUBVOL_GETFLAGS: Final = 0x80089419
_SUBVOL_SETFLAGS: Final = 0x4008941A
_QGROUP_CREATE: Final = 0x4010942A
_QGROUP_LIMIT: Final = 0x8030942B

_VOL_ARGS: Final = struct.Struct("=q4088s")
"""fd, name"""
_VOL_ARGS_V2: Final = struct.Struct("=qQQ32x4040s")
"""fd, transid, flags, (what only other requests use,) name"""
_SEARCH_ARGS: Final = struct.Struct("=7Q3I36x3992s")
"""tree; least and greatest object, offset, transaction; type; how many; (room for) what is found"""
_INO_LOOKUP_ARGS: Final = struct.Struct("=QQ4080s")
"""treeid, objectid, name"""
_QGROUP_CREATE_ARGS: Final = struct.Struct("=QQ")
"""create, qgroupid"""
_QGROUP_LIMIT_ARGS: Final = struct.Struct("=Q5Q")
"""qgroupid; flags, max_rfer, max_excl, rsv_rfer, rsv_excl"""
_FLAGS: Final = struct.Struct("=Q")

_ROOT_TREE: Final = 1
_ROOT_ITEM: Final = 132
_ANY: Final = (1 << 64) - 1
_FIRST_FREE_OBJECTID: Final = 256
_SUBVOL_RDONLY: Final = 1 << 1
_QGROUP_LIMIT_MAX_EXCL: Final = 1 << 1


def _ask(descriptor: int, request: int, arguments: bytes) -> bytes:
    """Make a request, and return what the kernel leaves in its arguments."""
    answer = bytearray(arguments)  # as bytes they may not be longer than 1024
    fcntl.ioctl(descriptor, request, answer)
    return bytes(answer)


def create_subvolume(dir_fd: int, name: bytes) -> None:
    """Make an empty subvolume *name* in the folder *dir_fd*."""
    _ask(dir_fd, _SUBVOL_CREATE_V2, _VOL_ARGS_V2.pack(0, 0, 0, name))


def snapshot(subvolume: int, dir_fd: int, name: bytes) -> None:
    """Make a writable snapshot *name* of a subvolume in the folder *dir_fd* of the same filesystem.

    Subvolumes inside it are empty folders in the snapshot.
    """
    _ask(dir_fd, _SNAP_CREATE_V2, _VOL_ARGS_V2.pack(subvolume, 0, 0, name))


def destroy_subvolume(dir_fd: int, name: bytes) -> None:
    """Remove a subvolume with all that is in it, whether it may be written to or not.

    Its space comes back some time after; see :func:`clean_up_soon`.

    :raises OSError: ENOTEMPTY: there are subvolumes inside it.
    """
    _ask(dir_fd, _SNAP_DESTROY, _VOL_ARGS.pack(0, name))


def clean_up_soon(descriptor: int) -> None:
    """Write the filesystem out, and have it give back the space of destroyed subvolumes now.

    It would begin with that at its next commit, by default within 30 seconds.
    """
    fcntl.ioctl(descriptor, _SYNC)


def is_cleaned_up(descriptor: int, subvolume: int) -> bool:
    """Whether all that was in a destroyed subvolume, by its number, has been taken apart.

    Its space is free with the filesystem's next commit.
    """
    bounds = (_ROOT_TREE, subvolume, subvolume, 0, _ANY, 0, _ANY)
    question = _SEARCH_ARGS.pack(*bounds, _ROOT_ITEM, _ROOT_ITEM, 1, b"")
    found: int = _SEARCH_ARGS.unpack(_ask(descriptor, _TREE_SEARCH, question))[9]
    return found == 0


def is_subvolume(status: os.stat_result) -> bool:
    """Whether what is on btrfs, and has this stat(2), is the root of a subvolume."""
    return stat.S_ISDIR(status.st_mode) and status.st_ino == _FIRST_FREE_OBJECTID


def subvolume_id(descriptor: int) -> int:
    """Return the number of the subvolume that a file is in."""
    question = _INO_LOOKUP_ARGS.pack(0, _FIRST_FREE_OBJECTID, b"")
    answer = _ask(descriptor, _INO_LOOKUP, question)
    number: int = _INO_LOOKUP_ARGS.unpack(answer)[0]
    return number


def is_read_only(subvolume: int) -> bool:
    """Whether nothing in a subvolume can be changed, by nobody."""
    return bool(_flags(subvolume) & _SUBVOL_RDONLY)


def set_read_only(subvolume: int, *, read_only: bool) -> None:
    """Have everything in a subvolume stay as it is, or have it changeable again."""
    flags = _flags(subvolume) & ~_SUBVOL_RDONLY
    flags |= _SUBVOL_RDONLY if read_only else 0
    _ask(subvolume, _SUBVOL_SETFLAGS, _FLAGS.pack(flags))


def _flags(subvolume: int) -> int:
    answer = _ask(subvolume, _SUBVOL_GETFLAGS, bytes(_FLAGS.size))
    flags: int = _FLAGS.unpack(answer)[0]
    return flags


def limit_exclusive(subvolume: int, size: int) -> None:
    """Limit what a subvolume has for itself, and shares with no other one.

    :param size: bytes, of content and of btrfs' own records of it.
    :raises OSError: ENOTCONN: the filesystem keeps no quotas.
    """
    # The group 0 is that of the subvolume itself.
    limit = _QGROUP_LIMIT_ARGS.pack(0, _QGROUP_LIMIT_MAX_EXCL, 0, size, 0, 0)
    _ask(subvolume, _QGROUP_LIMIT, limit)


def forget_quota_group(descriptor: int, subvolume: int) -> None:
    """Remove the quota group of a subvolume, by its number, that was destroyed.

    :raises OSError: ENOTCONN: the filesystem keeps no quotas. EBUSY: the subvolume's tree is still
        being cleaned up, or the subvolume is there. ENOENT: there is none; the kernel (6.13 and
        later) takes it away itself once it has cleaned up.
    """
    _ask(descriptor, _QGROUP_CREATE, _QGROUP_CREATE_ARGS.pack(0, subvolume))
