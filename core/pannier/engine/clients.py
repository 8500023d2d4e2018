"""Clients that wait for a container's start."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.drivers.runtime import Connection

__all__ = ["hang_up"]


def hang_up(connections: Iterable[Connection]) -> None:
    """Tell clients that waited for a start that it will not come."""
    for connection in connections:
        with contextlib.suppress(OSError):
            client = socket.socket(fileno=os.dup(connection.socket))
            with client:
                client.shutdown(socket.SHUT_RDWR)
