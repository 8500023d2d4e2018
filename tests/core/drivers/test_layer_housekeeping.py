"""When the layer stores' thread removes and marks, and when it stands back."""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pannier.drivers import layer_housekeeping
from pannier.drivers.layer_housekeeping import Housekeeper
from pannier.linux.trees import DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONG = 3600.0


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note when the disk is waited for, which may take long on a busy machine."""
    calls: list[int] = []
    monkeypatch.setattr(layer_housekeeping, "syncfs", calls.append)
    return calls


@pytest.fixture
def trash(tmp_path: Path) -> Iterator[int]:
    """Give a descriptor of the trash, in which a tree lies."""
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    descriptor = os.open(tmp_path, DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def keeper(trash: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Housekeeper]:
    """Give a keeper that would stand back for an hour, on a disk with room."""
    monkeypatch.setattr(layer_housekeeping, "_FULL", 0.0)
    made = Housekeeper(trash, patience=_LONG)
    yield made
    made.close()


def test_what_is_removed_meanwhile_waits_for_the_layer(keeper: Housekeeper, tmp_path: Path) -> None:
    """And goes when it is made, though the next layer may follow at once."""
    marked = threading.Event()
    with keeper.standing_back():
        keeper.remove(b"tree")
        keeper.sync(marked.set)
        with keeper.standing_back():
            pass
        assert (tmp_path / "tree" / "inner").is_dir()
        assert not marked.is_set()
    assert marked.wait(60)
    assert not (tmp_path / "tree").exists()


def test_layers_that_follow_one_another_wait_for_the_disk_once(
    keeper: Housekeeper, synced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit of the journal between them would hold up the second."""
    monkeypatch.setattr(layer_housekeeping, "_GRACE", _LONG)
    marked: list[str] = []
    for name in ("first", "second"):
        with keeper.standing_back():
            assert synced == []
            keeper.sync(functools.partial(marked.append, name))
    keeper.settle()
    assert marked == ["first", "second"]
    assert len(synced) == 1


def test_nothing_stands_back_for_ever(trash: int, tmp_path: Path) -> None:
    """A layer that takes longer than the patience does not keep the trash."""
    keeper = Housekeeper(trash, patience=0.0)
    marked = threading.Event()
    with keeper.standing_back():
        keeper.remove(b"tree")
        keeper.sync(marked.set)
        assert marked.wait(60)
        assert not (tmp_path / "tree").exists()
    keeper.close()


class _Disk(NamedTuple):
    f_bavail: int
    f_blocks: int


def test_a_disk_that_is_nearly_full_needs_the_room(
    trash: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layer itself may be what needs it."""
    monkeypatch.setattr(os, "fstatvfs", lambda _descriptor: _Disk(9, 100))
    keeper = Housekeeper(trash, patience=_LONG)
    marked = threading.Event()
    with keeper.standing_back():
        keeper.remove(b"tree")
        keeper.sync(marked.set)
        assert marked.wait(60)
        assert not (tmp_path / "tree").exists()
    keeper.close()


def test_who_settles_waits_for_no_layer(keeper: Housekeeper, tmp_path: Path) -> None:
    """And the tasks are done when it returns."""
    with keeper.standing_back():
        keeper.remove(b"tree")
        keeper.settle()
        assert not (tmp_path / "tree").exists()


def test_closing_waits_for_no_layer(
    keeper: Housekeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task under way is finished; the rest is left to the next one."""
    waiting, marked = threading.Event(), threading.Event()

    def measure(_descriptor: int) -> _Disk:
        waiting.set()
        return _Disk(100, 100)

    monkeypatch.setattr(os, "fstatvfs", measure)
    with keeper.standing_back():
        keeper.sync(marked.set)
        keeper.remove(b"tree")
        assert waiting.wait(60)
        keeper.close()
    assert marked.is_set()
    assert (tmp_path / "tree" / "inner").is_dir()
