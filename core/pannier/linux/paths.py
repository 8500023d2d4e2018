"""Paths resolved inside a root: openat2(2)."""

from __future__ import annotations

import os
from errno import EAGAIN

from pannier.linux.libc import syscall

__all__ = [
    "RESOLVE_BENEATH",
    "RESOLVE_IN_ROOT",
    "RESOLVE_NO_MAGICLINKS",
    "RESOLVE_NO_SYMLINKS",
    "RESOLVE_NO_XDEV",
    "open_in_root",
    "openat2",
]

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_TRIES = 128


def openat2(dir_fd: int, path: str | bytes, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Open *path* relative to *dir_fd* under the rules of *resolve*; close-on-exec is set."""
    name = os.fsencode(path)
    how = b"".join(value.to_bytes(8, "little") for value in (flags | os.O_CLOEXEC, mode, resolve))
    for _ in range(_TRIES):
        try:
            return syscall("openat2", dir_fd, name, how, len(how), path=name)
        except OSError as error:
            # A rename or mount elsewhere raced with "..": the kernel asks to try again.
            if error.errno != EAGAIN:
                raise
    return syscall("openat2", dir_fd, name, how, len(how), path=name)


def open_in_root(root_fd: int, path: str | bytes, flags: int = os.O_PATH, *, mode: int = 0) -> int:
    """Open *path* as a process whose root is *root_fd* would: symlinks and ``..`` stay inside.

    Links of /proc that leave the filesystem (magic links) are refused.
    """
    return openat2(
        root_fd, path or b".", flags, mode=mode, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    )
