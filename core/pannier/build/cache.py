"""The cache: which image an instruction made on a given base, from given files.

A key is a digest over the key of the step before, the instruction with its variables replaced, and
the content of every file that goes in. The table leads from keys to images; an image that was
removed since is a miss, so nothing here keeps an image alive.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pannier.database import Database

__all__ = ["Cache", "make_key"]

_MIGRATIONS: Final = [
    """CREATE TABLE build_cache (
        key TEXT PRIMARY KEY, image TEXT NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL
    )""",
    "CREATE INDEX build_cache_image ON build_cache (image)",
]


def make_key(*parts: str) -> str:
    """Return a digest that no other list of parts has."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        state.update(b"%d:" % len(data))
        state.update(data)
    return state.hexdigest()


class Cache:
    """The table; times in seconds since the epoch."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("build", _MIGRATIONS)

    def find(self, key: str) -> str | None:
        """Return the id of the image that a key leads to; None if there is none."""
        row = self._database.row("SELECT image FROM build_cache WHERE key = ?", key)
        return None if row is None else str(row[0])

    def touch(self, keys: list[str]) -> None:
        """Note that keys were used."""
        now = int(time.time())
        with self._database.transaction():
            for key in keys:
                self._database.execute("UPDATE build_cache SET used = ? WHERE key = ?", now, key)

    def put(self, key: str, image: str) -> None:
        """Have a key lead to an image."""
        now = int(time.time())
        with self._database.transaction():
            self._database.execute(
                "REPLACE INTO build_cache VALUES (?, ?, ?, ?)", key, image, now, now
            )

    def entries(self) -> list[tuple[str, str, int, int]]:
        """Return every key with its image, and when it was made and last used."""
        return [
            (row[0], row[1], row[2], row[3])
            for row in self._database.rows(
                "SELECT key, image, created, used FROM build_cache ORDER BY created"
            )
        ]

    def forget(self, keys: list[str]) -> None:
        """Remove keys. Idempotent."""
        with self._database.transaction():
            for key in keys:
                self._database.execute("DELETE FROM build_cache WHERE key = ?", key)
