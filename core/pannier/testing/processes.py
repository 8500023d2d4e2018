"""Which processes may be a driver's: this one's descendants, and those that hold its folders.

A monitor lets its parent go, so that it outlives the daemon: it is nobody's descendant. But it
works in its container's folder, or has something open in there. Sources: proc_pid_cwd(5),
proc_pid_fd(5), proc_pid_task(5).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator

__all__ = ["all_processes", "descendants", "holders", "name_of", "network_namespaces"]


def all_processes() -> frozenset[int]:
    """Return the ids of all processes that can be seen from here."""
    return frozenset(int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - called for every test


def holders(mark: re.Pattern[str], older: frozenset[int]) -> list[int]:
    """Return the processes that have something in their hands whose path *mark* is found in.

    Their working folder, root, program, a descriptor, or an argument.

    :param older: processes that are left out, as this one is.
    """
    return [
        pid
        for pid in all_processes() - older - {os.getpid()}
        if any(mark.search(text) for text in _held(pid))
    ]


def _held(pid: int) -> Iterator[str]:
    """Yield what a process has in its hands; what is deleted has that behind its path."""
    of = f"/proc/{pid}"
    with contextlib.suppress(OSError):
        yield from os.fsdecode(Path(of, "cmdline").read_bytes()).split("\0")
    links = [f"{of}/cwd", f"{of}/root", f"{of}/exe"]
    with contextlib.suppress(OSError):
        links += [f"{of}/fd/{name}" for name in os.listdir(f"{of}/fd")]  # noqa: PTH208 - as above
    for link in links:
        with contextlib.suppress(OSError):  # it has just ended, or is a thread of the kernel
            yield os.readlink(link)  # noqa: PTH115 - as above


def descendants(*pids: int) -> list[int]:
    """Return the processes that some have started, and those that they have."""
    found: list[int] = []
    waiting = list(pids)
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def _children(pid: int) -> list[int]:
    """Return a process's children, as the kernel lists them for each thread."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - as above
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii")
            found += [int(number) for number in text.split()]
    return found


def name_of(pid: int) -> str | None:
    """Return a process's name; None where it has ended."""
    try:
        text = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.strip()


def network_namespaces(pids: Iterable[int]) -> set[str]:
    """Return the network namespaces that threads of some processes are in."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):  # it has just ended
                    found.add(str((thread / "ns/net").readlink()))
    return found
