"""User namespaces: one to map a mount's ids with, and the maps of any: user_namespaces(7)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Ranges", "open_userns", "read_maps"]

Ranges = tuple[tuple[int, int, int], ...]
"""Lines of /proc/PID/uid_map: the first id inside, the first outside, how many."""

# unshare(CLONE_NEWUSER) is refused to a process with threads, and forking one without exec is not
# safe: so a process of its own makes the namespace, and is gone once a descriptor of it is open.
_CHILD: Final = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.unshare(0x10000000)
os.write(1, b"%d\\n" % (ctypes.get_errno() if failed else 0))
os.read(0, 1)
"""

_VISITOR: Final = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.setns(int(sys.argv[1]), 0x10000000)
os.write(1, b"%d\\n" % (ctypes.get_errno() if failed else 0))
os.read(0, 1)
"""

_lock = threading.Lock()
_known: dict[tuple[Ranges, Ranges], int] = {}


def open_userns(uids: Ranges, gids: Ranges) -> int:
    """Return a descriptor of a user namespace with these maps; the caller closes it.

    The first call for a pair of maps starts a process and waits for it (about 20 ms); the
    namespace is then kept for as long as this process lives, and later calls only duplicate it.

    :raises OSError: the kernel refuses user namespaces, or the maps.
    """
    with _lock:
        kept = _known.get((uids, gids))
        if kept is None:
            kept = _known[uids, gids] = _make(uids, gids)
        return os.dup(kept)


def read_maps(namespace: int) -> tuple[Ranges, Ranges]:
    """Return the maps of a user namespace behind a descriptor, with our own ids as the outer ones.

    Starts a process that visits it (about 20 ms).

    :raises OSError: it is no user namespace, is our own, or may not be entered.
    """
    with _child(_VISITOR, str(namespace), keep=(namespace,)) as pid:
        return _read(pid, "uid"), _read(pid, "gid")


def _read(pid: int, kind: str) -> Ranges:
    lines = Path(f"/proc/{pid}/{kind}_map").read_text().splitlines()
    rows = [[int(word) for word in line.split()] for line in lines]
    return tuple((inside, outside, size) for inside, outside, size in rows)


def _make(uids: Ranges, gids: Ranges) -> int:
    with _child(_CHILD) as pid:
        for kind, ranges in (("uid", uids), ("gid", gids)):
            lines = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in ranges)
            descriptor = os.open(f"/proc/{pid}/{kind}_map", os.O_WRONLY | os.O_CLOEXEC)
            try:
                # The kernel takes the whole map in one write, once.
                os.write(descriptor, lines.encode())
            finally:
                os.close(descriptor)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def _child(script: str, *words: str, keep: tuple[int, ...] = ()) -> Iterator[int]:
    """Hold a process in another user namespace; give its pid."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=keep,
        env={},
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            answer = child.stdout.readline()
            if answer != b"0\n":
                number = int(answer or b"5")
                raise OSError(number, os.strerror(number), "user namespace")
            yield child.pid
        finally:
            child.stdin.close()
