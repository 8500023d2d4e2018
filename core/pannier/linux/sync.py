"""Waiting for a whole filesystem to be on the disk: syncfs(2)."""

from __future__ import annotations

import ctypes

from pannier.linux.libc import check, libc

__all__ = ["syncfs"]

libc.syncfs.argtypes = [ctypes.c_int]


def syncfs(descriptor: int) -> None:
    """Write what is still only in memory of the filesystem that *descriptor* is on to its disk."""
    check(libc.syncfs(descriptor))
