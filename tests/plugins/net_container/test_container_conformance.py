"""The driver against the kit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import NoConfig
from pannier.testing.network import NetworkConformance
from pannier_net_container.driver import ContainerDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.base import DriverContext

pytest_plugins = "pannier.testing.plugin"
pytestmark = pytest.mark.root


class TestContainer(NetworkConformance):
    """The contract, as the driver ``container`` holds it."""

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], ContainerDriver]:
        """Return a function that opens the driver."""
        return lambda context: ContainerDriver(context, NoConfig())
