"""Runs the kit against an installed driver: what ``pannier conformance`` does.

The tests are those that the driver's author runs; only the folders and the configuration are the
user's own. Nothing of a daemon's is touched: the driver is opened on new folders.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import platform
import signal
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import pannier
from pannier.errors import (
    ConfigError,
    ContractViolation,
    DriverUnavailable,
    UnsupportedOperation,
)
from pannier.testing.base import PLUGIN, Conformance
from pannier.testing.leaks import remove_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pannier.drivers.base import Driver, DriverContext
    from pannier.plugins import DriverRecord, Drivers

__all__ = ["KITS", "Report", "Result", "run_installed", "subject"]

KITS: Final = {
    "storage": "pannier.testing.storage:StorageConformance",
    "network": "pannier.testing.network:NetworkConformance",
    "resources": "pannier.testing.resources:ResourceConformance",
    "runtime": "pannier.testing.runtime:RuntimeConformance",
    "log": "pannier.testing.log:LogConformance",
}
"""The class of each kind of driver."""

_FILE: Final = Path(__file__).with_name("installed.py")
_classes: list[type[Conformance[Any]]] = []


@dataclass(slots=True)
class Result:
    """How one test went.

    :param title: what it is about, in a sentence.
    :param outcome: ``passed``, ``failed``, ``will fail`` (once what the kit has announced is
        required), ``not applicable`` or ``interrupted``, of the last one.
    :param reason: why it failed, will fail or does not apply; may have many lines.
    """

    name: str
    title: str
    outcome: str = "passed"
    seconds: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class Report:
    """What a run of the kit came to, with what it takes to know what was tested."""

    kind: str
    driver: str
    distribution: str
    version: str
    capabilities: tuple[str, ...]
    kit: str = pannier.__version__
    kernel: str = field(default_factory=lambda: f"{platform.system()} {platform.release()}")
    results: list[Result] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        """Return how many tests went so."""
        return sum(result.outcome == outcome for result in self.results)


def subject() -> type[Conformance[Any]]:
    """Return the class that is to be run, for the module that pytest collects."""
    return _classes[-1]


def run_installed(
    drivers: Drivers,
    kind: str,
    id: str,
    *,
    folder: Path | None = None,
    options: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Run the kit against an installed driver.

    SIGINT, SIGTERM and SIGHUP end the run: the test is cleaned up after, and the report has what
    was tested until then.

    :param folder: where the driver's folders are made, and removed; None is the engine's root,
        where there is one already, else the folder of temporary files.
    :param options: of what the tests create, where it has any: of networks (``--opt``), of
        containers' logs (``--log-opt``).
    :param progress: is told how many tests are done, of how many.
    :raises ConfigError: no such driver is installed.
    :raises DriverUnavailable: it cannot work here, so there is nothing to test.
    """
    record = drivers.probe(_find(drivers, kind, id))
    if record.driver is None or not record.usable:
        raise DriverUnavailable(
            f"the {kind} driver {id!r} cannot work here: {record.reason}",
            hint=record.hint or "`pannier drivers` lists the others",
        )
    settings = drivers.config.driver_config(kind, id, record.driver.config_type)
    report = Report(kind, id, record.distribution, record.version, record.capabilities)
    with _place(folder or _default_folder(drivers.config.engine.root)) as place:
        found = _class_for(record, settings, place)
        if options:
            setattr(found, found.options_attribute, dict(options))
        _classes.append(found)
        try:
            with _signals_interrupt():
                _run_pytest(report, progress or (lambda *_: None))
        finally:
            _classes.pop()
    return report


def _find(drivers: Drivers, kind: str, id: str) -> DriverRecord:
    found = drivers.find(kind, id)
    if found is not None:
        return found
    installed = ", ".join(drivers.installed(kind)) or "none"
    raise ConfigError(f"no {kind} driver {id!r} is installed", hint=f"installed: {installed}")


def _kit_of(kind: str) -> type[Conformance[Any]]:
    module, _, name = KITS[kind].partition(":")
    if importlib.util.find_spec(module) is None:
        raise UnsupportedOperation(
            f"this version has no conformance kit for {kind} drivers",
            hint=f"see `pip install --upgrade pannier`; this is {pannier.__version__}",
        )
    found: type[Conformance[Any]] = getattr(importlib.import_module(module), name)
    return found


