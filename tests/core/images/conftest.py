"""An image store over a driver that needs no kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.database import Database
from pannier.images.images import ImageStore
from support.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def storage() -> MemoryStorage:
    """Give a driver that keeps layers in memory."""
    return MemoryStorage()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Give an empty database."""
    database = Database(tmp_path / "pannier.db")
    yield database
    database.close()


@pytest.fixture
def store(tmp_path: Path, database: Database, storage: MemoryStorage) -> ImageStore:
    """Give an empty store."""
    return ImageStore(tmp_path, database, storage)
