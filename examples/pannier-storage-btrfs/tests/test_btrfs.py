"""What is particular to btrfs: quotas, subvolumes inside containers, and what is shared."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
from pannier.drivers.base import DriverContext
from pannier.drivers.operations import Plan, Transaction
from pannier.drivers.storage import ContainerLayer, StorageDriver
from pannier.errors import DriverUnavailable, UnsupportedOperation

from loop import btrfs, run
from pannier_storage_btrfs import ioctls
from pannier_storage_btrfs.driver import BtrfsStorage, Config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAYER = "sha256:base"
MIB = 1 << 20


@pytest.fixture
def driver(on_btrfs: Path) -> Iterator[BtrfsStorage]:
    """Give the driver, whose trees are on btrfs and whose own folders are not."""
    with opened(on_btrfs) as found:
        yield found


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[BtrfsStorage]:
    """Give the driver on a folder for a while; all that it has is removed at the end."""
    driver = BtrfsStorage(context(folder), Config(folder=str(folder)))
    try:
        yield driver
    finally:
        for key in list(driver.containers()):
            driver.remove_container(key)
        for chain in reversed(list(driver.layers())):
            driver.remove_layer(chain)
        driver._store.settle()
        driver.close()


def context(folder: Path) -> DriverContext:
    """Return folders of the driver's own that need not be there."""
    return DriverContext(folder / "no-root", folder / "no-state")


def image(driver: StorageDriver, **files: bytes) -> str:
    """Make a layer of some files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    data.seek(0)
    driver.create_layer(LAYER, None, data)
    return LAYER


def create(driver: StorageDriver, key: str, size_limit: int | None = None) -> int:
    """Make a container of the image; return a descriptor of its root, which the caller closes."""
    layer = ContainerLayer(key, LAYER, size_limit=size_limit)
    Transaction().run(driver.plan_create_container(layer))
    plan: Plan[int] = driver.plan_open_root(key)
    return Transaction().run(plan)


# Where it works.


def test_another_filesystem_is_named(tmp_path: Path) -> None:
    """The probe says what the folder lacks, and where the folder is set."""
    run("mount", "-t", "tmpfs", "tmpfs", str(tmp_path))
    try:
        with pytest.raises(DriverUnavailable, match="does not lie on btrfs") as caught:
            BtrfsStorage.probe(context(tmp_path), Config(folder=str(tmp_path)))
        assert "[storage.btrfs]" in str(caught.value.hint)
        assert list(tmp_path.iterdir()) == []
    finally:
        run("umount", str(tmp_path))


@pytest.mark.parametrize(
    ("folder", "message"), [("/no/such/folder", "No such file"), ("srv", "no absolute path")]
)
def test_a_wrong_folder_is_named(tmp_path: Path, folder: str, message: str) -> None:
    """It is not made: the filesystem that should be there may not be mounted."""
    with pytest.raises(DriverUnavailable, match=message) as caught:
        BtrfsStorage.probe(context(tmp_path), Config(folder=folder))
    assert caught.value.hint


def test_a_read_only_filesystem_is_named(disk: Path, on_btrfs: Path, tmp_path: Path) -> None:
    """With the kernel's own words."""
    del disk
    run("mount", "--bind", "-o", "ro", str(on_btrfs), str(tmp_path))
    try:
        with pytest.raises(DriverUnavailable, match="Read-only file system"):
            BtrfsStorage.probe(context(tmp_path), Config(folder=str(tmp_path)))
    finally:
        run("umount", str(tmp_path))


def test_probing_leaves_nothing(on_btrfs: Path) -> None:
    """Neither the subvolume that was tried nor the snapshot of it."""
    BtrfsStorage.probe(context(on_btrfs), Config(folder=str(on_btrfs)))
    assert list(on_btrfs.iterdir()) == []


# What snapshots are for.


def test_containers_share_what_they_do_not_write(driver: BtrfsStorage, disk: Path) -> None:
    """Ten containers of an image take no more than the records of their snapshots."""
    image(driver, large=os.urandom(48 * MIB))
    before = free(disk)
    for number in range(10):
        os.close(create(driver, f"box{number}"))
    assert before - free(disk) < 8 * MIB


def free(disk: Path) -> int:
    """Return the bytes that are free once everything is written out."""
    run("btrfs", "filesystem", "sync", str(disk))
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def test_a_layer_is_read_only(driver: BtrfsStorage) -> None:
    """By the filesystem itself, whichever way one comes to it."""
    image(driver, file=b"x")
    tree = driver._layer_tree(LAYER)
    with pytest.raises(OSError, match="Read-only file system"):
        (tree / "new").touch()
    assert run("btrfs", "property", "get", str(tree), "ro") == "ro=true\n"


# Subvolumes in containers.


def test_subvolumes_that_a_container_made_go_with_it(driver: BtrfsStorage, disk: Path) -> None:
    """Also nested ones, and those that are read-only."""
    image(driver)
    before = subvolumes(disk)
    root = create(driver, "box")
    try:
        tree = driver._container_tree("box")
        for name in ("outer", "outer/inner", "outer/inner/innermost"):
            run("btrfs", "subvolume", "create", str(tree / name))
        (tree / "outer" / "inner" / "file").write_bytes(b"x")
        for name in ("outer/inner", "outer"):
            run("btrfs", "property", "set", str(tree / name), "ro", "true")
    finally:
        os.close(root)
    driver.remove_container("box")
    driver._store.settle()
    assert list((driver._store.root / "trash").iterdir()) == []
    assert subvolumes(disk) == before


