"""Another kernel in a virtual machine: cgroup v2 under Debian's 6.1, and what goes wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        not Path(sys.executable).with_name("vng").exists() and shutil.which("vng") is None,
        reason="needs virtme-ng: pip install virtme-ng",
    ),
]


def matrix(output: Path, kernels: str, *command: str, timeout: int = 2000) -> dict[str, Any]:
    """Run a command in a guest; return the cell's row."""
    program = str(Path(sys.executable).with_name("pannier"))
    options = ["--output", str(output), "--timeout", str(timeout), "--format", "json"]
    done = subprocess.run(
        [program, "matrix", "--kernels", kernels, *options, "--", *command],
        cwd=ROOT,
        check=False,
        timeout=timeout + 200,
        capture_output=True,
        text=True,
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (0 if row["Status"] == 0 else 1), done.stdout + done.stderr
    return row


def test_cgroup_v2_works_under_linux_6_1(tmp_path: Path) -> None:
    """Every test that asks the kernel runs there; none that applies is skipped, and none fails."""
    tests = ("tests/plugins/cgroup_v2", "tests/core/linux/test_bpf.py")
    options = ("-q", "-m", "root", "-p", "no:cacheprovider")
    row = matrix(tmp_path, "6.1", "python", "-m", "pytest", *options, *tests)
    console = (tmp_path / "6.1" / "console.log").read_text()
    assert row["Status"] == 0, console
    (suite,) = ET.parse(tmp_path / "6.1" / "junit.xml").getroot()
    counts = {name: int(suite.get(name, "-1")) for name in ("errors", "failures")}
    assert counts == {"errors": 0, "failures": 0}
    # The conformance kit's tests for drivers that declare, or lack, something else.
    skips = {skip.get("message", "") for skip in suite.iter("skipped")}
    assert {reason for reason in skips if not reason.startswith("not applicable: ")} == set()
    assert row["Drivers"]["cgroup_v2"]["Passed"] > 20
    assert "Linux version 6.1." in (tmp_path / "6.1" / "kernel.log").read_text(errors="replace")


@pytest.mark.parametrize(
    ("groups", "mounts"),
    [("v1", {"memory", "pids", "systemd"}), ("hybrid", {"memory", "pids", "systemd", "unified"})],
)
def test_control_groups_are_laid_out_as_asked(
    tmp_path: Path, groups: str, mounts: set[str]
) -> None:
    """Each controller in a tree of its own, and in a hybrid one tree of the second version."""
    script = "ls /sys/fs/cgroup; uname -r; exit 7"
    row = matrix(tmp_path, f"6.1:{groups}", "sh", "-c", script)
    said = (tmp_path / f"6.1-{groups}" / "console.log").read_text().split()
    assert row["Status"] == 7
    assert mounts <= set(said)
    assert ("unified" in said) == (groups == "hybrid")


def test_a_panic_is_a_failure_with_its_console(tmp_path: Path) -> None:
    """The cell has no status, and says the end of the kernel's log."""
    script = "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 1000"
    row = matrix(tmp_path, "6.1", "sh", "-c", script)
    assert row["Status"] is None
    assert "the machine went down" in row["Failure"]
    assert "Kernel panic" in row["Failure"]


def test_a_guest_that_hangs_is_a_failure(tmp_path: Path) -> None:
    """It is ended after the time limit, with its console shown."""
    row = matrix(tmp_path, "6.1", "sleep", "1000", timeout=60)
    assert row["Status"] is None
    assert "did not end within 60 s" in row["Failure"]
