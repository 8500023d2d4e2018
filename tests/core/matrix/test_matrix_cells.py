"""Cells of the matrix: a command on this host, its JUnit file, and the table of it all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pannier.matrix import cells
from pannier.matrix.cells import Cell, Outcome, parse_cell, read_junit, run_cell
from pannier.matrix.kernels import HOST
from pannier.matrix.machine import Groups
from pannier.matrix.table import as_json, render

if TYPE_CHECKING:
    from pathlib import Path

TESTS = """
import pytest

@pytest.fixture(autouse=True)
def driver(request):
    request.node.user_properties.append(("driver", "storage mine"))

def test_good(): pass
def test_other(): pass
def test_bad(): assert False
def test_not_here(): pytest.skip("no such mechanism")
"""


@pytest.mark.parametrize(
    ("text", "cell", "name"),
    [
        ("host", Cell(HOST), "host"),
        ("6.1", Cell("6.1", Groups.V2), "6.1"),
        ("6.1:v1", Cell("6.1", Groups.V1), "6.1 v1"),
        ("6.12:hybrid", Cell("6.12", Groups.HYBRID), "6.12 hybrid"),
    ],
)
def test_a_cell_is_a_kernel_and_a_layout(text: str, cell: Cell, name: str) -> None:
    """The second version is what is meant where nothing is said."""
    assert parse_cell(text) == cell
    assert cell.name == name


def test_a_layout_that_there_is_not() -> None:
    """It is refused, not taken for the default."""
    with pytest.raises(ValueError, match="v3"):
        parse_cell("6.1:v3")


def test_pytest_on_this_host(tmp_path: Path) -> None:
    """Its tests are counted by the driver that they name."""
    (tmp_path / "test_it.py").write_text(TESTS)
    options = ("-q", "-p", "no:cacheprovider", "-c", "/dev/null", f"--rootdir={tmp_path}")
    command = (sys.executable, "-m", "pytest", *options, str(tmp_path / "test_it.py"))
    outcome = run_cell(Cell(HOST), command, tmp_path / "out", 120)
    assert (outcome.status, outcome.good, outcome.failure) == (1, False, "")
    (tally,) = outcome.rows.values()
    assert (tally.passed, tally.failed) == (2, 1)
    assert dict(tally.reasons) == {"no such mechanism": 1}
    assert list(outcome.rows) == ["storage mine"]


def test_another_command_writes_its_own_file(tmp_path: Path) -> None:
    """Where to is in its environment; without a file there are no rows, only a status."""
    case = (
        '<testsuites><testsuite><testcase classname="a.b.test_c.TestD"/></testsuite></testsuites>'
    )
    script = f"echo '{case}' > \"${cells.VARIABLE}\"; exit 3"
    outcome = run_cell(Cell(HOST), ("sh", "-c", script), tmp_path, 60)
    assert outcome.status == 3
    assert str(outcome.rows["b"]) == "1 passed"
    assert run_cell(Cell(HOST), ("true",), tmp_path, 60).rows == {}


def test_what_keeps_a_cell_from_a_status(tmp_path: Path) -> None:
    """A command that hangs or is not there; a kernel that is not there."""
    hung = run_cell(Cell(HOST), ("sleep", "1000"), tmp_path, 0.2)
    missing = run_cell(Cell(HOST), ("/no/such/program",), tmp_path, 60)
    unknown = run_cell(Cell("2.4"), ("true",), tmp_path, 60)
    assert [one.status for one in (hung, missing, unknown)] == [None, None, None]
    assert "did not end" in hung.failure
    assert "/no/such/program" in missing.failure
    assert "no kernel '2.4' (kernels: host, 6.1, 6.12" in unknown.failure


def test_a_half_written_file_counts_for_nothing(tmp_path: Path) -> None:
    """As a machine leaves it that goes down."""
    (tmp_path / "junit.xml").write_text("<testsuites><testsuite>")
    assert read_junit(tmp_path / "junit.xml") == {}


def outcomes(tmp_path: Path) -> list[Outcome]:
    """Return a matrix of three kernels and two drivers."""
    file = tmp_path / "junit.xml"
    file.write_text(
        """<testsuites><testsuite>
        <testcase classname="one.test_x"/>
        <testcase classname="two.test_x"><skipped message="no nf_tables"/></testcase>
        <testcase classname="two.test_x"><skipped message="no nf_tables"/></testcase>
        </testsuite></testsuites>"""
    )
    rows = read_junit(file)
    file.write_text(
        """<testsuites><testsuite><testcase classname="one.test_x"/>
        <testcase classname="one.test_x"><failure/></testcase>
        <testcase classname="one.test_x"><error/></testcase></testsuite></testsuites>"""
    )
    return [
        Outcome(Cell(HOST), 0, rows),
        Outcome(Cell("6.1", Groups.V1), 1, read_junit(file)),
        Outcome(Cell("6.12"), None, {}, "the machine went down:\nKernel panic"),
    ]


def test_the_table(tmp_path: Path) -> None:
    """Rows are drivers, columns kernels; what went wrong with a kernel stands below."""
    assert render(outcomes(tmp_path)) == (
        "DRIVER       host                          6.1 v1              6.12\n"
        "one          1 passed                      2 failed, 1 passed  -\n"
        "two          not applicable: no nf_tables  -                   -\n"
        "exit status  0                             1                   none\n"
        "\n"
        "6.12: the machine went down:\nKernel panic\n"
    )


def test_the_same_for_machines(tmp_path: Path) -> None:
    """One object a kernel, with every reason."""
    first, _, last = as_json(outcomes(tmp_path))
    assert first["Drivers"]["two"] == {
        "Passed": 0,
        "Failed": 0,
        "NotApplicable": {"no nf_tables": 2},
    }
    assert (last["Kernel"], last["Status"], last["Drivers"]) == ("6.12", None, {})
