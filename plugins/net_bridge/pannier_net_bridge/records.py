"""Records on disk: a journal, to which each change is appended as one line of JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Records"]

_SPARE_LINES: Final = 1000
"""So many lines more than there are records make the journal be written anew."""


class Records:
    """Records by key, found again by whoever opens the file next. One process at a time.

    A change is one ``write`` to a file that is there: about 15 µs, whereas creating a file for each
    record took ext4 up to 1 ms on a busy disk. A line that was cut off by a crash is dropped with
    all that follows it. Nothing is synced: killing a process loses nothing, and after a power cut
    no container runs whose record could matter. Callers take turns.

    :param path: the file; made where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records = _read(path)
        self._lines = 0
        self._descriptor = -1
        self._rewrite()

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def all(self) -> list[dict[str, Any]]:
        """Return every record, in the order in which they were last written."""
        return list(self._records.values())

    def write(self, key: str, value: dict[str, Any]) -> None:
        """Keep a record, in place of an earlier one.

        :raises DriverError: it could not be written; the earlier one holds.
        """
        if not self._append(key, value):
            raise DriverError(
                f"could not write to {self._path}",
                hint="free some space on its filesystem",
            )
        self._records.pop(key, None)
        self._records[key] = value

    def remove(self, key: str) -> None:
        """Forget a record. Idempotent.

        On a full disk the line is made up for by the next change; and should there be none, the
        next instance finds a record whose container has gone.
        """
        if self._records.pop(key, None) is not None:
            self._append(key, None)

    def _append(self, key: str, value: dict[str, Any] | None) -> bool:
        """Write a line; return whether it is whole."""
        line = _line(key, value)
        try:
            if self._lines > len(self._records) + _SPARE_LINES:
                self._rewrite()
            whole = os.write(self._descriptor, line) == len(line)
        except OSError:
            whole = False
        # Behind a broken line nothing would be read: then the journal is written anew first.
        self._lines = self._lines + 1 if whole else sys.maxsize
        return whole

    def _rewrite(self) -> None:
        """Write the journal anew, beside, and put it in place of the old one."""
        staged = self._path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(staged, flags, 0o600)
        try:
            _write_all(descriptor, (_line(key, value) for key, value in self._records.items()))
            staged.replace(self._path)
        except BaseException:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor = descriptor
        self._lines = len(self._records)


def _line(key: str, value: dict[str, Any] | None) -> bytes:
    return json.dumps([key, value]).encode() + b"\n"


def _write_all(descriptor: int, lines: Iterable[bytes]) -> None:
    left = memoryview(b"".join(lines))
    while left:
        left = left[os.write(descriptor, left) :]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = {}
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return records
    for line in lines:
        try:
            key, value = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        records.pop(key, None)
        if value is not None:
            records[key] = value
    return records
