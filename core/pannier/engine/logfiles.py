"""Reading containers' log files: from a time on, or only the last lines, across rotations.

The format is :mod:`pannier.drivers.logfile`'s. Records are found by going from header to header;
so that the end of a long log is found again without that, marks of where records begin are
remembered for each file, one for about every mebibyte.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pannier.drivers.logfile import HEADER, MAX_CHUNK, STDERR, STDOUT
from pannier.engine.results import LogLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pannier.engine.sessions import LogOptions

__all__ = ["Cursor", "Lines", "Marks", "Place", "frame", "frames_of_lines"]

_SPACING = 1 << 20
_REMEMBERED = 256
_LONGEST_LINE = 1 << 20
"""A line that is longer is given in pieces, so that one without end is not kept in memory."""

Place = tuple[int, int, int]
"""Where a record ends: the file's inode, the time of its first record (inodes are used again), and
the offset in it."""

Record = tuple[int, int, bytes]
"""(time in nanoseconds since the epoch, stream, data)."""


def frame(stream: int, data: bytes) -> bytes:
    """Return data in the framing of the Engine API's attach."""
    return b"%c\0\0\0%b%b" % (stream, len(data).to_bytes(4, "big"), data)


def frames_of_lines(stream: int, data: bytes) -> bytes:
    """Return data with a frame for each of its lines; what has no newline yet has one, too."""
    *whole, rest = data.split(b"\n")
    frames = [frame(stream, line + b"\n") for line in whole]
    if rest:
        frames.append(frame(stream, rest))
    return b"".join(frames)


@dataclass(slots=True)
class _Marks:
    """Where records begin in one file: (offset, time), and how far it was looked through."""

    marks: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0


class Marks:
    """Remembers marks for the files used last, by device and inode. For any thread.

    Emptied by what is used least; a file that is shorter than its marks is marked anew.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[int, int], _Marks] = OrderedDict()

    def of(self, descriptor: int) -> list[tuple[int, int]]:
        """Return the marks of a file, brought up to its end."""
        status = os.fstat(descriptor)
        key = (status.st_dev, status.st_ino)
        known = self._files.pop(key, None)
        if known is None or known.end > status.st_size:
            known = _Marks()
        # A copy that replaces the old one whole: another thread may do the same.
        marks = _Marks(list(known.marks), known.end)
        last = marks.marks[-1][0] if marks.marks else -_SPACING
        for offset, end, (time, _, _) in scan(descriptor, marks.end, data=False):
            if offset - last >= _SPACING:
                marks.marks.append((offset, time))
                last = offset
            marks.end = end
        self._files[key] = marks
        while len(self._files) > _REMEMBERED:
            self._files.popitem(last=False)
        return marks.marks


def scan(
    descriptor: int, start: int = 0, stop: int | None = None, *, data: bool = True
) -> Iterator[tuple[int, int, Record]]:
    """Yield each whole record from *start* on: where it begins, where it ends, and itself.

    :param stop: records that begin there or later are left out.
    :param data: without it the records' data is empty.
    """
    buffer, base = b"", start
    while True:
        chunk = os.pread(descriptor, _SPACING, base + len(buffer))
        if not chunk:
            return
        buffer = buffer + chunk if buffer else chunk
        position, size = 0, len(buffer)
        while size - position >= HEADER.size:
            if stop is not None and base + position >= stop:
                return
            time, stream, length = HEADER.unpack_from(buffer, position)
            if length > MAX_CHUNK or stream not in (STDOUT, STDERR):
                return  # damaged: nothing behind it can be told apart
            end = position + HEADER.size + length
            if end > size:
                break
            content = buffer[position + HEADER.size : end] if data else b""
            yield base + position, base + end, (time, stream, content)
            position = end
        buffer = buffer[position:]
        base += position


class Cursor:
    """A place in a container's log, from which records are read on and on.

    :param path: the current file; older ones are ``path.1``, ``path.2`` ….
    """

    def __init__(self, path: Path, marks: Marks, options: LogOptions) -> None:
        self._path = path
        self._marks = marks
        self._options = options
        self._streams = (options.stdout and STDOUT, options.stderr and STDERR)
        self._files = _open_all(path)
        self._index = 0
        self._offset = 0
        self._left: Place | None = None
        self.skip = 0
        """How many lines of those that follow do not belong to the tail."""
        try:
            self._position()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files. Idempotent."""
        for descriptor in self._files:
            os.close(descriptor)
        self._files = []

    def _position(self) -> None:
        if self._options.tail is not None:
            self._go_to_tail(self._options.tail)
        elif self._options.since:
            self._go_to_time(self._options.since)

    def _go_to_time(self, since: int) -> None:
        for index in range(len(self._files) - 1, -1, -1):
            marks = self._marks.of(self._files[index])
            earlier = [offset for offset, time in marks if time < since]
            if earlier:
                self._index, self._offset = index, earlier[-1]
                return

    def _go_to_tail(self, lines: int) -> None:
        """Go back, mark by mark, until enough lines lie ahead."""
        ahead = {STDOUT: 0, STDERR: 0}
        open_ended: set[int] = set()
        for index in range(len(self._files) - 1, -1, -1):
            stop = None
            for offset, _ in reversed(self._marks.of(self._files[index])):
                for stream, count, ends in self._count(index, offset, stop):
                    if stream not in open_ended:
                        open_ended.add(stream)
                        # What follows the last newline is a line, too.
                        ahead[stream] += not ends
                    ahead[stream] += count
                self._index, self._offset = index, offset
                stop = offset
                # One more than asked for: the first may have begun before.
                if sum(ahead.values()) > lines + len(open_ended):
                    self.skip = sum(ahead.values()) - lines
                    return
        self.skip = max(sum(ahead.values()) - lines, 0)

    def _count(self, index: int, offset: int, stop: int | None) -> Iterator[tuple[int, int, bool]]:
        """Yield newlines for each stream between two marks, and whether its last data ends so."""
        counts: dict[int, tuple[int, bool]] = {}
        for _, _, (time, stream, data) in scan(self._files[index], offset, stop):
            if self._wants(time, stream):
                count = counts.get(stream, (0, True))[0]
                counts[stream] = (count + data.count(b"\n"), data.endswith(b"\n"))
        for stream, (count, ends) in counts.items():
            yield stream, count, ends

    @property
    def place(self) -> Place | None:
        """Where the record that was read last ends; None before the first."""
        if not self._offset:
            return self._left
        descriptor = self._files[self._index]
        return os.fstat(descriptor).st_ino, _first_time(descriptor), self._offset

    def go_to(self, place: Place) -> bool:
        """Go on behind *place*; return whether its file is still there."""
        for index, descriptor in enumerate(self._files):
            here = (os.fstat(descriptor).st_ino, _first_time(descriptor))
            if here == place[:2]:
                self._index, self._offset = index, place[2]
                return True
        return False

    def _wants(self, time: int, stream: int) -> bool:
        options = self._options
        return (
            stream in self._streams
            and time >= options.since
            and (not options.until or time <= options.until)
        )

    def read(self) -> list[Record]:
        """Return the next records, about a mebibyte of them; none where there are none yet."""
        found: list[Record] = []
        size = 0
        while self._files:
            for _, end, record in scan(self._files[self._index], self._offset):
                self._offset = end
                if self._wants(record[0], record[1]):
                    found.append(record)
                    size += len(record[2])
                    if size >= _SPACING:
                        return found
            if not self._next_file():
                break
        if not self._files:
            self._files = _open_all(self._path)
            if self._files:
                return found + self.read()
        return found

    def _next_file(self) -> bool:
        """Go on to the file that follows this one, if there is one."""
        if self._index + 1 < len(self._files):
            self._left = self.place
            self._index += 1
            self._offset = 0
            return True
        try:
            current = self._path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._files[self._index])
        if (here.st_dev, here.st_ino) == (current.st_dev, current.st_ino):
            return False
        # Rotated. What was written to this one before that is read once more, then on with those
        # that came after it.
        newer = _open_all(self._path)
        position = next(
            (
                index
                for index, descriptor in enumerate(newer)
                if os.fstat(descriptor).st_ino == here.st_ino
            ),
            -1,
        )
        self._left = self.place
        self.close()
        self._files = newer
        if position >= 0:
            self._index = position
        else:
            self._index, self._offset = 0, 0
        return True


