"""A process's terminal: the external runtime makes it, and sends its master over a socket."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pannier.runtimes.mechanism import Failure

from pannier_runtime_oci.external import CONSOLE

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Console"]

_PATIENCE = 10.0


class Console:
    """A context, in which the socket is there for a process that is to have a terminal."""

    def __init__(self, *, wanted: bool) -> None:
        self._listener: socket.socket | None = None
        if wanted:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(CONSOLE)
            self._listener.listen(1)

    def __enter__(self) -> Self:
        return self

    def master(self) -> int:
        """Return the terminal's master, which the runtime has sent; -1 where none was wanted.

        :raises Failure: it has not sent one.
        """
        if self._listener is None:
            return -1
        self._listener.settimeout(_PATIENCE)
        try:
            connection, _ = self._listener.accept()
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
