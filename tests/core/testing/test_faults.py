"""The faults that the kit injects happen where they are meant to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import DriverContext
from pannier.drivers.operations import Action, Plan, Step
from pannier.testing import Opened
from pannier.testing.faults import (
    count_lines,
    die,
    fill,
    free_bytes,
    kill_after_operations,
    kill_at_line,
    killed,
    small_filesystem,
    spread,
)
from support.reference_storage import ReferenceStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened[ReferenceStorage]]:
    """Give a driver."""
    context = DriverContext(tmp_path / "root", tmp_path / "state")
    for folder in (context.root, context.state):
        folder.mkdir()
    opened = Opened(ReferenceStorage, context)
    yield opened
    opened.driver.close()


def test_a_child_is_killed_where_it_says(opened: Opened[ReferenceStorage]) -> None:
    """What it did before is there, what it would have done after is not."""

    def work(driver: ReferenceStorage) -> None:
        (driver.state / "before").touch()
        die()
        (driver.state / "after").touch()

    first = opened.driver
    assert killed(opened, work)
    assert os.listdir(opened.context.state) == ["before"]  # noqa: PTH208 - names
    assert opened.driver is not first
    assert not killed(opened, lambda driver: (driver.state / "whole").touch())


def test_what_a_child_raises_is_told(opened: Opened[ReferenceStorage]) -> None:
    """With its traceback; that is no kill."""
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        killed(opened, lambda _: 1 // 0)


def test_a_plan_is_cut_after_each_of_its_operations(opened: Opened[ReferenceStorage]) -> None:
    """Once before the first, between any two, and before its result is taken."""
    state = opened.context.state

    def plan(driver: ReferenceStorage) -> Plan[None]:
        actions = [Action(Step("touch", name), (driver.state / name).touch) for name in "abc"]
        return Plan("reference", [*actions], (driver.state / "result").touch)

    seen = []
    for count in range(5):
        for path in state.iterdir():
            path.unlink()
        again = kill_after_operations(opened, plan, count)
        seen.append(("".join(sorted(path.name for path in state.iterdir())), again))
    assert seen == [
        ("", True),
        ("a", True),
        ("ab", True),
        ("abc", True),
        ("abcresult", False),
    ]


def test_lines_of_the_driver_are_counted_and_cut(opened: Opened[ReferenceStorage]) -> None:
    """Only the driver's and Pannier's own lines; a line beyond the last kills nobody."""

    def work(driver: ReferenceStorage) -> None:
        driver.keep(driver.stage(), "layers", driver.record("a"))

    count = count_lines(opened, work)
    assert 10 < count < 200
    assert opened.driver.has_layer("a")
    opened.driver.remove_layer("a")
    assert kill_at_line(opened, work, 0)
    assert not opened.driver.has_layer("a")
    assert kill_at_line(opened, work, count - 1)
    opened.driver.remove_layer("a")
    assert not kill_at_line(opened, work, count)


def test_points_are_spread() -> None:
    """From the first to the last, no more than asked for."""
    assert spread(3, 10) == [0, 1, 2]
    assert spread(101, 5) == [0, 25, 50, 75, 100]
    assert spread(0, 5) == []


def test_a_small_filesystem_is_filled_and_emptied(tmp_path: Path) -> None:
    """To the last byte, for a while; it is unmounted at the end."""
    with small_filesystem(tmp_path / "small", 1 << 20) as folder:
        room = free_bytes(folder)
        assert 0 < room <= 1 << 20
        with fill(folder):
            assert free_bytes(folder) == 0
            with pytest.raises(OSError, match="No space"):
                (folder / "more").write_bytes(b"x")
        (folder / "more").unlink(missing_ok=True)
        assert free_bytes(folder) == room
    assert list((tmp_path / "small").iterdir()) == []
