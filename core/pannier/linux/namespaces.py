"""Namespaces: setns(2), unshare(2), and a user namespace to map ids with."""

from __future__ import annotations

import contextlib
import ctypes
import os

from pannier.linux.libc import check, libc

TYPE_CHECKING = False  # typing is not worth its import in the processes that become containers
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CLONE_FLAGS", "in_network_namespace", "setns", "unshare"]

CLONE_NEWTIME = 0x00000080
CLONE_FS = 0x00000200
CLONE_FILES = 0x00000400
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


@contextlib.contextmanager
def in_network_namespace(descriptor: int) -> Iterator[None]:
    """Have the calling thread, and it alone, in another network namespace for a while.

    A socket made meanwhile stays in that namespace.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(descriptor, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)
