"""A process of a container's, with its streams: what a monitor has of each."""

from __future__ import annotations

import os

from pannier.runtimes.pipes import open_pipes
from pannier.stdio.log import LogFile
from pannier.stdio.streams import STDOUT, Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pannier.runtimes.jobs import StdioJob
    from pannier.runtimes.mechanism import Launched
    from pannier.stdio.loop import Loop

__all__ = ["Member", "close_all", "log_descriptors"]


class Member:
    """A process of the container's. *exec_id* is None for the first.

    :param descriptors: the job's, of which the streams take the log's.
    :param detached: called with *exec_id* when a client leaves by its keys.
    """

    __slots__ = ("drained", "exec_id", "finished", "pid", "status", "streams")

    def __init__(
        self,
        exec_id: str | None,
        loop: Loop,
        stdio: StdioJob,
        descriptors: list[int],
        detached: Callable[[str | None], None],
    ) -> None:
        log, first = stdio["log"], exec_id is None
        file = LogFile(log, descriptors[log["file"]], descriptors[log["folder"]]) if log else None
        self.exec_id = exec_id
        self.streams = Streams(
            loop,
            terminal=stdio["terminal"],
            close_stdin=stdio["stdin_once"] or not first,
            log=file,
            held=not first,
            detached=lambda: detached(exec_id),
        )
        self.pid = 0
        self.status: int | None = None
        self.finished = 0.0
        self.drained = False

    def launch(self, stdio: StdioJob, launch: Callable[[list[int]], Launched]) -> None:
        """Have the process launched with its ends of the pipes, and keep ours."""
        ends: list[int] = []
        ours: list[int] = []
        stdin = -1
        if not stdio["terminal"]:
            ends, stdin, ours = open_pipes(stdio)
        try:
            launched = launch(ends)
        except BaseException:
            close_all([*ours, *([stdin] if stdin >= 0 else [])])
            raise
        finally:
            close_all(ends)
        self.pid = launched.pid
        if stdio["terminal"]:
            ours, stdin = [launched.master], launched.master if stdio["stdin"] else -1
        if stdin >= 0:
            self.streams.set_stdin(stdin)
        for stream, source in enumerate(ours, STDOUT):
            self.streams.add_source(source, stream)


def log_descriptors(stdio: StdioJob) -> set[int]:
    """Return the indexes of the descriptors that a first process's log has."""
    log = stdio["log"]
    return set() if log is None else {log["file"], log["folder"]}


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)
