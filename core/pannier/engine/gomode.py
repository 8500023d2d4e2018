"""File modes as Go's ``os.FileMode`` has them, which the Engine API shows."""

from __future__ import annotations

import stat
from typing import Final

__all__ = ["go_mode"]

_DIRECTORY: Final = 1 << 31
_SYMLINK: Final = 1 << 27
_DEVICE: Final = 1 << 26
_FIFO: Final = 1 << 25
_SOCKET: Final = 1 << 24
_SETUID: Final = 1 << 23
_SETGID: Final = 1 << 22
_CHARACTER: Final = 1 << 21
_STICKY: Final = 1 << 20

_TYPES: Final = {
    stat.S_IFDIR: _DIRECTORY,
    stat.S_IFLNK: _SYMLINK,
    stat.S_IFBLK: _DEVICE,
    stat.S_IFCHR: _DEVICE | _CHARACTER,
    stat.S_IFIFO: _FIFO,
    stat.S_IFSOCK: _SOCKET,
}


def go_mode(mode: int) -> int:
    """Return a Unix mode (``st_mode``) as a Go mode."""
    found = (mode & 0o777) | _TYPES.get(stat.S_IFMT(mode), 0)
    if mode & stat.S_ISUID:
        found |= _SETUID
    if mode & stat.S_ISGID:
        found |= _SETGID
    if mode & stat.S_ISVTX:
        found |= _STICKY
    return found
