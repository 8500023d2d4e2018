"""Cells: the command on one kernel, and what its JUnit file says."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.errors import PannierError
from pannier.matrix.kernels import HOST, fetch_kernel
from pannier.matrix.machine import Groups, Machine, MachineFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Cell", "Outcome", "Tally", "parse_cell", "read_junit", "run_cell"]

JUNIT = "junit.xml"
VARIABLE = "PANNIER_MATRIX_JUNIT"
"""Where the command is to write a JUnit file, unless it is pytest, which is told by an option."""

_MERCY = 30
"""Seconds that a command on this host has to tidy up."""

DRIVER = "driver"
"""The property of a test case in JUnit that names the driver tested."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Where to run: a kernel of the table, and in a guest the layout of control groups."""

    kernel: str
    groups: Groups = Groups.V2

    @property
    def name(self) -> str:
        """The column's heading: ``host``, ``6.1``, ``6.1 v1``."""
        if self.kernel == HOST or self.groups is Groups.V2:
            return self.kernel
        return f"{self.kernel} {self.groups}"


def parse_cell(text: str) -> Cell:
    """Parse ``6.1`` or ``6.1:hybrid``.

    :raises ValueError: the layout is none of v1, v2 and hybrid.
    """
    kernel, _, groups = text.partition(":")
    return Cell(kernel, Groups(groups) if groups else Groups.V2)


@dataclass(slots=True)
class Tally:
    """What came of one driver's tests in one cell.

    :param reasons: why tests were skipped, and how often.
    """

    passed: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        if self.failed:
            return f"{self.failed} failed, {self.passed} passed"
        if self.passed:
            return f"{self.passed} passed"
        (reason, _), *_rest = self.reasons.most_common(1) or [("nothing was run", 0)]
        return f"not applicable: {reason}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cell.

    :param status: the command's exit status; None where it has none.
    :param failure: why there is none: a panic, a machine that hung, a kernel that is not there.
    :param rows: by driver (or where a test names none, by the folder it is in).
    """

    cell: Cell
    status: int | None
    rows: Mapping[str, Tally]
    failure: str = ""

    @property
    def good(self) -> bool:
        """Whether the command ended with the status 0."""
        return self.status == 0


def run_cell(
    cell: Cell, command: Sequence[str], output: Path, timeout: float, *, printing: int = 1
) -> Outcome:
    """Run a command on a kernel; *output* keeps its JUnit file, a guest's console and kernel log.

    :param timeout: seconds.
    :param printing: the descriptor to which is copied what the command prints.
    """
    output.mkdir(parents=True, exist_ok=True)
    junit = output / JUNIT
    junit.unlink(missing_ok=True)
    words = _with_junit(command, junit)
    variables = {VARIABLE: str(junit)}
    failure, status = "", None
    try:
        if cell.kernel == HOST:
            sys.stdout.flush()
            status = _run_here(words, os.environ | variables, timeout, printing)
        else:
            machine = Machine(fetch_kernel(cell.kernel), cell.groups, timeout=timeout)
            status = machine.run(words, output, variables, printing=printing)
    except subprocess.TimeoutExpired:
        failure = f"the command did not end within {timeout:.0f} s"
    except (PannierError, OSError) as error:
        failure = str(error)
        if not isinstance(error, MachineFailed) and getattr(error, "hint", None):
            failure += f" ({error.hint})"  # type: ignore[union-attr] # a PannierError has one
    return Outcome(cell, status, read_junit(junit), failure)


def _run_here(
    words: Sequence[str], environment: Mapping[str, str], timeout: float, printing: int
) -> int:
    """Run a command on this host; nothing that it has begun outlives it.

    :raises subprocess.TimeoutExpired: it had to be ended.
    """
    with subprocess.Popen(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=printing,
        start_new_session=True,
    ) as command:
        try:
            return command.wait(timeout)
        finally:
            _end(command)


def _end(command: subprocess.Popen[bytes]) -> None:
    """End a command with its process group: it may tidy up first, as when a user interrupts it."""
    with contextlib.suppress(ProcessLookupError):
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.wait(_MERCY)
        os.killpg(command.pid, signal.SIGKILL)
    command.wait()


def _with_junit(command: Sequence[str], junit: Path) -> list[str]:
    """Have pytest write a JUnit file; other commands find its place in the environment."""
    words = list(command)
    if "pytest" in (Path(words[0]).name, *words[1:3]):
        words.append(f"--junit-xml={junit}")
    return words


def read_junit(path: Path) -> dict[str, Tally]:
    """Count a JUnit file's test cases by driver; empty where there is no such file."""
    rows: dict[str, Tally] = {}
    if not path.exists():
        return rows
    try:
        cases = list(ET.parse(path).getroot().iter("testcase"))  # noqa: S314 - written just now
    except ET.ParseError:
        return rows
    for case in cases:
        tally = rows.setdefault(_driver_of(case), Tally())
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            tally.failed += 1
        elif skipped is not None:
            tally.reasons[skipped.get("message", "skipped")] += 1
        else:
            tally.passed += 1
    return rows


def _driver_of(case: ET.Element) -> str:
    for item in case.iterfind("properties/property"):
        if item.get("name") == DRIVER:
            return item.get("value", "")
    parts = [part for part in case.get("classname", "").split(".") if not part.startswith("Test")]
    if len(parts) > 1 and parts[-1].startswith("test_"):
        parts.pop()
    return parts[-1] if parts else "?"
