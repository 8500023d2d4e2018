"""Running the conformance kit on subjects of its own: drivers that keep a contract or break it."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Outcome", "judge"]

_ROOT = Path(__file__).parents[2]


@dataclass
class Outcome:
    """How a test went, all of its parameters together.

    :param said: what a failure, an error or a skip says.
    """

    ran: int = 0
    failed: int = 0
    skipped: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All that was said."""
        return "\n".join(self.said)


def judge(subjects: Path, folder: Path, *tests: str) -> dict[str, Outcome]:
    """Run some of a module's tests in a process of their own; return how each went.

    :param tests: as ``TestClass::test_name``.
    """
    report = folder / f"{subjects.stem}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--junit-xml={report}", *(f"{subjects}::{test}" for test in tests)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    found: dict[str, Outcome] = {}
    for case in ET.parse(report).iter("testcase"):
        suite, name = str(case.get("classname")), str(case.get("name"))
        outcome = found.setdefault(
            f"{suite.rpartition('.')[2]}::{name.partition('[')[0]}", Outcome()
        )
        outcome.ran += 1
        outcome.failed += any(item.tag in {"failure", "error"} for item in case)
        outcome.skipped += any(item.tag == "skipped" for item in case)
        outcome.said += [f"{item.get('message')}\n{item.text}" for item in case]
    return found
