"""A monitor's side of the log: records in the form of :mod:`pannier.drivers.logfile`, and rotation.

That module is not imported here: what it imports would cost every container's monitor memory.
"""

from __future__ import annotations

import os
import struct
import time
from errno import ESTALE

from pannier.stdio.clients import Stored
from pannier.stdio.small import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.stdio.jobs import LogJob

__all__ = ["HEADER", "LogFile"]

HEADER = struct.Struct("<QBxxxI")


class LogFile:
    """A log file that is written record by record, and begun anew when it is full."""

    __slots__ = ("_descriptor", "_direct", "_folder", "_max_files", "_max_size", "_name", "_size")

    def __init__(self, job: LogJob, file: int, folder: int) -> None:
        self._descriptor = file
        self._direct = -1  # the same file, to splice into: one open for appending is refused
        self._folder = folder
        self._name = job["name"]
        self._max_size = job["max_size"]
        self._max_files = job["max_files"]
        self._size = os.fstat(self._descriptor).st_size

    def write(self, stream: int, data: memoryview) -> None:
        """Append a record. A full disk loses the record, and stops nothing."""
        header = HEADER.pack(time.time_ns(), stream, len(data))
        length = len(header) + len(data)
        try:
            if self._max_size and self._size and self._size + length > self._max_size:
                self._rotate()
            written = os.writev(self._descriptor, (header, data))
            if written == length:
                self._size += length
            else:
                # Readers stop at a record that is cut short: what follows would not be seen.
                os.ftruncate(self._descriptor, self._size)
        except OSError:
            return

    def take(self, stream: int, pipe: int, length: int) -> Stored | memoryview | None:
        """Append a record straight from a pipe that holds *length* bytes at least.

        :returns: the record's data, which may be fewer, in memory where the log could not keep
            them; None where it cannot be done, and the pipe still has all of it.
        """
        try:
            if self._max_size and self._size and self._size + HEADER.size + length > self._max_size:
                self._rotate()
            if self._direct < 0:
                self._direct = self._open_again()
            # Not where this process believes the end to be: someone may have emptied the file.
            start = os.fstat(self._direct).st_size
            data = start + HEADER.size
            taken = self._splice(start, stream, pipe, length)
            if taken == length or (taken and self._correct(start, stream, taken)):
                self._size = data + taken
                return Stored(self._direct, data, taken)
            # The log loses the record, and clients do not.
            kept = os.pread(self._direct, taken, data)
            os.ftruncate(self._direct, start)
            self._size = start
        except OSError:
            return None
        return memoryview(kept) if kept else None

    def _splice(self, start: int, stream: int, pipe: int, length: int) -> int:
        """Write a record at *start*; return how much of its data the pipe gave."""
        taken = 0
        with suppress(OSError):
            self._write_header(start, stream, length)
            while taken < length:
                at = start + HEADER.size + taken
                moved = os.splice(pipe, self._direct, length - taken, offset_dst=at)
                if not moved:
                    break
                taken += moved
        return taken

    def _correct(self, start: int, stream: int, length: int) -> bool:
        """Have a record be no longer than what has come; return whether that was possible."""
        with suppress(OSError):
            self._write_header(start, stream, length)
            return True
        return False

    def _write_header(self, start: int, stream: int, length: int) -> None:
        os.pwrite(self._direct, HEADER.pack(time.time_ns(), stream, length), start)

    def _open_again(self) -> int:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._name, flags, dir_fd=self._folder)
        if not os.path.sameopenfile(descriptor, self._descriptor):
            os.close(descriptor)
            raise OSError(ESTALE, "another file has the log's name")
        return descriptor

    def _rotate(self) -> None:
        for index in range(self._max_files - 1, 0, -1):
            older = self._name if index == 1 else b"%s.%d" % (self._name, index - 1)
            try:
                os.rename(
                    older,
                    b"%s.%d" % (self._name, index),
                    src_dir_fd=self._folder,
                    dst_dir_fd=self._folder,
                )
            except FileNotFoundError:
                continue
        # A new file, even where only one is kept: a reader goes on with the old one to its end.
        fresh = b"%s.new" % self._name
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(fresh, flags, 0o640, dir_fd=self._folder)
        os.rename(fresh, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = 0
        if self._direct >= 0:
            os.close(self._direct)
            self._direct = -1
