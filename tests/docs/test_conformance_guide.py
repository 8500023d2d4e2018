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
from support.reference_storage import ReferenceStorage as MyStorage
"""


@pytest.mark.root
def test_the_example_runs(tmp_path: Path) -> None:
    """As it stands there, for a driver of that name."""
    code = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert code is not None
    (tmp_path / "my_package.py").write_text(PACKAGE, encoding="utf-8")
    (tmp_path / "test_my_storage.py").write_text(code[1], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "test_a_layer_lies_over_its_parent"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{TESTS}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_every_kit_is_named() -> None:
    """The table has each class that the package exports."""
    kits = [name for name in pannier.testing.__all__ if name.endswith("Conformance")]
    for name in kits:
        if name != "Conformance":
            assert f"`pannier.testing.{name}`" in GUIDE


def test_tests_that_are_named_are_there() -> None:
    """And the one that is listed as a gap may be one."""
    named = set(re.findall(r"\btest_\w+", GUIDE))
    assert named
    for name in named:
        assert hasattr(StorageConformance, name)
    assert not rule_of(StorageConformance.test_holes_stay_holes).mandatory
