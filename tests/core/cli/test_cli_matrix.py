"""``pannier matrix``: what it prints, and its exit status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_command(cli: Callable[..., Any], tmp_path: Path) -> None:
    """It prints the table, and its status says whether all is well."""
    words = ("matrix", "--kernels", "host", "--output", str(tmp_path))
    good = cli(*words, "--", "true")
    assert good.status == 0
    assert good.out.splitlines() == ["DRIVER       host", "exit status  0"]
    bad = cli(*words, "--format", "json", "--", "sh", "-c", "exit 5")
    assert bad.status == 1
    assert json.loads(bad.out)["Status"] == 5


@pytest.mark.parametrize(
    ("kernels", "said"),
    [("2.4", "no kernel '2.4'"), ("6.1:v3", "v1, v2 or hybrid"), ("", "names none")],
)
def test_a_wrong_kernel_is_a_usage_error(cli: Callable[..., Any], kernels: str, said: str) -> None:
    """Said before anything is booted."""
    outcome = cli("matrix", "--kernels", kernels, "--", "true")
    assert outcome.status == 125
    assert said in outcome.err