def _first_time(descriptor: int) -> int:
    header = os.pread(descriptor, HEADER.size, 0)
    return HEADER.unpack(header)[0] if len(header) == HEADER.size else 0


def _open_all(path: Path) -> list[int]:
    """Open a log's files, the oldest first; each once, though it may be renamed meanwhile."""
    found: list[int] = []
    seen: set[int] = set()
    number = 0
    while True:
        name = path if number == 0 else path.with_name(f"{path.name}.{number}")
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            if number or not path.parent.exists():
                break
            number += 1
            continue
        inode = os.fstat(descriptor).st_ino
        if inode in seen:
            os.close(descriptor)
        else:
            seen.add(inode)
            found.append(descriptor)
        number += 1
    return found[::-1]


class Lines:
    """Makes lines from records; each stream's lines are kept apart, as they come in pieces.

    :param skip: so many lines are left out at first.
    :param longest: bytes of a line without an end that are kept back.
    """

    def __init__(self, skip: int = 0, longest: int = _LONGEST_LINE) -> None:
        self.partial: dict[int, tuple[int, bytes]] = {}
        """What has come of lines that have not ended: (time, data) by stream."""
        self._skip = skip
        self._longest = longest

    def feed(self, records: Iterable[Record]) -> list[LogLine]:
        """Return the lines that are whole with these records."""
        found: list[LogLine] = []
        for written, stream, piece in records:
            # A line has the time of its beginning.
            time, before = self.partial.pop(stream, (written, b""))
            whole, newline, rest = (before + piece if before else piece).rpartition(b"\n")
            if newline:
                found += [LogLine(time, stream, line + b"\n") for line in whole.split(b"\n")]
            if len(rest) >= self._longest:
                found.append(LogLine(time, stream, rest))
            elif rest:
                self.partial[stream] = (time, rest)
        return self._without_skipped(found)

    def finish(self) -> list[LogLine]:
        """Return what has come of lines that have not ended."""
        found = [LogLine(time, stream, data) for stream, (time, data) in self.partial.items()]
        self.partial.clear()
        return self._without_skipped(sorted(found, key=lambda line: line.time_ns))

    def _without_skipped(self, lines: list[LogLine]) -> list[LogLine]:
        if self._skip and lines:
            skipped = min(self._skip, len(lines))
            self._skip -= skipped
            return lines[skipped:]
        return lines
