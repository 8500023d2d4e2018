"""Processes: clone3(2), the prctl(2) calls about a process, close_range(2), and host names.

Imported by the small processes that become containers: hence nothing from typing at run time.
"""

from __future__ import annotations

import ctypes
import os
import struct

from pannier.linux.libc import SYSCALLS, check, libc, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "clone",
    "close_all_from",
    "die_with_parent",
    "join_session_keyring",
    "keep_capabilities",
    "set_child_subreaper",
    "set_domainname",
    "set_dumpable",
    "set_hostname",
    "set_name",
    "set_no_new_privileges",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_PARENT = 0x00008000
_SIGKILL = 9
_SIGCHLD = 17
_KEYCTL_JOIN_SESSION_KEYRING = 1
_ENOSYS = 38
_LAST_DESCRIPTOR = 0x7FFFFFFF

# struct clone_args up to set_tid_size, 64 bytes: its first published version.
_CLONE_ARGS = struct.Struct("=8Q")

# The interpreter's lock is not let go for the call: the child returns from it as the only thread.
_locked = ctypes.PyDLL(None, use_errno=True)
_locked.syscall.restype = ctypes.c_long

# Indexing makes a function object of our own: other modules call prctl with other types.
_prctl = libc["prctl"]
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_prctl_text = libc["prctl"]
_prctl_text.argtypes = [ctypes.c_int, ctypes.c_char_p]


def clone(flags: int) -> int:
    """Fork into the new namespaces of *flags*: clone3(2). Return 0 in the child, else its pid.

    Unlike ``os.fork`` runs none of the interpreter's or the C library's fork handlers, so the
    calling process must have one thread only.
    """
    # A sibling takes over the signal that we end with, and may name none.
    ending = 0 if flags & _CLONE_PARENT else _SIGCHLD
    arguments = _CLONE_ARGS.pack(flags, 0, 0, 0, ending, 0, 0, 0)
    number, size = ctypes.c_long(SYSCALLS["clone3"]), ctypes.c_long(_CLONE_ARGS.size)
    return check(_locked.syscall(number, arguments, size))


def set_child_subreaper() -> None:
    """Become the parent of descendants that lose theirs."""
    check(_prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def set_dumpable(dumpable: bool) -> None:  # noqa: FBT001 - the kernel's own argument
    """Allow or refuse other processes of the same user to look into this one (ptrace, /proc)."""
    check(_prctl(_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0))


def die_with_parent() -> None:
    """Have SIGKILL sent to this process when its parent ends.

    The kernel forgets it at every change of ids or capabilities: call it after those.
    """
    check(_prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0))


def keep_capabilities(keep: bool) -> None:  # noqa: FBT001 - the kernel's own argument
    """Keep the permitted capabilities when the uid changes from 0, until execve."""
    check(_prctl(_PR_SET_KEEPCAPS, int(keep), 0, 0, 0))


def join_session_keyring(name: bytes) -> None:
    """Have the session keyring of that name, made where it is missing: keyctl(2).

    Nothing where the kernel has no keyrings.
    """
    try:
        syscall("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, name)
    except OSError as error:
        if error.errno != _ENOSYS:
            raise


def set_no_new_privileges() -> None:
    """Renounce, for good, whatever execve could grant (set-uid bits, file capabilities)."""
    check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def set_name(name: str) -> None:
    """Set the name that ps shows for this process: at most 15 bytes."""
    check(_prctl_text(_PR_SET_NAME, os.fsencode(name)[:15]))


def close_all_from(first: int, but: Iterable[int] = ()) -> None:
    """Close every descriptor from *first* on, apart from those named: close_range(2).

    A mark to be closed by execve is not enough before a program of a container's is executed: the
    kernel heeds it once it has found the program, for which /proc/self/fd/N is a way like others.
    """
    for descriptor in sorted(number for number in but if number >= first):
        if descriptor > first:
            syscall("close_range", first, descriptor - 1, 0)
        first = descriptor + 1
    syscall("close_range", first, _LAST_DESCRIPTOR, 0)


def set_hostname(name: bytes) -> None:
    """Name this UTS namespace: sethostname(2)."""
    check(libc.sethostname(name, ctypes.c_size_t(len(name))), name)


def set_domainname(name: bytes) -> None:
    """Give this UTS namespace an NIS domain name: setdomainname(2)."""
    check(libc.setdomainname(name, ctypes.c_size_t(len(name))), name)
