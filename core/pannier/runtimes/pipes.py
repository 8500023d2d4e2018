"""The pipes of a process that has no terminal."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.runtimes.jobs import StdioJob

__all__ = ["open_pipes"]


def open_pipes(stdio: StdioJob, null: str = os.devnull) -> tuple[list[int], int, list[int]]:
    """Open a process's pipes.

    :param null: the null device, for a process without stdin.
    :return: the process's three ends; our end of its stdin, -1 without one; ours of its stdout and
        stderr. Nothing of it is inherited over execve.
    """
    ends: list[int] = []
    stdin = -1
    if stdio["stdin"]:
        reading, stdin = os.pipe2(os.O_CLOEXEC)
        ends.append(reading)
    else:
        ends.append(os.open(null, os.O_RDWR | os.O_CLOEXEC))
    sources: list[int] = []
    for _ in range(2):
        reading, writing = os.pipe2(os.O_CLOEXEC)
        sources.append(reading)
        ends.append(writing)
    if stdio["owner"] != (0, 0):
        for end in ends:
            # So that /dev/stdout can be opened by whoever the process runs as.
            if stat.S_ISFIFO(os.fstat(end).st_mode):
                os.fchown(end, *stdio["owner"])
    return ends, stdin, sources
