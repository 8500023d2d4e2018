"""The log file: what a runtime writes and the engine reads.

A file is a sequence of records, each a chunk of output as it was read from the process, so that
writing costs no parsing: a 16-byte little-endian header ``(time, stream, reserved, length)``, with
the time in nanoseconds since the epoch, the stream 1 (stdout) or 2 (stderr), and then *length*
bytes. A record that is cut short at the end of the file is being written, or was lost with its
writer: readers stop before it, writers that append truncate it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "HEADER",
    "MAX_CHUNK",
    "STDERR",
    "STDOUT",
    "Record",
    "open_for_appending",
    "pack_header",
    "read",
    "sound_length",
]

STDOUT = 1
STDERR = 2

HEADER = struct.Struct("<QBxxxI")
MAX_CHUNK = 1 << 20
"""No record is longer; a longer length means a damaged file."""

_MODE = 0o640


@dataclass(frozen=True, slots=True)
class Record:
    """A chunk of output. *time* is in nanoseconds since the epoch."""

    time: int
    stream: int
    data: bytes


def pack_header(time: int, stream: int, length: int) -> bytes:
    """Return the header of a record of *length* bytes."""
    return HEADER.pack(time, stream, length)


def read(descriptor: int, offset: int = 0) -> Iterator[tuple[int, Record]]:
    """Yield each whole record from *offset* on, with the offset just behind it.

    Reads by position: the descriptor's own offset is not used. Ends at the first record that is
    incomplete or damaged.
    """
    buffer = b""
    base = offset
    while True:
        chunk = os.pread(descriptor, MAX_CHUNK, base + len(buffer))
        if not chunk:
            return
        buffer += chunk
        position = 0
        while len(buffer) - position >= HEADER.size:
            time, stream, length = HEADER.unpack_from(buffer, position)
            if length > MAX_CHUNK or stream not in (STDOUT, STDERR):
                return
            end = position + HEADER.size + length
            if end > len(buffer):
                break
            yield base + end, Record(time, stream, buffer[position + HEADER.size : end])
            position = end
        buffer = buffer[position:]
        base += position


def sound_length(descriptor: int) -> int:
    """Return the length of the file up to the end of its last whole record."""
    end = 0
    size = os.fstat(descriptor).st_size
    while end + HEADER.size <= size:
        header = os.pread(descriptor, HEADER.size, end)
        if len(header) < HEADER.size:
            break
        _, stream, length = HEADER.unpack(header)
        following = end + HEADER.size + length
        if length > MAX_CHUNK or stream not in (STDOUT, STDERR) or following > size:
            break
        end = following
    return end


def open_for_appending(path: Path) -> int:
    """Open a log file to write to, new or not; return its descriptor, the caller's to close.

    A record that the last writer did not finish is cut off: readers would stop before it.

    :raises DriverError: it cannot be written to.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = -1
    try:
        descriptor = os.open(path, flags, _MODE)
        length = sound_length(descriptor)
        if length < os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, length)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise DriverError(f"cannot open the log {path}: {error.strerror}") from error
    return descriptor
