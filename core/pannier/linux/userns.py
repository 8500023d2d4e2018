"""A descriptor of a user namespace, to map a mount's ids with: user_namespaces(7)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Final

__all__ = ["Ranges", "open_userns"]

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


def _make(uids: Ranges, gids: Ranges) -> int:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={},
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            answer = child.stdout.readline()
            if answer != b"0\n":
                number = int(answer or b"5")
                raise OSError(number, os.strerror(number), "user namespace")
            for kind, ranges in (("uid", uids), ("gid", gids)):
                lines = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in ranges)
                path = f"/proc/{child.pid}/{kind}_map"
                descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    # The kernel takes the whole map in one write, once.
                    os.write(descriptor, lines.encode())
                finally:
                    os.close(descriptor)
            return os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            child.stdin.close()
