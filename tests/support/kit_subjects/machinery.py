"""Classes that try the kit's own machinery; run by ``test_machinery``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from pannier.drivers.storage import StorageCapability
from pannier.testing import Opened, announced, mandatory, refuses, requires
from pannier.testing.storage_base import StorageTests
from support.reference_storage import ReferenceStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.base import DriverContext
    from pannier.drivers.storage import StorageDriver

pytest_plugins = "pannier.testing.plugin"


class Kit(StorageTests):
    """A small kit."""

    patience = 0.2

    @mandatory
    def test_of_the_core(self, opened: Opened[StorageDriver]) -> None:
        assert opened.context.root.stat().st_mode & 0o777 == 0o700

    def test_that_fails(self) -> None:
        raise AssertionError("a gap")

    def test_that_passes(self) -> None:
        pass

    @requires(StorageCapability.SIZE_LIMIT)
    def test_of_what_is_declared(self, opened: Opened[StorageDriver]) -> None:
        assert StorageCapability.SIZE_LIMIT in opened.capabilities

    @requires(StorageCapability.IDMAP)
    def test_of_what_is_not_declared(self) -> None:
        raise AssertionError("was run")

    @refuses(StorageCapability.SIZE_LIMIT)
    def test_of_a_refusal_of_what_is_declared(self) -> None:
        raise AssertionError("was run")

    def test_that_leaves_a_layer(self, opened: Opened[StorageDriver]) -> None:
        (opened.context.root / "index").touch()

    def test_that_leaks(self, opened: Opened[StorageDriver]) -> None:
        (opened.context.root / "leaked").touch()

    @mandatory
    @announced(since="0.1", required="99.0")
    def test_that_is_announced(self) -> None:
        raise AssertionError("not yet")

    @announced(since="0.1", required="99.0")
    def test_that_is_announced_and_leaks(self, opened: Opened[StorageDriver]) -> None:
        (opened.context.root / "left").touch()

    @announced(since="0.1", required="99.0")
    def test_that_is_announced_and_passes(self) -> None:
        pass

    @mandatory
    @announced(since="0.0", required="0.1")
    def test_that_was_announced(self) -> None:
        raise AssertionError("not ever")

    def test_that_fails_and_leaks(self, opened: Opened[StorageDriver]) -> None:
        (opened.context.state / "leaked").touch()
        raise AssertionError("the only failure")


class Opens(Kit):
    """The kit with the reference driver."""

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], ReferenceStorage]:
        return ReferenceStorage


class TestPlain(Opens):
    """No gaps are listed."""


class TestWithGaps(Opens):
    """One gap is one, one is none any more; a file may stay."""

    known_gaps: ClassVar = {
        "test_that_fails": "not yet",
        "test_that_passes": "was mended",
        "test_that_leaks": "not closed yet",
        "test_of_what_is_not_declared": "not offered yet",
    }
    may_keep = ("index",)


class TestWithoutADriver(Kit):
    """The author forgot the fixture."""


class TestWithAnotherDriver(Kit):
    """What is opened is no storage driver."""

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], object]:
        class Wrong:
            capabilities: ClassVar[frozenset[str]] = frozenset()

            def close(self) -> None:
                pass

        return lambda _: Wrong()