def _class_for(record: DriverRecord, settings: object, place: Path) -> Any:
    """Return the kit's class with the fixtures that an author would have written."""
    driver: Any = record.driver

    class TestInstalled(_kit_of(record.kind)):  # type: ignore[misc]  # the base is found by name
        """The kit, with a driver that was found by its entry point."""

        @pytest.fixture
        def open_driver(self) -> Callable[[DriverContext], Driver]:
            """Open the driver with its own configuration."""
            return lambda context: driver(context, settings)

        @pytest.fixture
        def place(self) -> Iterator[Path]:
            """Give a new folder for each test, where the user wants them."""
            folder = Path(tempfile.mkdtemp(dir=place))
            yield folder
            remove_folder(folder)

        @pytest.fixture
        def arrived(self) -> None:
            """Skip what only those can see who know where a log driver delivers to."""
            pytest.skip("not applicable: where lines arrive only the driver's own tests can see")

    return TestInstalled


def _default_folder(root: Path) -> Path:
    return root if root.is_dir() else Path(tempfile.gettempdir())


@contextlib.contextmanager
def _place(folder: Path) -> Iterator[Path]:
    # The real path, which is what the kernel tells of mounts.
    place = Path(tempfile.mkdtemp(prefix="conformance-", dir=folder.resolve()))
    try:
        yield place
    finally:
        remove_folder(place)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Have the signals that end a process interrupt it as SIGINT does, unless they are ignored.

    Else what the driver has mounted and started would stay. Only the main thread can do so.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_pytest(report: Report, progress: Callable[[int, int], None]) -> None:
    """Have pytest run the tests, undisturbed by whatever is configured where the user is."""
    listener = _Listener(report, progress)
    arguments = [
        *(str(_FILE), "-c", os.devnull, "--rootdir", str(_FILE.parent)),
        *("-p", "no:cacheprovider", "-p", "no:terminal", "-p", PLUGIN),
    ]
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        status = pytest.main(arguments, plugins=[listener])
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    ended = {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    if not (status in ended or report.count("interrupted")) or not report.results:
        raise ContractViolation(
            f"the kit could not be run on the {report.kind} driver {report.driver!r}: "
            f"{listener.trouble or status}"
        )


class _Listener:
    """Notes how each test goes, through all of its phases."""

    def __init__(self, report: Report, progress: Callable[[int, int], None]) -> None:
        self._report = report
        self._progress = progress
        self._results: dict[str, Result] = {}
        self._running = ""
        self.trouble = ""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what kept the tests from being found."""
        if report.failed:
            self.trouble = str(report.longrepr).strip().rpartition("\n")[2]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """List the tests in their order."""
        for item in session.items:
            function = getattr(item, "function", None)
            title = (getattr(function, "__doc__", None) or item.name).strip().partition("\n")[0]
            self._results[item.nodeid] = Result(item.name, title)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note which test is running."""
        self._running = nodeid

    def pytest_keyboard_interrupt(self) -> None:
        """Note which test was running when the run was interrupted; nothing where none was."""
        result = self._results.get(self._running)
        if result is not None and result not in self._report.results:
            result.outcome = result.reason = "interrupted"
            self._report.results.append(result)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in one phase of a test."""
        result = self._results[report.nodeid]
        result.seconds += report.duration
        if report.failed:
            result.outcome = "failed"
            result.reason = "\n".join(filter(None, (result.reason, str(report.longrepr))))
        elif hasattr(report, "wasxfail"):
            result.outcome = "will fail"
            result.reason = str(report.wasxfail)
        elif report.skipped and result.outcome == "passed":
            result.outcome = "not applicable"
            text = report.longrepr
            reason = str(text[2]) if isinstance(text, tuple) else str(text)
            result.reason = reason.removeprefix("Skipped: ").removeprefix("not applicable: ")
        if report.when == "teardown":
            self._report.results.append(result)
            self._progress(len(self._report.results), len(self._results))
