"""Namespaces: setns(2), unshare(2), and a network namespace for a while.

Imported by the small processes that become containers, where each import costs memory.
"""

from __future__ import annotations

import ctypes
import os

from pannier.linux.libc import check, libc

__all__ = ["CLONE_FLAGS", "in_network_namespace", "setns", "unshare"]

CLONE_NEWTIME = 0x00000080
CLONE_FS = 0x00000200
CLONE_FILES = 0x00000400
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

CLONE_FLAGS = {
    "mount": CLONE_NEWNS,
    "cgroup": CLONE_NEWCGROUP,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
    "time": CLONE_NEWTIME,
}
"""The clone flag of each namespace, by its name in the OCI runtime specification."""

libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
libc.unshare.argtypes = [ctypes.c_int]


def setns(descriptor: int, flags: int = 0) -> None:
    """Join the namespace (or, for a pidfd, the namespaces of *flags*): setns(2)."""
    check(libc.setns(descriptor, flags))


def unshare(flags: int) -> None:
    """Leave the shared namespaces of *flags* for new ones: unshare(2)."""
    check(libc.unshare(flags))


class in_network_namespace:  # noqa: N801 - used as a function
    """Have the calling thread, and it alone, in another network namespace for a while.

    A socket made meanwhile stays in that namespace.
    """

    # A class, because contextlib costs more than all the rest in the processes named above.

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(self._descriptor, CLONE_NEWNET)
        except OSError:
            os.close(self._home)
            raise

    def __exit__(self, *_: object) -> None:
        try:
            setns(self._home, CLONE_NEWNET)
        finally:
            os.close(self._home)
