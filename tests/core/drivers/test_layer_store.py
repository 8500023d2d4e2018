"""What the folders of a storage driver survive."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import IdMap, IdMapping
from pannier.drivers.layer_store import ContainerRecord, LayerRecord, LayerStore
from pannier.drivers.storage import Usage
from pannier.errors import NotFound
from pannier.linux.trees import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

USAGE = Usage(1, 2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LayerStore]:
    """Give a store with a layer and a container."""
    opened = LayerStore(tmp_path)
    with opened.stage() as staged:
        (staged / "diff").mkdir()
        opened.commit_layer(staged, "sha256:a", LayerRecord(None, USAGE))
    with opened.stage() as staged:
        opened.commit_container(staged, "box", ContainerRecord("sha256:a"))
    yield opened
    opened.close()


def reopened(store: LayerStore) -> LayerStore:
    """Close a store and open its folder anew."""
    store.close()
    return LayerStore(store.root)


def test_records_are_found_again(store: LayerStore) -> None:
    """Usage, parents and id maps are the same after a re-open."""
    idmap = IdMap((IdMapping(0, 1, 2),), (IdMapping(3, 4, 5), IdMapping(6, 7, 8)))
    store.update_container("box", ContainerRecord("sha256:a", "/rootfs", idmap))
    again = reopened(store)
    assert again.layer("sha256:a") == LayerRecord(None, USAGE)
    assert again.container("box") == ContainerRecord("sha256:a", "/rootfs", idmap)
    again.close()


def test_a_layer_is_marked_once_it_is_on_the_disk(store: LayerStore) -> None:
    """Nobody waits for that; the mark comes some time after the layer."""
    store.settle()
    assert (store.layer_folder("sha256:a") / "synced").exists()


def test_a_layer_that_a_crash_of_the_host_cut_short_is_not_believed(store: LayerStore) -> None:
    """Without the mark, and of an earlier boot, its files may be empty."""
    store.settle()
    folder = store.layer_folder("sha256:a")
    (folder / "synced").unlink()
    again = reopened(store)
    assert again.has_layer("sha256:a")  # the same boot: only a process was killed
    again.settle()
    (folder / "synced").unlink()
    record = json.loads((folder / "layer.json").read_text())
    (folder / "layer.json").write_text(json.dumps(record | {"boot": "another"}))
    again = reopened(again)
    assert not again.has_layer("sha256:a")
    with pytest.raises(NotFound):
        again.lineage(again.container("box").parent)
    again.close()


def test_a_damaged_container_is_put_aside(store: LayerStore) -> None:
    """Its files are not lost, and the engine starts all the same."""
    folder = store.container_folder("box")
    (folder / "upper").mkdir()
    (folder / "upper" / "precious").touch()
    (folder / "container.json").write_bytes(b"")
    again = reopened(store)
    assert again.containers() == []
    assert list((store.root / "damaged").glob("box-*/upper/precious"))
    again.close()


def test_a_store_that_is_open_elsewhere_is_not_cleaned(store: LayerStore) -> None:
    """Another process' half-made layer is not taken for a leftover."""
    with store.stage() as staged:
        other = LayerStore(store.root)
        other.settle()
        assert staged.exists()
        other.close()


def test_a_staged_folder_that_is_not_committed_goes(store: LayerStore) -> None:
    """Whatever was raised meanwhile."""

    def fail() -> None:
        with store.stage() as staged:
            (staged / "folder").mkdir()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    store.settle()
    for name in ("staging", "trash"):
        assert list((store.root / name).iterdir()) == []


def test_the_second_of_two_equal_layers_is_thrown_away(store: LayerStore) -> None:
    """Two pulls of one image may unpack the same layer at the same time."""
    with store.stage() as staged:
        (staged / "diff" / "other").mkdir(parents=True)
        store.commit_layer(staged, "sha256:a", LayerRecord(None, Usage(9, 9)))
    assert store.layer("sha256:a").usage == USAGE
    assert not (store.layer_folder("sha256:a") / "diff" / "other").exists()


def test_a_driver_may_remove_folders_its_own_way(tmp_path: Path) -> None:
    """It is handed each folder in the trash, also those that an earlier process left there."""
    removed: list[bytes] = []

    def remove(name: bytes, dir_fd: int, *, between: Callable[[], None]) -> None:
        removed.append(name)
        remove_tree(name, dir_fd, between=between)

    LayerStore(tmp_path).close()
    (tmp_path / "trash" / "left").mkdir()
    store = LayerStore(tmp_path, remove)
    with store.stage() as staged:
        store.commit_container(staged, "box", ContainerRecord(None))
    store.remove_container("box")
    store.settle()
    store.close()
    assert removed[0] == b"left"
    assert len(removed) == 2
    assert not list((tmp_path / "trash").iterdir())


def test_a_full_filesystem_that_cannot_rename_can_still_be_cleared(
    store: LayerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is removed, or was staged and fails, is removed where it is, its record first."""

    def full(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path), None, str(target))

    store.settle()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="No space"), store.stage() as staged:
            store.commit_container(staged, "new", ContainerRecord("sha256:a"))
        store.remove_container("box")
        store.remove_layer("sha256:a")
    assert not list((store.root / "containers").iterdir())
    again = reopened(store)
    assert again.layers() == []
    assert again.containers() == []
    assert not list((again.root / "staging").iterdir())
    again.close()


def test_another_error_of_a_removal_is_told(
    store: LayerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the container is still there."""

    def broken(path: Path, target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path), None, str(target))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", broken)
        with pytest.raises(OSError, match="Input/output"):
            store.remove_container("box")
    assert store.containers() == ["box"]
