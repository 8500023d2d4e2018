"""Another kernel in a virtual machine: cgroup v2 under Debian's 6.1, and what goes wrong."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

LIMITS = "tests/e2e/test_limits.py::"
V2 = (
    "tests/plugins/cgroup_v2",
    "tests/core/linux/test_bpf.py",
    # Whole containers, of a daemon's.
    f"{LIMITS}test_memory_beyond_the_limit_is_killed",
    f"{LIMITS}test_processes_beyond_the_limit_cannot_be_made",
    f"{LIMITS}test_the_group_goes_with_the_container",
)
"""What CI runs under another kernel: the driver's own tests, the kit's, and some end to end."""


def missing() -> str:
    """Say what this machine lacks to boot another; nothing where it has all."""
    if platform.machine() != "x86_64":
        return "the kernels that are booted are for x86-64: run these tests on such a machine"
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    wanted = {
        "vng": "pip install virtme-ng",
        "qemu-system-x86_64": "apt-get install qemu-system-x86",
        "depmod": "apt-get install kmod",
        "mkfs.ext4": "apt-get install e2fsprogs",
        "file": "apt-get install file",
        "busybox": "apt-get install busybox-static",
        "apt-get": "run these tests on Debian, whose kernels are booted",
    }
    lacking = [name for name in wanted if shutil.which(name, path=search) is None]
    return "; ".join(f"needs {name}: {wanted[name]}" for name in lacking)


pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(missing()), reason=missing()),
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
    row: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if row["Status"] == 0 else 1), done.stdout + done.stderr
    return row


def test_cgroup_v2_works_under_linux_6_1(tmp_path: Path) -> None:
    """Every test that asks the kernel runs there; none that applies is skipped, and none fails."""
    options = ("-q", "-m", "root", "-p", "no:cacheprovider", "--timeout", "1800")
    row = matrix(tmp_path, "6.1", "python", "-m", "pytest", *options, *V2)
    console = (tmp_path / "6.1" / "console.log").read_text()
    assert row["Status"] == 0, console
    (suite,) = ET.parse(tmp_path / "6.1" / "junit.xml").getroot()
    counts = {name: int(suite.get(name, "-1")) for name in ("errors", "failures")}
    assert counts == {"errors": 0, "failures": 0}
    # The conformance kit's tests for drivers that declare, or lack, something else.
    skips = {skip.get("message", "") for skip in suite.iter("skipped")}
    assert {reason for reason in skips if not reason.startswith("not applicable: ")} == set()
    passed = {name: counts["Passed"] for name, counts in row["Drivers"].items()}
    assert passed["cgroup_v2"] > 50
    assert passed["e2e"] == 3
    assert "Linux version 6.1." in (tmp_path / "6.1" / "kernel.log").read_text(errors="replace")


@pytest.mark.matrix
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


@pytest.mark.matrix
def test_a_guest_that_hangs_is_a_failure(tmp_path: Path) -> None:
    """It is ended after the time limit, with its console shown."""
    row = matrix(tmp_path, "6.1", "sleep", "1000", timeout=60)
    assert row["Status"] is None
    assert "did not end within 60 s" in row["Failure"]
