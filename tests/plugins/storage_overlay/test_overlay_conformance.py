"""The overlay driver keeps the contract of storage drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.testing.storage import StorageConformance
from pannier_storage_overlay.driver import OverlayConfig, OverlayStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.base import DriverContext

pytestmark = pytest.mark.root
pytest_plugins = "pannier.testing.plugin"


class TestOverlay(StorageConformance):
    """The kit's tests."""

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], OverlayStorage]:
        """Open the driver."""
        return lambda context: OverlayStorage(context, OverlayConfig())
