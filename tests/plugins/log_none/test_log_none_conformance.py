"""The driver against the kit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import NoConfig
from pannier.testing.log import LogConformance
from pannier_log_none.driver import NoneDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.base import DriverContext

pytest_plugins = "pannier.testing.plugin"
pytestmark = pytest.mark.root


class TestNone(LogConformance):
    """The contract, as the driver ``none`` holds it."""

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], NoneDriver]:
        """Return a function that opens the driver."""
        return lambda context: NoneDriver(context, NoConfig())
