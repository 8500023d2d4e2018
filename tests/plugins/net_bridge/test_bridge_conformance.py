"""The driver against the kit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.testing.network import NetworkConformance
from pannier_net_bridge.config import BridgeConfig
from pannier_net_bridge.driver import BridgeDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.base import DriverContext

pytest_plugins = "pannier.testing.plugin"
pytestmark = pytest.mark.root


class TestBridge(NetworkConformance):
    """The contract, as the driver ``bridge`` holds it."""

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], BridgeDriver]:
        """Return a function that opens the driver."""
        return lambda context: BridgeDriver(context, BridgeConfig())
