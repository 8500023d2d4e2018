"""The state database: one SQLite file (WAL) in the engine's root folder.

Rooms bring their own tables: each passes its migrations to :meth:`Database.migrate` once, at start.
Every write happens inside :meth:`Database.transaction`, so that a killed process leaves either all
of a change or none. Commits reach the operating system at once and the disk with the next
checkpoint (``synchronous=NORMAL``): killing processes loses nothing, a power cut loses at most the
last moments and never corrupts.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pannier.errors import PannierError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Database"]

_BUSY_TIMEOUT = 10.0


class Database:
    """A connection that all threads of the daemon share, one at a time.

    The file is its owner's alone: containers' environments, which it holds, have passwords in them.

    :param path: the file; ``:memory:`` in tests.
    """

    def __init__(self, path: Path | str) -> None:
        if isinstance(path, Path):
            # Before SQLite sees it, which gives the files beside it the mode that it has.
            path.touch(mode=0o600)
            path.chmod(0o600)
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        with self.transaction():
            self.execute(
                "CREATE TABLE IF NOT EXISTS migrations (room TEXT PRIMARY KEY, version INTEGER)"
            )

    def migrate(self, room: str, migrations: Sequence[str]) -> None:
        """Bring a room's tables up to date.

        :param migrations: SQL statements, in order; entries are only ever added at the end.
        :raises PannierError: the file was written by a newer Pannier.
        """
        with self.transaction():
            row = self.row("SELECT version FROM migrations WHERE room = ?", room)
            version = 0 if row is None else int(row[0])
            if version > len(migrations):
                raise PannierError(
                    f"the state database is of a newer version ({room} {version})",
                    hint="run the Pannier that wrote it, or choose another [engine] root",
                )
            for statement in migrations[version:]:
                self.execute(statement)
            self.execute("REPLACE INTO migrations VALUES (?, ?)", room, len(migrations))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Group writes: all of them happen, or none. May be nested; the outermost commits."""
        with self._lock:
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._connection.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._connection.execute("COMMIT")

    def execute(self, statement: str, *parameters: Any) -> int:
        """Execute one statement; return the number of rows that it changed."""
        with self._lock:
            return self._connection.execute(statement, parameters).rowcount

    def row(self, query: str, *parameters: Any) -> tuple[Any, ...] | None:
        """Return the first row of a query, or None."""
        with self._lock:
            row: tuple[Any, ...] | None = self._connection.execute(query, parameters).fetchone()
            return row

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self._lock:
            return self._connection.execute(query, parameters).fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
