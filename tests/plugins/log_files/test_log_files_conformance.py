"""The drivers against the kit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.testing.log import LogConformance
from pannier_log_files.driver import JsonFile, JsonFileConfig, Local, LocalConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.base import DriverContext

pytest_plugins = "pannier.testing.plugin"
pytestmark = pytest.mark.root


class TestJsonFile(LogConformance):
    """The contract, as the driver ``json-file`` holds it."""

    wrong_options = ({"compress": "maybe"},)

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], JsonFile]:
        """Return a function that opens the driver."""
        return lambda context: JsonFile(context, JsonFileConfig())


class TestLocal(LogConformance):
    """The contract, as the driver ``local`` holds it."""

    wrong_options = ({"compress": "maybe"},)

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], Local]:
        """Return a function that opens the driver."""
        return lambda context: Local(context, LocalConfig())
