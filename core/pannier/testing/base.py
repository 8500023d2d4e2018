"""The part of the conformance kit that all kinds of driver share.

How an author uses a kit class. The class is inherited whole, so that new tests arrive with an
upgrade; one fixture opens the driver::

    import pytest
    from pannier.testing import StorageConformance
    from my_driver import MyConfig, MyStorage

    pytest_plugins = "pannier.testing.plugin"

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def open_driver(self):
            return lambda context: MyStorage(context, MyConfig())

How a kit class is written. It derives from :class:`Conformance`, says which contract it is of, and
has tests that ask for :meth:`Conformance.opened`, the driver opened on empty folders::

    class StorageConformance(Conformance[StorageDriver]):
        contract = StorageDriver

        def sweep(self, driver):            # remove all that there is, each thing twice
            ...

        @mandatory                          # no author may list it as a known gap
        def test_a_layer_is_found_again(self, opened): ...

        @requires(StorageCapability.IDMAP)  # not applicable unless the driver declares it
        def test_an_id_map_is_applied(self, opened): ...

        @refuses(StorageCapability.IDMAP)   # not applicable if the driver declares it
        def test_an_id_map_is_refused(self, opened):
            with self.refused():
                opened.run(opened.driver.plan_open_root(...))

        @announced(since="0.2", required="0.3")  # before 0.3 failing it is a warning
        @mandatory
        def test_what_is_new(self, opened): ...

A test's docstring states a behaviour of the contract. After each test the kit sweeps, opens the
driver anew, waits until its folders hold no more than right after it was first opened, closes it,
and compares the snapshots of :mod:`pannier.testing.leaks`. Where the test itself failed, its
leavings are only cleaned up. A kit class that needs a place of its own (a network namespace, a
control group) overrides the fixture :meth:`Conformance.surroundings`, which is set up first and
torn down last.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

import pytest

from pannier.drivers.announced import old_forms
from pannier.drivers.base import Driver, DriverContext
from pannier.drivers.operations import Transaction
from pannier.errors import UnsupportedOperation
from pannier.testing.leaks import (
    Watch,
    files_below,
    leaked,
    snapshot,
    unmount_below,
    wait_until,
)
from pannier.testing.rules import announced, mandatory, refuses, requires, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from enum import StrEnum
    from pathlib import Path

    from pannier.drivers.operations import Plan

__all__ = [
    "PLUGIN",
    "Conformance",
    "Opened",
    "announced",
    "check_overrides",
    "check_waivers",
    "mandatory",
    "refuses",
    "requires",
    "rule_of",
]

D = TypeVar("D", bound=Driver)
T = TypeVar("T")

PLUGIN: Final = "pannier.testing.plugin"
FAILED: Final = pytest.StashKey[bool]()
"""Set on an item whose test failed, by the plugin."""
_LEFT: Final = pytest.StashKey[list[str]]()


class Opened(Generic[D]):
    """A driver on folders of its own, which can be closed and opened anew.

    :param driver: the instance that is open now.
    """

    def __init__(self, open_driver: Callable[[DriverContext], D], context: DriverContext) -> None:
        self._open = open_driver
        self.context = context
        self.driver = open_driver(context)

    @property
    def capabilities(self) -> AbstractSet[StrEnum]:
        """What the driver declares."""
        return type(self.driver).capabilities

    def reopen(self) -> D:
        """Close the driver and open it anew, as a restart of the daemon does."""
        self.driver.close()
        return self.resume()

    def resume(self) -> D:
        """Open the driver anew on what an earlier instance left, which is closed or was killed."""
        self.driver = self._open(self.context)
        return self.driver

    def another(self) -> D:
        """Open one more instance on the same folders; the caller closes it."""
        return self._open(self.context)

    def run(self, plan: Plan[T]) -> T:
        """Execute a plan of the driver's; where an operation fails, all of it is undone."""
        return Transaction().run(plan)


