"""A subscription to a container's events: the driver's end."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING

from pannier.drivers.runtime import DetachEvent, ExitEvent, RuntimeWatch
from pannier.errors import DriverError
from pannier.runtimes.channel import receive

if TYPE_CHECKING:
    from pannier.runtimes.store import Exit, Store

__all__ = ["Watch"]


class Watch(RuntimeWatch):
    """Reads what the monitor tells; where there is no monitor, what it left behind.

    A monitor that was killed leaves nothing. To see to it that its container has ended, too, may
    take its time, so the watch does not: whoever asks for the state does (:meth:`Store.lost`).

    :param source: a connection to the monitor; where that has ended already, how.
    """

    def __init__(self, id: str, store: Store, source: socket.socket | Exit) -> None:
        self._id = id
        self._store = store
        self._connection: socket.socket | None = None
        self._left: Exit | None = None
        self._event = -1
        if isinstance(source, socket.socket):
            self._connection = source
        else:
            self._left = source
            # Stands in for a connection, and is always readable.
            self._event = os.eventfd(1, os.EFD_CLOEXEC)
        self._ended = False

    def fileno(self) -> int:
        """Return what to poll."""
        return self._event if self._connection is None else self._connection.fileno()

    def read(self) -> list[ExitEvent | DetachEvent]:
        """Return the new events.

        :raises DriverError: the monitor was killed.
        """
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
        left = self._left or self._store.exit(self._id)
        if left is None:
            raise DriverError(f"the monitor of {self._id} has ended without a word")
        self._ended = True
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
