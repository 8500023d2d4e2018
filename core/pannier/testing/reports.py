"""A run of the kit for readers: a table for people, JSON and JUnit's XML for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.testing.runner import Report

__all__ = ["FORMATS", "summary"]

_EXPLAINED = ("will fail", "not applicable")
"""What is no failure, and has a reason of one line; JUnit has one word for it, ``skipped``."""


def summary(report: Report) -> str:
    """Return one line: how many tests passed, failed, and do not apply."""
    counts = [
        f"{count} {outcome}"
        for outcome in ("passed", "failed", "will fail", "not applicable")
        if (count := report.count(outcome))
    ]
    counts += [
        f"interrupted in {result.name}"
        for result in report.results
        if result.outcome == "interrupted"
    ]
    return ", ".join(counts)


def as_table(report: Report) -> str:
    """Return what was tested, a line for each test, and what the failed ones say."""
    return "\n".join([*_head(report), "", *_rows(report), "", *_failures(report), summary(report)])


def _head(report: Report) -> Iterator[str]:
    origin = f"{report.distribution} {report.version}".strip()
    yield f"{report.kind} driver {report.driver} ({origin or 'no distribution'})"
    yield f"conformance kit {report.kit}, {report.kernel}"
    yield f"declares: {', '.join(report.capabilities) or 'nothing'}"


def _rows(report: Report) -> Iterator[str]:
    width = len("not applicable")
    yield f"{'RESULT'.ljust(width)}   TEST"
    for result in report.results:
        detail = f"  ({result.reason})" if result.outcome in _EXPLAINED else ""
        yield f"{result.outcome.ljust(width)}   {result.name}{detail}"


def _failures(report: Report) -> Iterator[str]:
    for result in report.results:
        if result.outcome == "failed":
            yield f"--- {result.name}: {result.title}"
            yield result.reason
            yield ""


def as_json(report: Report) -> str:
    """Return one object."""
    return json.dumps(
        {
            "Kind": report.kind,
            "Driver": report.driver,
            "Distribution": report.distribution,
            "Version": report.version,
            "Capabilities": report.capabilities,
            "Kit": report.kit,
            "Kernel": report.kernel,
            "Passed": report.count("passed"),
            "Failed": report.count("failed"),
            "WillFail": report.count("will fail"),
            "NotApplicable": report.count("not applicable"),
            "Interrupted": report.count("interrupted") > 0,
            "Tests": [
                {
                    "Name": result.name,
                    "Title": result.title,
                    "Result": result.outcome,
                    "Seconds": round(result.seconds, 4),
                    "Reason": result.reason,
                }
                for result in report.results
            ],
        },
        indent=2,
    )


def as_junit(report: Report) -> str:
    """Return JUnit's XML, as pytest writes it; the versions are the suite's properties."""
    top = ET.Element("testsuites", name="pannier conformance")
    suite = ET.SubElement(
        top,
        "testsuite",
        name=f"{report.kind}.{report.driver}",
        tests=str(len(report.results)),
        failures=str(report.count("failed")),
        errors=str(report.count("interrupted")),
        skipped=str(sum(report.count(outcome) for outcome in _EXPLAINED)),
        time=f"{sum(result.seconds for result in report.results):.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("kit", report.kit),
        ("distribution", report.distribution),
        ("version", report.version),
        ("capabilities", ",".join(report.capabilities)),
        ("kernel", report.kernel),
    ):
        ET.SubElement(properties, "property", name=name, value=value)
    for result in report.results:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"{report.kind}.{report.driver}",
            name=result.name,
            time=f"{result.seconds:.3f}",
        )
        if result.outcome == "failed":
            failure = ET.SubElement(case, "failure", message=result.title)
            failure.text = _printable(result.reason)
        elif result.outcome == "interrupted":
            ET.SubElement(case, "error", message=result.reason)
        elif result.outcome in _EXPLAINED:
            ET.SubElement(case, "skipped", message=_printable(result.reason))
    ET.indent(top)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(top, encoding="unicode")


def _printable(text: str) -> str:
    """Replace what XML 1.0 cannot hold: control characters and lone surrogates."""
    return "".join(
        one if one in "\t\n" or (one >= " " and not 0xD800 <= ord(one) < 0xE000) else "?"
        for one in text
    )


FORMATS = {"table": as_table, "json": as_json, "junit": as_junit}
"""The forms that a report can be had in."""
