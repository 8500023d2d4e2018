"""A process's descriptors: both ends of its pipes, or the terminal that the runtime makes."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pannier.stdio.streams import STDOUT

from pannier_runtime_oci.external import CONSOLE, Failure

if TYPE_CHECKING:
    from types import TracebackType

    from pannier.stdio.streams import Streams

    from pannier_runtime_oci.jobs import StdioJob

__all__ = ["Console"]

_PATIENCE = 10.0


class Console:
    """A context: what was not connected to streams by its end is closed.

    :ivar theirs: the process's stdin, stdout and stderr; empty for a terminal.
    """

    def __init__(self, stdio: StdioJob) -> None:
        self._takes_input = stdio["stdin"]
        self._listener: socket.socket | None = None
        self._stdin = -1
        self._sources: list[int] = []
        self.theirs: list[int] = []
        if stdio["terminal"]:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(CONSOLE)
            self._listener.listen(1)
            return
        if self._takes_input:
            stdin, self._stdin = os.pipe()
        else:
            stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.theirs = [stdin]
        for _ in range(2):
            source, end = os.pipe()
            self._sources.append(source)
            self.theirs.append(end)

    def __enter__(self) -> Self:
        return self

    def connect(self, streams: Streams) -> None:
        """Hand our ends to the streams, now that the process has its own.

        :raises Failure: the runtime has not sent the terminal.
        """
        if self._listener is not None:
            master = self._accept(self._listener)
            streams.add_source(master, STDOUT)
            if self._takes_input:
                streams.set_stdin(master)
            return
        if self._stdin >= 0:
            streams.set_stdin(self._stdin)
        for stream, source in enumerate(self._sources, STDOUT):
            streams.add_source(source, stream)
        self._stdin, self._sources = -1, []

    @staticmethod
    def _accept(listener: socket.socket) -> int:
        listener.settimeout(_PATIENCE)
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(_PATIENCE)
                _, received, _, _ = socket.recv_fds(connection, 4096, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise Failure(f"the runtime has not sent the terminal: {error}") from error
        if not received:
            raise Failure("the runtime has not sent the terminal")
        return received[0]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._listener is not None:
            self._listener.close()
            Path(CONSOLE).unlink(missing_ok=True)
        ours = [self._stdin] if self._stdin >= 0 else []
        for descriptor in (*self.theirs, *self._sources, *ours):
            os.close(descriptor)
