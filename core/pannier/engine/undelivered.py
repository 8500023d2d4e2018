"""What a container has written and its log driver has not been handed yet.

How far delivery has come is kept in a file beside the log, replaced as a whole: the place of the
last record whose lines were handed over, and what had come of lines that had not ended there. Not
written through to the disk: after a power failure a little is delivered again.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from typing import TYPE_CHECKING

from pannier.drivers.log import LogEntry
from pannier.engine.logfiles import Cursor, Lines, Marks
from pannier.engine.sessions import LogOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pannier.engine.logfiles import Place
    from pannier.engine.results import LogLine

__all__ = ["Undelivered", "is_behind"]

_LONGEST = 16 << 10
"""Bytes of one entry: where Docker cuts a line into pieces."""

_Noted = tuple["Place | None", dict[int, tuple[int, bytes]]]


def is_behind(log: Path) -> bool:
    """Whether something in a log may not have been delivered."""
    place, partial = _load(_note_of(log))
    try:
        status = log.stat()
    except FileNotFoundError:
        return False
    if not status.st_size:
        return False
    return bool(partial) or place is None or (place[0], place[2]) != (status.st_ino, status.st_size)


class Undelivered:
    """Reads on where delivery stopped. Blocking; for one thread.

    :param log: the current file.
    """

    def __init__(self, log: Path) -> None:
        self._note = _note_of(log)
        self._lines = Lines(longest=_LONGEST)
        place, self._lines.partial = _load(self._note)
        self._cursor = Cursor(log, Marks(), LogOptions())
        if place is not None:
            # Where its file has gone, all that is there is newer.
            self._cursor.go_to(place)

    def read(self) -> list[LogEntry]:
        """Return the next lines, about a mebibyte of them; none where none has ended yet."""
        while records := self._cursor.read():
            if found := list(_entries(self._lines.feed(records))):
                return found
        return []

    def rest(self) -> list[LogEntry]:
        """Return what has come of lines that will not end."""
        return list(_entries(self._lines.finish()))

    def note(self) -> None:
        """Note that all that was returned has been delivered.

        :raises OSError: it cannot be written.
        """
        partial = {
            str(stream): [time, base64.b64encode(data).decode()]
            for stream, (time, data) in self._lines.partial.items()
        }
        new = self._note.with_name(f"{self._note.name}.new")
        new.write_text(json.dumps({"place": self._cursor.place, "partial": partial}))
        new.rename(self._note)

    def close(self) -> None:
        """Close the files. Idempotent."""
        self._cursor.close()


def _entries(lines: list[LogLine]) -> Iterator[LogEntry]:
    for line in lines:
        for begin in range(0, len(line.data), _LONGEST):
            yield LogEntry(line.time_ns, line.stream, line.data[begin : begin + _LONGEST])


def _note_of(log: Path) -> Path:
    return log.with_name("delivered.json")


def _load(note: Path) -> _Noted:
    """Read a note; one that is missing or damaged says that nothing was delivered."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError, binascii.Error):
        found = json.loads(note.read_text())
        partial = {
            int(stream): (int(time), base64.b64decode(data))
            for stream, (time, data) in found["partial"].items()
        }
        inode, first, offset = found["place"]
        return (int(inode), int(first), int(offset)), partial
    return None, {}
