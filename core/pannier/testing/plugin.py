"""The kit's pytest plugin, which is not loaded by itself.

Write in your test module or in conftest.py::

    pytest_plugins = "pannier.testing.plugin"

It turns the known gaps of a class into strict expected failures (a leak is a failure, too), and
failures of tests that are only announced into warnings; and it lets the fixtures know whether the
test itself failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

import pannier
from pannier.testing.base import FAILED, Conformance, check_overrides, check_waivers
from pannier.testing.rules import rule_of

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_report_header",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
    "pytest_terminal_summary",
]

_SHOWN: Final = pytest.StashKey[bool]()
"""Set on an item that is a known gap: whether it has shown itself, by a failure or a leak."""

_ANNOUNCED: Final = "announced: must pass from Pannier"


def pytest_report_header() -> str:
    """Say which kit it is."""
    return f"pannier conformance kit {pannier.__version__}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the known gaps as expected failures; that they fail is seen to in their reports.

    :raises pytest.UsageError: a test of the kit is waived in another way than as a known gap.
    """
    for item in items:
        if isinstance(item, pytest.Function) and item.cls and issubclass(item.cls, Conformance):
            _check_waivers(item, item.cls)
            reason = item.cls.known_gaps.get(item.originalname)
            if reason is not None:
                # Whether it failed is known only once it is torn down: a gap may be a leak.
                item.add_marker(pytest.mark.xfail(reason=f"known gap: {reason}", strict=False))
                item.stash[_SHOWN] = False


def _check_waivers(item: pytest.Function, cls: type[Conformance[Any]]) -> None:
    try:
        # Once more: the class may have been changed since it was made.
        check_overrides(cls)
        check_waivers(cls)
    except TypeError as error:
        raise pytest.UsageError(str(error)) from None
    is_ours = item.function.__module__.startswith(f"{__package__}.")
    if is_ours and item.get_closest_marker("xfail"):
        raise pytest.UsageError(
            f"{cls.__name__}: {item.originalname} is a test of the kit, and marked as xfail; "
            "list what the driver does not hold yet in known_gaps"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Note also a test that is interrupted, of which there is no report: it is cleaned up after."""
    try:
        yield
    except KeyboardInterrupt:
        item.stash[FAILED] = True
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a test that failed, expectedly or not, for the fixtures that are torn down after it.

    One that is only announced has not failed, but is expected to: it is reported as such.
    """
    if call.excinfo is not None and call.when != "teardown":
        item.stash[FAILED] = True
    report = yield
    if _SHOWN in item.stash and not item.config.option.runxfail:
        _judge_gap(item, report)
    rule = rule_of(getattr(item, "function", None))
    if report.failed and not rule.is_in_force and item.get_closest_marker("xfail") is None:
        report.outcome = "skipped"
        report.wasxfail = f"{_ANNOUNCED} {rule.required} on"
    return report


def _judge_gap(item: pytest.Item, report: pytest.TestReport) -> None:
    """Have a known gap failed that has shown itself neither in the test nor, as a leak, after it.

    A test that does not apply has not shown that there is none.
    """
    if report.outcome != "passed":
        item.stash[_SHOWN] = True
    elif report.when == "call":
        del report.wasxfail  # which says that it passed after all; it may leak yet
    elif report.when == "teardown" and not item.stash[_SHOWN]:
        marker = item.get_closest_marker("xfail")
        assert marker is not None
        report.outcome = "failed"
        report.longrepr = f"[XPASS(strict)] {marker.kwargs['reason']}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what will be a failure, whichever reports the author asks for."""
    found = [
        f"{report.nodeid}: {report.wasxfail}"
        for report in terminalreporter.getreports("xfailed")
        if report.wasxfail.startswith(_ANNOUNCED)
    ]
    if found:
        terminalreporter.section("conformance kit: fails, and will have to pass", yellow=True)
        for line in found:
            terminalreporter.write_line(line)
