"""The kits of networks, resources, runtimes and logs find each of many wrong drivers out.

That right drivers pass is shown by the built-in ones, in ``tests/plugins``.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from support.kit_runs import SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from support.kit_runs import Run

pytestmark = pytest.mark.root

SOUND = {
    "network": ("test_the_namespace_is_one_of_three_kinds",),
    "resources": (
        "test_names_that_lead_elsewhere_are_refused",
        "test_what_is_available_was_declared",
    ),
    "runtime": ("test_describing_does_nothing", "test_unknown_containers_are_not_found"),
    "log": (
        "test_the_options_of_a_container_are_checked",
        "test_the_form_is_one_that_can_be_kept",
        "test_senseless_limits_are_refused",
    ),
}
"""Of these every one of them passes one, so that it is not for another reason that it fails."""


def meant_in(kind: str) -> dict[str, tuple[str, str]]:
    """Return of each broken driver the test that is meant for its fault, and what that must say."""
    found: dict[str, tuple[str, str]] = {}
    for node in ast.parse((SUBJECTS / f"{kind}.py").read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            (line,) = (one for one in node.body if isinstance(one, ast.Assign))
            found[node.name] = ast.literal_eval(line.value)
    return found


MEANT = {kind: meant_in(kind) for kind in SOUND}


@pytest.fixture(scope="module")
def outcomes(kit: Callable[[str, Iterable[str]], Run]) -> dict[str, Run]:
    """Run on each broken driver the test that is meant for it, and the sound ones."""
    return {
        kind: kit(
            f"{kind}.py",
            [
                f"{name}::{test}"
                for name, (meant, _) in MEANT[kind].items()
                for test in (meant, *SOUND[kind])
            ],
        )
        for kind in MEANT
    }


@pytest.mark.parametrize(
    ("kind", "broken"), [(kind, broken) for kind, found in MEANT.items() for broken in found]
)
def test_a_wrong_driver_is_found_out(outcomes: dict[str, Run], kind: str, broken: str) -> None:
    """It fails the test that is meant for its fault, which says what it is; another it passes."""
    test, said = MEANT[kind][broken]
    outcome = outcomes[kind][broken, test]
    assert outcome.kind == "failed"
    assert re.search(said, outcome.text, re.DOTALL), outcome.text
    assert "passed" in {outcomes[kind][broken, sound].kind for sound in SOUND[kind]}


def test_there_are_enough_of_them() -> None:
    """A class that is added without saying what it is meant for is not passed over."""
    assert {kind: len(found) for kind, found in MEANT.items()} == {
        "network": 27,
        "resources": 20,
        "runtime": 31,
        "log": 28,
    }
