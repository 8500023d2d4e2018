"""The vfs driver keeps the contract of storage drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import DriverContext, NoConfig
from pannier.testing.storage import StorageConformance
from pannier_storage_vfs.driver import VfsStorage

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
pytest_plugins = "pannier.testing.plugin"


class TestVfs(StorageConformance):
    """The kit's tests."""

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], VfsStorage]:
        """Open the driver."""
        return lambda context: VfsStorage(context, NoConfig())
