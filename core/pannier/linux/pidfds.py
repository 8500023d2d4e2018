"""Descriptors of other processes: pidfd_getfd(2)."""

from __future__ import annotations

from pannier.linux.libc import syscall

__all__ = ["take_descriptor"]


def take_descriptor(pidfd: int, descriptor: int) -> int:
    """Return a duplicate of another process's descriptor, closed on exec.

    :param pidfd: the process: pidfd_open(2).
    :param descriptor: its number there.
    :raises OSError: EPERM where the process may not be traced; EBADF, ESRCH.
    """
    return syscall("pidfd_getfd", pidfd, descriptor, 0)
