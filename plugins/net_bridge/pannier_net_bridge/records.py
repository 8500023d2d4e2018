"""Records on disk: one small JSON file each, which appears and changes as a whole."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Records"]

_SUFFIX = ".json"
_STAGED = ".new"


class Records:
    """A folder of records, by key.

    Written beside and renamed, so that a reader after a crash finds the old one or the new one.
    They are not synced: killing a process loses nothing, and after a power cut no container runs
    whose lease could matter.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, key: str, value: dict[str, Any]) -> None:
        """Keep a record, in place of an earlier one."""
        staged = self._folder / (key + _STAGED)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, json.dumps(value).encode())
        finally:
            os.close(descriptor)
        staged.replace(self._folder / (key + _SUFFIX))

    def remove(self, key: str) -> None:
        """Forget a record. Idempotent."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._folder / (key + _SUFFIX))  # noqa: PTH108 - Path.unlink costs twice this

    def load(self) -> Iterator[dict[str, Any]]:
        """Yield every record, oldest first; one that is damaged is dropped."""
        for path in sorted(self._folder.glob("*" + _STAGED)):
            path.unlink(missing_ok=True)
        paths = [(path.stat().st_mtime_ns, path) for path in self._folder.glob("*" + _SUFFIX)]
        for _, path in sorted(paths):
            try:
                value = json.loads(path.read_bytes())
            except ValueError:
                path.unlink(missing_ok=True)
                continue
            if isinstance(value, dict):
                yield value