class Conformance(Generic[D]):
    """The base of the kit's classes; see the module."""

    contract: ClassVar[type[Driver]]
    """The contract that the class's tests are of; set by each class of the kit."""

    known_gaps: ClassVar[Mapping[str, str]] = {}
    """What the driver does not hold yet: a test's name and the reason. These tests are expected to
    fail, and one that passes after all is an error. Mandatory ones cannot be listed."""

    options_attribute: ClassVar[str] = ""
    """The attribute that holds the options of what the tests create, which ``pannier conformance
    -o`` sets; empty where a kind has none."""

    may_keep: ClassVar[tuple[str, ...]] = ()
    """Patterns (fnmatch, relative to the driver's root or state folder) of files that the driver
    may keep when everything was removed: an index, a lock."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        check_overrides(cls)
        check_waivers(cls)

    patience: ClassVar[float] = 10.0
    """Seconds in which what is removed in the background must be gone."""

    # What an author supplies, or may change.

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], D]:
        """Return a function that opens the driver on given folders. The author supplies it.

        It may be called many times, also for folders on which an instance was open before.
        """
        pytest.fail(f"{type(self).__name__} needs a fixture open_driver; see docs/conformance.md")

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """Return an empty folder to make the driver's folders in; override it to choose another.

        A driver that needs a certain filesystem is given a folder on it.
        """
        return tmp_path

    # What a class of the kit may change.

    @pytest.fixture
    def surroundings(self, place: Path) -> Iterator[Watch]:
        """Give the test the place that it needs, and say where leaks are looked for.

        Set up before everything else, and torn down after everything else.
        """
        yield Watch(folders=(place,))
        unmount_below(place)

    def still_there(self) -> list[str]:
        """Return what the swept and reopened driver left where only this kind of driver does."""
        return []

    def sweep(self, driver: D) -> None:
        """Remove everything that the driver has, each thing twice: a second remove is no error."""

    # The machinery.

    @pytest.fixture
    def context(self, place: Path) -> DriverContext:
        """Return the driver's own folders, empty and of the mode 0700, as the core makes them."""
        folders = DriverContext(place / "root", place / "state")
        for folder in (folders.root, folders.state):
            folder.mkdir(mode=0o700)
        return folders

    @pytest.fixture
    def no_leaks(self, request: pytest.FixtureRequest, surroundings: Watch) -> Iterator[None]:
        """Compare what there is before and after the test."""
        if not request.config.pluginmanager.has_plugin(PLUGIN):
            pytest.fail(f'write pytest_plugins = "{PLUGIN}" in the test module or in conftest.py')
        left: list[str] = []
        request.node.stash[_LEFT] = left
        before = snapshot(surroundings)
        yield
        if not request.node.stash.get(FAILED, False):
            left += leaked(before, surroundings, patience=0 if left else self.patience)
            if left:
                pytest.fail("the driver leaves behind:\n  " + "\n  ".join(left), pytrace=False)

    @pytest.fixture(autouse=True)
    def opened(
        self,
        request: pytest.FixtureRequest,
        no_leaks: None,
        open_driver: Callable[[DriverContext], D],
        context: DriverContext,
    ) -> Iterator[Opened[D]]:
        """Give the driver, opened on empty folders; afterwards it must have nothing left."""
        del no_leaks
        opened = Opened(open_driver, context)
        try:
            self._check_driver(opened)
            self._skip_inapplicable(request, opened)
            fresh = files_below(context.root, context.state)
            yield opened
            if request.node.stash.get(FAILED, False):
                with contextlib.suppress(Exception):
                    self.sweep(opened.driver)
            else:
                self.sweep(opened.driver)
                # What a driver keeps for the next request it lets go of when it is opened anew.
                opened.reopen()
                request.node.stash[_LEFT] += self._files_left(context, fresh)
                request.node.stash[_LEFT] += self.still_there()
        finally:
            opened.driver.close()

    @contextlib.contextmanager
    def refused(self) -> Iterator[None]:
        """Expect UnsupportedOperation with a message and a hint, and nothing else."""
        with pytest.raises(UnsupportedOperation) as caught:
            yield
        assert caught.value.message, "the error says nothing"
        assert caught.value.hint, "the error has no hint: what can the user do instead?"

    def _check_driver(self, opened: Opened[D]) -> None:
        driver: Any = opened.driver
        if not isinstance(driver, self.contract):
            pytest.fail(f"{driver!r} is no {self.contract.__name__}", pytrace=False)
        for form in old_forms(self.contract, type(driver)):
            if form.refused:
                pytest.fail(form.text, pytrace=False)
            warnings.warn(form.text, DeprecationWarning, stacklevel=2)

    def _skip_inapplicable(self, request: pytest.FixtureRequest, opened: Opened[D]) -> None:
        rule = rule_of(request.function)
        declared = opened.capabilities
        missing = [str(item) for item in rule.requires if item not in declared]
        if missing:
            pytest.skip(f"not applicable: the driver does not declare {', '.join(missing)}")
        offered = [str(item) for item in rule.refuses if item in declared]
        if offered:
            pytest.skip(f"not applicable: the driver declares {', '.join(offered)}")

    def _files_left(self, context: DriverContext, fresh: frozenset[str]) -> list[str]:
        """Return what the driver's folders hold beyond what they held when they were new.

        What is removed in the background is waited for.
        """
        folders = (context.root, context.state)
        left: list[str] = []

        def gone() -> bool:
            beyond = sorted(files_below(*folders) - fresh)
            left[:] = [path for path in beyond if not self._may_stay(path, folders)]
            return not left

        wait_until(gone, self.patience)
        more = [f"and {len(left) - 20} more files"] if len(left) > 20 else []
        return [f"file: {path}" for path in left[:20]] + more

    def _may_stay(self, path: str, folders: tuple[Path, ...]) -> bool:
        return any(
            fnmatch.fnmatchcase(os.path.relpath(path, folder), pattern)
            for folder in folders
            for pattern in self.may_keep
            if path.startswith(f"{folder}/")
        )


