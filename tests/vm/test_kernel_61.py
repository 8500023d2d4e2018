"""The cgroup v2 driver under a Debian 6.1 kernel, in a virtual machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

BOOT = Path(__file__).with_name("boot.py")
ROOT = BOOT.parents[2]

pytestmark = [
    pytest.mark.vm,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        not Path(sys.executable).with_name("vng").exists() and shutil.which("vng") is None,
        reason="needs virtme-ng: pip install virtme-ng",
    ),
]


def boot(output: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a guest."""
    return subprocess.run(
        [sys.executable, BOOT, "--output", output, "--timeout", "2000", "--", *command],
        cwd=ROOT,
        check=False,
        timeout=2200,
        capture_output=True,
        text=True,
    )


def test_cgroup_v2_works_under_linux_6_1(tmp_path: Path) -> None:
    """Every test that asks the kernel runs there; none is skipped, and none fails."""
    tests = ("tests/plugins/cgroup_v2", "tests/core/linux/test_bpf.py")
    pytest_options = (
        "-q",
        "-m",
        "root",
        "-p",
        "no:cacheprovider",
        f"--junit-xml={tmp_path}/junit.xml",
    )
    done = boot(tmp_path, "python", "-m", "pytest", *pytest_options, *tests)
    assert done.returncode == 0, done.stdout + done.stderr
    (suite,) = ET.parse(tmp_path / "junit.xml").getroot()
    counts = {name: int(suite.get(name, "-1")) for name in ("errors", "failures", "skipped")}
    assert counts == {"errors": 0, "failures": 0, "skipped": 0}
    assert int(suite.get("tests", "0")) > 20


def test_the_commands_status_is_passed_on(tmp_path: Path) -> None:
    """What the command returns in the guest is what the program returns here, with its output."""
    done = boot(tmp_path, "sh", "-c", "uname -r; exit 7")
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith("6.1.")
