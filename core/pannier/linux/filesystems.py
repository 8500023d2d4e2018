"""Which filesystem a descriptor is on: fstatfs(2)."""

from __future__ import annotations

import ctypes

from pannier.linux.libc import check, libc

__all__ = ["CGROUP2", "DEVPTS", "PROC", "SYSFS", "TMPFS", "filesystem_type"]

PROC = 0x9FA0
DEVPTS = 0x1CD1
SYSFS = 0x62656572
TMPFS = 0x01021994
CGROUP2 = 0x63677270

libc.fstatfs.argtypes = [ctypes.c_int, ctypes.c_char_p]


def filesystem_type(descriptor: int) -> int:
    """Return the magic number of the filesystem that *descriptor* is on."""
    # struct statfs is 120 bytes on 64-bit Linux; f_type is its first word.
    buffer = ctypes.create_string_buffer(256)
    check(libc.fstatfs(descriptor, buffer))
    return ctypes.c_long.from_buffer(buffer).value
