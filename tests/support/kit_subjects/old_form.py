"""A driver in an old form of its contract; run by ``test_machinery``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar

import pytest

from pannier.drivers.announced import goes
from pannier.testing.storage_base import StorageTests
from support.reference_storage import ReferenceStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.base import DriverContext
    from pannier.drivers.storage import StorageDriver
    from pannier.testing import Opened

pytest_plugins = "pannier.testing.plugin"


class Contract(ReferenceStorage):
    """One of whose methods will go."""

    @goes(since="0.1", removed="99.0")
    def hail(self) -> None:
        """Do nothing."""


class Yesterday(Contract):
    """A driver that has it."""

    def hail(self) -> None:
        """Do nothing, too."""


class TestOldForm(StorageTests):
    """The kit of a contract that changes."""

    contract: ClassVar[type[StorageDriver]] = Contract

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], ReferenceStorage]:
        return Yesterday

    def test_of_the_core(self, opened: Opened[StorageDriver]) -> None:
        assert isinstance(opened.driver, Yesterday)

    def test_of_the_warning(self, opened: Opened[StorageDriver]) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self._check_driver(opened)
        assert [str(one.message) for one in caught] == [
            "Yesterday.hail() is not asked for from Pannier 99.0 on, and nothing in its place"
        ]
