"""The storage kit lets a right driver pass, and finds each of many wrong ones out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from support.kit_runs import Run

pytestmark = pytest.mark.root

FILE = "storage.py"
MEANT = {
    "TestLosesAWhiteout": "test_a_whiteout_hides_a_file",
    "TestForgetsAnOpaqueFolder": "test_an_opaque_folder_hides_what_it_had",
    "TestLosesHardLinks": "test_hard_links_share_one_file",
    "TestDropsAttributes": "test_file_capabilities_are_kept",
    "TestForgetsOwners": "test_owners_are_kept",
    "TestCutsTimes": "test_modification_times_are_kept",
    "TestLeaksAMount": "test_an_empty_container_has_an_empty_root",
    "TestLeaksADescriptor": "test_a_whiteout_hides_a_file",
    "TestLeavesFiles": "test_an_empty_container_has_an_empty_root",
    "TestSharesAWritableLayer": "test_containers_do_not_share_a_writable_layer",
    "TestWritesToTheImage": "test_an_opened_layer_is_read_only",
    "TestGivesAFolderForAMount": "test_a_root_is_a_detached_mount",
    "TestSecondRemoveRaises": "test_removing_a_container",
    "TestForgetsAtReopen": "test_what_is_written_is_found_again",
    "TestMakesHalfALayer": "test_a_kill_while_a_layer_is_read_leaves_nothing",
    "TestRemovesAParentInUse": "test_a_layer_in_use_is_not_removed",
    "TestWritesAnotherDiffEachTime": "test_a_diff_is_deterministic",
    "TestDeclaresWhatItHasNot": "test_an_id_map_shows_files_as_the_mapped_ids",
    "TestIgnoresALimit": "test_a_size_limit_holds",
    "TestRefusesALimitRudely": "test_a_size_limit_holds",
    "TestRefusesWithoutAHint": "test_an_id_map_is_refused",
    "TestActsWhenItPlans": "test_plans_do_nothing_until_they_are_executed",
    "TestUndoesTooMuch": "test_a_plan_that_is_undone_takes_its_own_layer_back",
    "TestFailsWithoutAName": "test_a_full_disk_leaves_no_half_container",
    "TestDiesHalfWay": "test_a_kill_anywhere_leaves_a_whole_container_or_none",
    "TestTrustsNames": "test_a_hostile_archive_reaches_nothing_outside",
    "TestCountsTheLayersBelow": "test_usage_is_the_layers_own",
}
"""Of each broken driver the test that is meant for what is wrong with it."""

SOUND = "test_layers_are_listed"
"""A test that every one of them passes, so that it is not for another reason that they fail."""

LIMIT = "test_a_size_limit_holds"


@pytest.fixture(scope="module")
def outcomes(kit: Callable[[str, Iterable[str]], Run]) -> Run:
    """Run the whole kit on the reference driver, and on each broken one its own test."""
    selected = ["TestReference", f"TestRefusesALimitHere::{LIMIT}"]
    for broken, test in MEANT.items():
        selected += [f"{broken}::{test}", f"{broken}::{SOUND}"]
    return kit(FILE, selected)


def test_a_right_driver_passes(outcomes: Run) -> None:
    """The whole kit passes; only what the driver does not declare, or declares, is skipped."""
    of_reference = {
        test: outcome for (cls, test), outcome in outcomes.items() if cls == "TestReference"
    }
    assert len(of_reference) > 80
    assert {test: item for test, item in of_reference.items() if item.kind == "failed"} == {}
    skipped = {item.text for item in of_reference.values() if item.kind == "skipped"}
    assert skipped == {
        "not applicable: the driver does not declare idmap",
        "not applicable: the driver declares external-rootfs",
        "not applicable: the driver declares size-limit",
    }


def test_a_filesystem_may_have_no_limits(outcomes: Run) -> None:
    """A driver that declares them, and refuses one with a hint, is not at fault."""
    outcome = outcomes["TestRefusesALimitHere", LIMIT]
    assert (outcome.kind, outcome.text) == (
        "skipped",
        "not applicable: no limits can be kept on this filesystem",
    )


@pytest.mark.parametrize("broken", sorted(MEANT))
def test_a_wrong_driver_is_found_out(outcomes: Run, broken: str) -> None:
    """It fails the test that is meant for its fault, and not every test."""
    assert outcomes[broken, MEANT[broken]].kind == "failed"
    assert outcomes[broken, SOUND].kind == "passed"


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ("TestLeaksAMount", "mount: "),
        ("TestLeaksADescriptor", "descriptor: "),
        ("TestLeavesFiles", "file: "),
    ],
)
def test_a_leak_is_named(outcomes: Run, broken: str, kind: str) -> None:
    """The report says what was left behind."""
    text = outcomes[broken, MEANT[broken]].text
    assert "the driver leaves behind:" in text
    assert kind in text
