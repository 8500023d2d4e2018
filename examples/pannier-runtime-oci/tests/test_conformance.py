"""The driver keeps the contract, as the kit of the installed Pannier has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pannier.testing import RuntimeConformance

from pannier_runtime_oci.driver import OciConfig, OciRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.base import DriverContext

pytest_plugins = "pannier.testing.plugin"


@pytest.mark.usefixtures("runc")
class TestOciRuntime(RuntimeConformance):
    """Inherited whole."""

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], OciRuntime]:
        """Open the driver as its defaults are."""
        return lambda context: OciRuntime(context, OciConfig())
