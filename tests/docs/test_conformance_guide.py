"""The guide to the conformance kit: its example runs, and what it names is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pannier.testing
from pannier.testing import StorageConformance
from pannier.testing.base import rule_of

TESTS = Path(__file__).parent.parent
GUIDE = (TESTS.parent / "docs" / "conformance.md").read_text(encoding="utf-8")

PACKAGE = """
from pannier.drivers import NoConfig as MyConfig
from pannier_log_syslog.driver import Syslog, SyslogConfig as MyLogConfig
from support.reference_storage import ReferenceStorage as MyStorage


class MyLog(Syslog):
    def check(self, options):
        super().check(translated(options))

    def form(self, options):
        return super().form(translated(options))

    def open(self, source, options):
        return super().open(source, translated(options) | {"tag": "{{.Name}}"})


def translated(options):
    return {"syslog-address" if name == "address" else name: options[name] for name in options}
"""

SERVER = """
import socket

from support.syslog import Server as SyslogServer


def Server(path):
    return SyslogServer(path, socket.SOCK_STREAM)
"""


@pytest.mark.root
def test_the_examples_run(tmp_path: Path) -> None:
    """As they stand there, for drivers of those names."""
    storage, log = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "my_package.py").write_text(PACKAGE, encoding="utf-8")
    (tmp_path / "my_tests.py").write_text(SERVER, encoding="utf-8")
    (tmp_path / "test_my_storage.py").write_text(storage, encoding="utf-8")
    (tmp_path / "test_my_log.py").write_text(log, encoding="utf-8")
    selected = "test_a_layer_lies_over_its_parent or TestMyLog"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", selected],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{TESTS}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^(\d+) passed, \d+ skipped, ", done.stdout, re.MULTILINE)
    assert passed is not None, done.stdout
    assert int(passed[1]) > 20


def test_every_kit_is_named() -> None:
    """The table has each class that the package exports."""
    kits = [name for name in pannier.testing.__all__ if name.endswith("Conformance")]
    for name in kits:
        if name != "Conformance":
            assert f"`pannier.testing.{name}`" in GUIDE


def test_tests_that_are_named_are_there() -> None:
    """In one kit or another; and the one that is listed as a gap may be one."""
    kits = [getattr(pannier.testing, name) for name in pannier.testing.__all__ if name in GUIDE]
    named = set(re.findall(r"\btest_\w+(?![\w.])", GUIDE))
    assert named
    for name in named:
        assert any(hasattr(kit, name) for kit in kits), name
    assert not rule_of(StorageConformance.test_holes_stay_holes).mandatory
