"""The kits find what is wrong: drivers that break a contract once fail in the test meant for it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.kit import judge

if TYPE_CHECKING:
    from support.kit import Outcome

pytestmark = pytest.mark.root

SUBJECTS = Path(__file__).with_name("subjects")


def meant_in(module: Path) -> dict[str, tuple[str, str]]:
    """Return each broken driver's test that must fail, and what it must say."""
    found = {}
    for node in ast.parse(module.read_text()).body:
        for line in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(line, ast.Assign) and isinstance(line.value, ast.Tuple):
                test, said = ast.literal_eval(line.value)
                found[node.name] = (test, said)  # type: ignore[union-attr]
    return found


MEANT = {kind: meant_in(SUBJECTS / f"{kind}_subjects.py") for kind in ("network",)}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Outcome]]:
    """Run each broken driver's test, one process for each kind."""
    folder = tmp_path_factory.mktemp("kits")
    return {
        kind: judge(
            SUBJECTS / f"{kind}_subjects.py",
            folder,
            *(f"{name}::{test}" for name, (test, _) in meant.items()),
        )
        for kind, meant in MEANT.items()
    }


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, meant in MEANT.items() for name in meant]
)
def test_a_broken_driver_fails_where_it_is_meant_to(
    outcomes: dict[str, dict[str, Outcome]], kind: str, name: str
) -> None:
    """The test that looks for it fails, and says what is wrong."""
    test, said = MEANT[kind][name]
    outcome = outcomes[kind][f"{name}::{test}"]
    assert outcome.failed, f"{test} has not noticed: {outcome}"
    assert re.search(said, outcome.text, re.DOTALL), outcome.text
