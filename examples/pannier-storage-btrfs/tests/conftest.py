"""A filesystem of the tests' own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from loop import btrfs, needs, needs_filesystem, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the root of a btrfs that keeps quotas."""
    if os.geteuid() != 0:
        pytest.fail("mounting needs root")
    needs("mkfs.btrfs", "btrfs-progs")
    folder = tmp_path_factory.mktemp("btrfs")
    needs_filesystem(folder)
    with btrfs(folder / "disk", 1 << 30) as mounted:
        run("btrfs", "quota", "enable", str(mounted))
        yield mounted


@pytest.fixture
def on_btrfs(disk: Path, tmp_path: Path) -> Path:
    """Return a new folder on that btrfs, which goes as a whole."""
    folder = disk / tmp_path.name
    folder.mkdir()
    return folder
