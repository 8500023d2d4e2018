"""The driver against the kit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import NoConfig
from pannier.testing.runtime import RuntimeConformance
from pannier_runtime_native.driver import NativeRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.base import DriverContext

pytest_plugins = "pannier.testing.plugin"
pytestmark = pytest.mark.root


class TestNative(RuntimeConformance):
    """The contract, as the driver ``native`` holds it."""

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], NativeRuntime]:
        """Return a function that opens the driver."""
        return lambda context: NativeRuntime(context, NoConfig())
