"""Transactions: plans succeed as a whole or leave nothing behind."""

from __future__ import annotations

import os

import pytest

from pannier.drivers.operations import Action, Opening, Plan, Step, Timing, Transaction


class Diary:
    """Remembers what operations did, and is a recorder."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.timings: list[tuple[str, Timing]] = []

    def plan(self, driver: str, *names: str, failing: str = "") -> Plan[str]:
        """Return a plan whose operations write into the diary."""

        def do(name: str) -> None:
            self.lines.append(f"do {name}")
            if name == failing:
                raise RuntimeError(name)

        operations = [
            Action(
                Step("do", name),
                lambda name=name: do(name),  # type: ignore[misc]
                lambda name=name: self.lines.append(f"undo {name}"),  # type: ignore[misc]
            )
            for name in names
        ]
        return Plan(driver, list(operations), lambda: "-".join(names))

    def record(self, driver: str, timing: Timing) -> None:
        """Remember a timing."""
        self.timings.append((driver, timing))


def test_plans_run_in_order_and_give_their_results() -> None:
    """Each plan's result is computed after its last operation."""
    diary = Diary()
    transaction = Transaction()
    assert transaction.run(diary.plan("a", "1", "2")) == "1-2"
    assert transaction.run(diary.plan("b", "3")) == "3"
    assert diary.lines == ["do 1", "do 2", "do 3"]


def test_a_failure_undoes_everything_in_reverse() -> None:
    """The failing operation and the plans before it are undone, too."""
    diary = Diary()
    transaction = Transaction()
    transaction.run(diary.plan("a", "1", "2"))
    with pytest.raises(RuntimeError, match="4"):
        transaction.run(diary.plan("b", "3", "4", "5", failing="4"))
    assert diary.lines[4:] == ["undo 4", "undo 3", "undo 2", "undo 1"]


def test_a_failing_undo_does_not_keep_the_others_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, with the operation that could not be undone."""
    diary = Diary()
    transaction = Transaction()
    transaction.run(diary.plan("a", "1"))

    def fail() -> None:
        raise OSError("stuck")

    transaction.run(Plan("b", [Action(Step("hold", "x"), lambda: None, fail)], lambda: None))
    transaction.rollback()
    assert diary.lines == ["do 1", "undo 1"]
    assert "hold" in caplog.text


def test_a_second_rollback_does_nothing() -> None:
    """Undoing happens once."""
    diary = Diary()
    transaction = Transaction()
    transaction.run(diary.plan("a", "1"))
    transaction.rollback()
    transaction.rollback()
    assert diary.lines == ["do 1", "undo 1"]


def test_a_recorder_is_told_every_step_with_its_driver() -> None:
    """The times of a step do not run backwards."""
    diary = Diary()
    Transaction(diary).run(diary.plan("a", "1", "2"))
    assert [(driver, timing.step.subject) for driver, timing in diary.timings] == [
        ("a", "1"),
        ("a", "2"),
    ]
    assert all(timing.begin <= timing.end for _, timing in diary.timings)


def test_describing_a_plan_does_nothing() -> None:
    """``--explain`` relies on it."""
    diary = Diary()
    assert [str(step) for step in diary.plan("a", "1", "2").describe()] == ["do 1", "do 2"]
    assert diary.lines == []


def test_an_opening_hands_its_descriptor_over() -> None:
    """From then on it is the caller's: neither an undo nor a rollback closes it."""
    opening = Opening([Step("open", "null")], lambda: os.open(os.devnull, os.O_RDONLY))
    assert opening.describe() == [Step("open", "null")]
    transaction = Transaction()
    descriptor = transaction.run(Plan("a", [opening], opening.take))
    transaction.rollback()
    opening.undo()
    os.close(descriptor)


def test_an_opening_that_is_undone_closes_its_descriptor() -> None:
    """Once; before it was executed there is nothing to close."""
    opened: list[int] = []

    def open_null() -> int:
        opened.append(os.open(os.devnull, os.O_RDONLY))
        return opened[-1]

    opening = Opening([Step("open", "null")], open_null)
    opening.undo()
    opening.execute()
    for _ in range(2):
        opening.undo()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
