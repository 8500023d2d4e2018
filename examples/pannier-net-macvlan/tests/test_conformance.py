"""The driver keeps its contract: Pannier's conformance kit, inherited whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest
from pannier.testing import NetworkConformance

from pannier_net_macvlan.config import MacvlanConfig
from pannier_net_macvlan.driver import MacvlanDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pannier.drivers.base import DriverContext

pytest_plugins = "pannier.testing.plugin"


class TestMacvlan(NetworkConformance):
    """The kit's tests, on a parent that leads to the kit's outside."""

    network_options: ClassVar[Mapping[str, str]] = {"parent": "uplink0"}

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], MacvlanDriver]:
        """Return a function that opens the driver on given folders."""
        return lambda context: MacvlanDriver(context, MacvlanConfig())
