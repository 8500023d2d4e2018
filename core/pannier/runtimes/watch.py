"""A subscription to a container's events: the driver's end."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from pannier.drivers.runtime import DetachEvent, ExitEvent, RuntimeWatch
from pannier.runtimes.channel import receive

if TYPE_CHECKING:
    import socket

    from pannier.runtimes.store import Store

__all__ = ["Watch"]


class Watch(RuntimeWatch):
    """Reads what the monitor tells; where there is no monitor, what it left behind.

    :param connection: None where the monitor has ended already.
    """

    def __init__(self, id: str, store: Store, connection: socket.socket | None) -> None:
        self._id = id
        self._store = store
        self._connection = connection
        # Stands in for a connection, and is always readable.
        self._event = os.eventfd(1, os.EFD_CLOEXEC) if connection is None else -1
        self._ended = False

    def fileno(self) -> int:
        """Return what to poll."""
        return self._event if self._connection is None else self._connection.fileno()

    def read(self) -> list[ExitEvent | DetachEvent]:
        """Return the new events."""
        events: list[ExitEvent | DetachEvent] = []
        while not self._ended:
            if self._connection is None:
                events.append(self._left_behind())
                break
            if not _readable(self._connection):
                break
            answer = receive(self._connection)
            if answer is None:
                events.append(self._left_behind())
                break
            event = answer[0]
            if "detached" in event:
                events.append(DetachEvent(self._id, event["exec_id"]))
                continue
            self._ended = event["exec_id"] is None
            events.append(
                ExitEvent(self._id, event["exec_id"], event["exit_status"], event["finished"])
            )
        return events

    def _left_behind(self) -> ExitEvent:
        self._ended = True
        left = self._store.exit(self._id) or self._store.lost(self._id)
        return ExitEvent(self._id, None, left.status, left.finished, left.lost)

    def close(self) -> None:
        """End it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._event >= 0:
            os.close(self._event)
            self._event = -1
        self._ended = True


def _readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
