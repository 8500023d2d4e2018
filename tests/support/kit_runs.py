"""Runs the kit on drivers written for it, in a process of its own, and tells how each test went."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Outcome", "Run", "run_kit"]

SUBJECTS = Path(__file__).parent / "kit_subjects"


@dataclass(frozen=True)
class Outcome:
    """How a test of the kit went.

    :param kind: ``passed``, ``failed`` (also while it was torn down) or ``skipped``.
    """

    kind: str
    text: str = ""


Run = dict[tuple[str, str], Outcome]
"""By the class's and the test's name; a test that did not run is not there."""


def run_kit(folder: Path, name: str, selected: Iterable[str]) -> Run:
    """Run some of a file's tests.

    :param folder: for the report.
    :param name: of a file of subjects, ``storage.py``.
    :param selected: ``Class`` or ``Class::test``.
    """
    file = SUBJECTS / name
    report = folder / "report.xml"
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull),
            *("--rootdir", str(file.parent), "--junit-xml", str(report)),
            *(f"{file}::{name}" for name in selected),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(SUBJECTS.parent.parent),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode in {0, 1}, completed.stdout + completed.stderr
    found: Run = {}
    for case in ET.parse(report).iter("testcase"):
        cls = case.get("classname", "").rpartition(".")[2]
        test = case.get("name", "").partition("[")[0]
        if (cls, test) not in found or found[cls, test].kind != "failed":
            found[cls, test] = _outcome(case)
    return found


def _outcome(case: ET.Element) -> Outcome:
    for kind in ("failure", "error"):
        for found in case.iter(kind):
            return Outcome("failed", f"{found.get('message')}\n{found.text}")
    for found in case.iter("skipped"):
        return Outcome("skipped", found.get("message") or "")
    return Outcome("passed")
