"""The driver keeps its contract: Pannier's conformance kit, inherited whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pannier.testing import StorageConformance

from loop import btrfs
from pannier_storage_btrfs import driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pannier.drivers.base import DriverContext

pytest_plugins = "pannier.testing.plugin"


class TestBtrfsStorage(StorageConformance):
    """The kit's tests. They need root, on a machine that you may break."""

    patience = 60.0  # with quotas, an emulated machine needs so long for many subvolumes
    may_keep = ("quota-groups/*",)  # until the kernel has cleaned up: half a minute, and more

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], driver.BtrfsStorage]:
        """Return a function that opens the driver on given folders."""
        return lambda context: driver.BtrfsStorage(context, driver.Config())

    @pytest.fixture
    def place(self, on_btrfs: Path) -> Path:
        """Return a folder on btrfs, in which the driver's folders are made."""
        return on_btrfs

    @pytest.fixture
    def small_place(self, disk: Path, tmp_path: Path) -> Iterator[Path]:
        """Give a small btrfs, to be filled."""
        del disk  # it knows whether there can be one
        with btrfs(tmp_path / "small", 64 << 20, "--mixed") as mounted:
            yield mounted
