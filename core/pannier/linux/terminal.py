"""Pseudo-terminals: pty(7), devpts, and the ioctls of ioctl_tty(2)."""

from __future__ import annotations

import fcntl
import os
import struct
from errno import EINVAL

from pannier.linux.filesystems import DEVPTS, filesystem_type
from pannier.linux.paths import RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, openat2

__all__ = ["become_controlling", "number", "open_master", "open_slave", "set_size"]

_TIOCSCTTY = 0x540E
_TIOCSWINSZ = 0x5414
_TIOCGPTN = 0x80045430
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_PTMX = (5, 2)


def open_master(root: int) -> int:
    """Make a terminal in the devpts at dev/pts below *root*, and return its master.

    What is found there is checked, because a container may have put something else in its place.

    :raises OSError: ENOENT where there is no devpts; EINVAL where it is something else.
    """
    # Not blocking: what lies there may be a pipe.
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
    master = openat2(root, b"dev/pts/ptmx", flags, resolve=resolve)
    device = os.fstat(master).st_rdev
    if filesystem_type(master) != DEVPTS or (os.major(device), os.minor(device)) != _PTMX:
        os.close(master)
        raise OSError(EINVAL, "not a devpts ptmx", "/dev/pts/ptmx")
    return master


def open_slave(master: int) -> int:
    """Unlock a terminal and open its other end; by the master, not by a path."""
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    return fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def number(master: int) -> int:
    """Return the terminal's number: its name in devpts."""
    (found,) = struct.unpack("I", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))
    return int(found)


def become_controlling(slave: int) -> None:
    """Make the terminal the controlling one of this session; the caller leads the session."""
    fcntl.ioctl(slave, _TIOCSCTTY, 0)


def set_size(descriptor: int, rows: int, columns: int) -> None:
    """Set a terminal's size in characters; its foreground processes get SIGWINCH."""
    fcntl.ioctl(descriptor, _TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