def _tests(cls: type) -> dict[str, object]:
    found: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        found |= {name: item for name, item in vars(base).items() if name.startswith("test_")}
    return found


_MACHINERY: Final = frozenset({"no_leaks", "opened", "refused"})
_KITS_OWN: Final = frozenset({"still_there", "surroundings", "sweep"})
"""What only a class of the kit may define: one that says which contract it is of."""


def check_overrides(cls: type[Conformance[Any]]) -> None:
    """Raise TypeError where somebody else than the kit supplies one of its tests or judgements.

    That may be the class itself, or any of its bases: whichever comes first is the one that counts.
    """
    kit = [base for base in cls.__mro__[1:] if issubclass(base, Conformance)]
    suppliers: dict[str, set[type]] = {name: {Conformance} for name in _MACHINERY}
    for base in kit:
        # Whoever is the furthest has it first; the others would replace it.
        suppliers |= {name: {base} for name in vars(base) if name.startswith("test_")}
        if "contract" in vars(base):
            suppliers |= {name: set(base.__mro__) for name in _KITS_OWN}
    replaced = sorted(name for name, of in suppliers.items() if _supplier(cls, name) not in of)
    if replaced:
        raise TypeError(
            f"{cls.__name__} replaces what is the kit's: {', '.join(replaced)}; "
            f"a class is inherited whole (list what the driver does not hold yet in known_gaps)"
        )


def _supplier(cls: type, name: str) -> type | None:
    """Return the class whose attribute it is that is found in *cls*."""
    return next((base for base in cls.__mro__ if name in vars(base)), None)


_ANY_FILE: Final = "any-folder/any-file"


def check_waivers(cls: type[Conformance[Any]]) -> None:
    """Raise TypeError where known_gaps names what it must not, or may_keep everything."""
    tests = _tests(cls)
    for pattern in cls.may_keep:
        if fnmatch.fnmatchcase(_ANY_FILE, pattern):
            raise TypeError(f"{cls.__name__}.may_keep: {pattern!r} would let any file stay")
    for name, reason in cls.known_gaps.items():
        test = tests.get(name)
        if test is None:
            raise TypeError(f"{cls.__name__}.known_gaps: the kit has no test {name!r}")
        if rule_of(test).mandatory:
            raise TypeError(f"{cls.__name__}.known_gaps: {name} is mandatory for every driver")
        if not reason.strip():
            raise TypeError(f"{cls.__name__}.known_gaps: {name} needs a reason")