def subvolumes(disk: Path) -> list[str]:
    """Return the path of every subvolume of the filesystem."""
    lines = run("btrfs", "subvolume", "list", str(disk)).splitlines()
    return [line.split()[-1] for line in lines]


def test_subvolumes_that_a_container_made_are_folders_of_its_layer(driver: BtrfsStorage) -> None:
    """They are changes, and their content is in what is committed."""
    image(driver)
    os.close(create(driver, "box"))
    tree = driver._container_tree("box")
    run("btrfs", "subvolume", "create", str(tree / "data"))
    (tree / "data" / "file").write_bytes(b"x")
    assert [f"{item.kind} {item.path}" for item in driver.changes("box")] == [
        "A /data",
        "A /data/file",
    ]
    out = io.BytesIO()
    driver.write_diff("box", out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        assert archive.getnames() == ["data", "data/file"]


# Quotas.


def test_a_limit_counts_what_a_container_adds(driver: BtrfsStorage) -> None:
    """Not what it shares with its image, which may be larger than the limit."""
    image(driver, large=os.urandom(24 * MIB))
    root = create(driver, "box", size_limit=8 * MIB)
    try:
        descriptor = os.open("small", os.O_WRONLY | os.O_CREAT, dir_fd=root)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(4 * MIB))
            os.fsync(file.fileno())
    finally:
        os.close(root)


@pytest.mark.parametrize("when", ["removal", "opening"])
def test_quota_groups_go_with_their_containers(
    driver: BtrfsStorage, disk: Path, on_btrfs: Path, when: str
) -> None:
    """A filesystem does not fill with the groups of what is long gone.

    What the kernel has cleaned up goes with the next removal, or when the driver is opened.
    """
    image(driver)
    for number in range(4):
        os.close(create(driver, f"box{number}", size_limit=MIB))
    (stays, *numbers) = (subvolume(driver, f"box{number}") for number in range(4))
    assert all(f"0/{number} " in groups(disk) for number in (stays, *numbers))
    for number in range(1, 4):
        driver.remove_container(f"box{number}")
    driver._store.settle()
    clean_up(disk, *numbers)
    if when == "removal":
        os.close(create(driver, "other"))
        driver.remove_container("other")
        driver._store.settle()
    else:
        BtrfsStorage(context(on_btrfs), Config(folder=str(on_btrfs))).close()
    assert not any(f"0/{number} " in groups(disk) for number in numbers)
    assert f"0/{stays} " in groups(disk)
    assert {int(note.name) for note in notes(on_btrfs)}.isdisjoint(map(int, numbers))


def test_a_group_is_noted_before_its_subvolume_goes(
    driver: BtrfsStorage, disk: Path, on_btrfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a kill in between loses none; what is noted and there after all is left alone."""
    image(driver)
    os.close(create(driver, "box", size_limit=MIB))
    number = subvolume(driver, "box")

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patched:
        patched.setattr(ioctls, "destroy_subvolume", refuse)
        driver.remove_container("box")
        driver._store.settle()
    assert number in [note.name for note in notes(on_btrfs)]
    with opened(on_btrfs) as another:
        assert f"0/{number} " in groups(disk)
        another._store.settle()


def test_without_quotas_nothing_is_noted(disk: Path, tmp_path: Path) -> None:
    """There are no groups."""
    del disk  # it knows whether there can be one
    with btrfs(tmp_path / "plain", 128 * MIB) as mounted, opened(mounted) as driver:
        image(driver)
        os.close(create(driver, "box"))
        driver.remove_container("box")
        driver._store.settle()
        assert notes(mounted) == []


def subvolume(driver: BtrfsStorage, key: str) -> str:
    """Return the number of a container's subvolume."""
    return run("btrfs", "inspect-internal", "rootid", str(driver._container_tree(key))).strip()


def clean_up(disk: Path, *numbers: str) -> None:
    """Have the kernel clean up destroyed subvolumes, and wait for that."""
    run("btrfs", "filesystem", "sync", str(disk))  # else it begins within 30 seconds
    run("btrfs", "subvolume", "sync", str(disk), *numbers)
    run("btrfs", "filesystem", "sync", str(disk))  # what their groups count is part of a commit


def notes(place: Path) -> list[Path]:
    """Return the driver's notes of groups that are to go."""
    return list((place / "quota-groups").iterdir())


def groups(disk: Path) -> str:
    """Return the list of quota groups."""
    return run("btrfs", "qgroup", "show", "--sync", str(disk))


def test_without_quotas_a_limit_is_refused(disk: Path, tmp_path: Path) -> None:
    """With the command that turns them on; nothing is created, and without a limit it works."""
    del disk  # it knows whether there can be one
    with btrfs(tmp_path / "plain", 128 * MIB) as mounted, opened(mounted) as driver:
        image(driver)
        with pytest.raises(UnsupportedOperation, match="keeps no quotas") as caught:
            create(driver, "box", size_limit=MIB)
        assert "btrfs quota enable" in str(caught.value.hint)
        assert list(driver.containers()) == []
        os.close(create(driver, "box"))
