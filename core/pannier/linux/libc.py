"""The C library, and the raw system calls that it has no wrapper for.

Imported by the small processes that become containers: hence no typing and no platform here, which
cost more than all the rest.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["SYSCALLS", "check", "libc", "syscall"]

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

# Since Linux 5.1 new system calls have one number on all architectures; older ones do not.
SYSCALLS: dict[str, int] = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
} | (
    {
        "pivot_root": 155,
        "seccomp": 317,
        "bpf": 321,
        "copy_file_range": 326,
        "keyctl": 250,
        "sched_setattr": 314,
        "ioprio_set": 251,
    }
    if os.uname().machine == "x86_64"
    else {
        "pivot_root": 41,
        "seccomp": 277,
        "bpf": 280,
        "copy_file_range": 285,
        "keyctl": 219,
        "sched_setattr": 274,
        "ioprio_set": 30,
    }
)


def check(result: int, path: str | bytes | os.PathLike[str] | None = None) -> int:
    """Return *result*, or raise the OSError of the C library's errno where it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        if path is None:
            raise OSError(number, os.strerror(number))
        raise OSError(number, os.strerror(number), os.fspath(path))
    return result


def syscall(
    name: str,
    *args: int | bytes | ctypes.Array[ctypes.c_char] | None,
    path: str | bytes | None = None,
) -> int:
    """Make the system call *name*; integers are passed as longs, bytes as pointers.

    :raises OSError: the call failed; *path* names what it was about.
    """
    # Variadic arguments would be cut to 32 bits if passed as plain ints.
    words = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return check(libc.syscall(ctypes.c_long(SYSCALLS[name]), *words), path)
