"""Containers' writable layers: what is written, listed, measured, committed and removed."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.operations import Transaction
from pannier.drivers.storage import ContainerLayer
from pannier.errors import Conflict, NotFound
from pannier.linux.mounts import move_mount, umount
from pannier.testing.base import mandatory
from pannier.testing.leaks import Watch, leaked, snapshot
from pannier.testing.storage_base import Storage, StorageTests, chain_of, image
from pannier.testing.trees import describe_tree, names, read, write

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ContainerTests"]


class ContainerTests(StorageTests):
    """Containers over images, and over nothing."""

    # The root.

    @mandatory
    def test_a_root_shows_the_image(self, storage: Storage) -> None:
        """A new container sees exactly the image's tree: content, owners, modes, times, links."""
        top = image(storage)
        storage.make("box", top)
        with storage.root("box") as root, storage.opened_layer(top) as layer:
            assert describe_tree(root) == describe_tree(layer)

    @mandatory
    def test_an_empty_container_has_an_empty_root(self, storage: Storage) -> None:
        """Without an image the root is an empty folder of the mode 0755, and can be written to."""
        storage.make("box")
        with storage.root("box") as root:
            assert names(root) == []
            assert stat.S_IMODE(os.stat(".", dir_fd=root).st_mode) == 0o755
            write(root, "file", b"x")
        assert storage.changes("box") == ["A /file"]

    @mandatory
    def test_what_is_written_is_found_again(self, storage: Storage) -> None:
        """By the next mount, and by a re-opened driver's."""
        storage.make("box", image(storage))
        with storage.root("box") as root:
            write(root, "etc/passwd", b"changed")
            write(root, "new", b"new")
            os.unlink("tool", dir_fd=root)
        with storage.root("box") as root:
            assert names(root) == ["data", "etc", "lib", "new", "usr"]
            before = describe_tree(root)
        storage.reopen()
        assert list(storage.driver.containers()) == ["box"]
        with storage.root("box") as root:
            assert read(root, "etc/passwd") == b"changed"
            assert describe_tree(root) == before

    @mandatory
    def test_a_root_lives_on_when_the_driver_is_reopened(self, storage: Storage) -> None:
        """A restart of the daemon takes nothing from a running container."""
        storage.make("box", image(storage))
        with storage.root("box") as root:
            storage.reopen()
            write(root, "during", b"x")
            assert read(root, "etc/passwd") == b"root"
            assert storage.changes("box") == ["A /during"]

    @mandatory
    def test_containers_do_not_share_a_writable_layer(self, storage: Storage) -> None:
        """What one writes and deletes, neither another one nor the image shows."""
        top = image(storage)
        storage.make("one", top)
        storage.make("two", top)
        with storage.root("one") as one, storage.root("two") as two:
            write(one, "etc/passwd", b"one")
            write(one, "new", b"one")
            os.unlink("tool", dir_fd=one)
            os.chmod("etc", 0o711, dir_fd=one)
            assert read(two, "etc/passwd") == b"root"
            assert "new" not in names(two)
            assert "tool" in names(two)
            assert stat.S_IMODE(os.stat("etc", dir_fd=two).st_mode) == 0o750
        assert storage.changes("two") == []
        storage.make("three", top)
        with storage.root("three") as three, storage.opened_layer(top) as layer:
            assert describe_tree(three) == describe_tree(layer)
            assert read(layer, "etc/passwd") == b"root"

    @mandatory
    def test_a_root_is_a_detached_mount(self, storage: Storage, place: Path) -> None:
        """It is attached nowhere on the host, can be attached, and is writable there."""
        target = place / "attached"
        target.mkdir()
        storage.make("box", image(storage))
        with storage.root("box") as root:
            move_mount(root, target)
            try:
                (target / "written").write_bytes(b"x")
            finally:
                umount(target)
        assert storage.changes("box") == ["A /written"]

    @mandatory
    def test_a_root_can_be_opened_twice(self, storage: Storage) -> None:
        """A second mount shows what there is, while the first one lives."""
        storage.make("box", image(storage))
        with storage.root("box") as first:
            with storage.root("box") as second:
                assert read(second, "etc/passwd") == b"root"
            write(first, "after", b"x")
        assert storage.changes("box") == ["A /after"]

    # Plans.

    @mandatory
    def test_plans_do_nothing_until_they_are_executed(self, storage: Storage) -> None:
        """They can be described, with steps that name something, and forgotten."""
        top = image(storage)
        create = storage.driver.plan_create_container(ContainerLayer("box", top))
        assert all(step.action and step.subject for step in create.describe())
        assert create.describe()
        assert list(storage.driver.containers()) == []
        storage.opened.run(create)
        mount = storage.driver.plan_open_root("box")
        assert mount.describe()
        assert list(storage.driver.containers()) == ["box"]

    @mandatory
    def test_a_plan_that_is_undone_takes_its_own_layer_back(self, storage: Storage) -> None:
        """A container that was there before is kept; an undo may be repeated."""
        top = image(storage)
        for existed in (False, True):
            if existed:
                storage.make("box", top)
            plan = storage.driver.plan_create_container(ContainerLayer("box", top))
            transaction = Transaction()
            transaction.run(plan)
            transaction.rollback()
            for operation in reversed(plan.operations):
                operation.undo()
            assert list(storage.driver.containers()) == (["box"] if existed else [])

    @mandatory
    def test_a_root_that_is_undone_is_closed(self, storage: Storage, place: Path) -> None:
        """Executed and taken back, its result never asked for, no mount or descriptor is left."""
        storage.make("box", image(storage))
        plan = storage.driver.plan_open_root("box")
        watch = Watch(folders=(place,))
        before = snapshot(watch)
        for operation in plan.operations:
            operation.execute()
        for _ in range(2):
            for operation in reversed(plan.operations):
                operation.undo()
        assert leaked(before, watch, patience=self.patience) == []

    @mandatory
    def test_an_existing_container_is_kept(self, storage: Storage) -> None:
        """Created a second time it has what it had, also by a re-opened driver."""
        top = image(storage)
        storage.make("box", top)
        with storage.root("box") as root:
            write(root, "file", b"x")
        storage.make("box", top)
        storage.reopen()
        storage.make("box", top)
        assert list(storage.driver.containers()) == ["box"]
        assert storage.changes("box") == ["A /file"]

    @mandatory
    def test_what_is_not_there_is_not_found(self, storage: Storage) -> None:
        """Questions about a container that is not here, and an image that is not."""
        driver = storage.driver
        for ask in (driver.changes, driver.usage, storage.diff):
            with pytest.raises(NotFound):
                ask("missing")
        with pytest.raises(NotFound), storage.root("missing"):
            pass
        with pytest.raises(NotFound):
            storage.make("box", chain_of("missing"))
        assert list(driver.containers()) == []

    @mandatory
    def test_removing_a_container(self, storage: Storage) -> None:
        """Twice without an error; it is gone for good, and can be made anew, empty."""
        top = image(storage)
        storage.make("box", top)
        storage.make("other", top)
        with storage.root("box") as root:
            write(root, "file", b"x")
        for _ in range(2):
            storage.driver.remove_container("box")
        storage.reopen()
        assert list(storage.driver.containers()) == ["other"]
        with pytest.raises(NotFound):
            storage.driver.changes("box")
        storage.make("box", top)
        assert storage.changes("box") == []
        with pytest.raises(Conflict):
            storage.driver.remove_layer(top)

    @mandatory
    def test_a_disposable_container_is_a_container(self, storage: Storage) -> None:
        """``run --rm``: all the same, but for a power failure."""
        storage.make("box", image(storage), disposable=True)
        for name in ("first", "second"):
            with storage.root("box") as root:
                write(root, name, b"x")
            storage.reopen()
        assert storage.changes("box") == ["A /first", "A /second"]
