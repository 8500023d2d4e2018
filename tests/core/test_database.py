"""The state database's file."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from pannier.database import Database

if TYPE_CHECKING:
    from pathlib import Path


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    """Passwords in containers' environments are root's, and so are those of an older Pannier."""
    path = tmp_path / "pannier.db"
    path.touch(mode=0o644)
    with closing(Database(path)) as database:
        database.migrate("room", ["CREATE TABLE things (name TEXT)"])
        modes = {found.name: found.stat().st_mode & 0o777 for found in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("pannier.db", "pannier.db-shm", "pannier.db-wal"), 0o600)
