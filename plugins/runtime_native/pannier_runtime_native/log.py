"""The shim's side of the log: records in the form of :mod:`pannier.drivers.logfile`, and rotation.

That module is not imported here: what it imports would cost every container's monitor memory.
"""

from __future__ import annotations

import os
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier_runtime_native.messages import LogJob

__all__ = ["HEADER", "LogFile"]

HEADER = struct.Struct("<QBxxxI")


class LogFile:
    """A log file that is written record by record, and begun anew when it is full."""

    __slots__ = ("_descriptor", "_folder", "_max_files", "_max_size", "_name", "_size")

    def __init__(self, job: LogJob, file: int, folder: int) -> None:
        self._descriptor = file
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
