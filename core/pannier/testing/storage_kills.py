"""What a storage driver finds again whose process was killed between any two of its steps."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Final

from pannier.drivers.storage import ContainerLayer
from pannier.testing.archives import archive, archive_stream, entry
from pannier.testing.base import Opened, mandatory
from pannier.testing.faults import (
    count_lines,
    die,
    kill_after_operations,
    kill_at_line,
    killed,
    spread,
)
from pannier.testing.storage_base import Storage, StorageTests, chain_of, image
from pannier.testing.trees import describe_tree, names, read, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pannier.drivers.storage import StorageDriver

__all__ = ["KillTests"]

_KILLS: Final = 12
"""At how many of an operation's lines a process is killed."""


class KillTests(StorageTests):
    """Kills, each of which leaves all or nothing."""

    @mandatory
    def test_a_kill_between_operations_leaves_all_or_nothing(
        self, storage: Storage, opened: Opened[StorageDriver]
    ) -> None:
        """Between any two of the steps of a container's creation the process may be killed."""
        layer = ContainerLayer("box", image(storage))
        count = 0
        while kill_after_operations(
            opened, lambda driver: driver.plan_create_container(layer), count
        ):
            self._check_container(storage, "box")
            count += 1
        assert count > 0, "the plan has no operations"

    @mandatory
    def test_a_kill_while_a_layer_is_read_leaves_nothing(
        self, storage: Storage, opened: Opened[StorageDriver]
    ) -> None:
        """A process that is killed in the midst of the stream leaves no half a layer."""
        image(storage)
        data = archive(*(entry(f"file{number}", bytes(5000)) for number in range(40))).getvalue()
        for part in (1, 2, 3):
            end = len(data) * part // 4
            assert killed(
                opened,
                lambda driver, end=end: driver.create_layer(  # type: ignore[misc]
                    chain_of("new"), chain_of("top"), archive_stream(data, end, die)
                ),
            ), "the stream was not read to this point"
            self._check_layer(storage, "new", whole=41, now=False)

    @mandatory
    def test_a_kill_anywhere_leaves_a_whole_layer_or_none(
        self, storage: Storage, opened: Opened[StorageDriver]
    ) -> None:
        """Killed before any line of the driver's: the layer is there, whole, or can be created."""
        image(storage)
        data = archive(entry("new/"), entry("new/file", b"x"), entry(".wh.tool")).getvalue()

        def create(driver: StorageDriver) -> None:
            driver.create_layer(chain_of("new"), chain_of("top"), io.BytesIO(data))

        for _ in self._kills(opened, create):
            if storage.driver.has_layer(chain_of("new")):
                with storage.opened_layer(chain_of("new")) as root:
                    assert names(root) == ["data", "etc", "lib", "new", "usr"]
                    assert read(root, "new/file") == b"x"
            assert set(storage.driver.layers()) >= {chain_of("top"), chain_of("base")}
            create(storage.driver)
            with storage.opened_layer(chain_of("new")) as root:
                assert names(root, "new") == ["file"]
            storage.driver.remove_layer(chain_of("new"))

    @mandatory
    def test_a_kill_anywhere_leaves_a_whole_container_or_none(
        self, storage: Storage, opened: Opened[StorageDriver]
    ) -> None:
        """Killed before any line of creating or opening a container: it works, or can be made."""
        layer = ContainerLayer("box", image(storage))

        def create(driver: StorageDriver) -> None:
            opened.run(driver.plan_create_container(layer))
            os.close(opened.run(driver.plan_open_root("box")))

        for _ in self._kills(opened, create):
            self._check_container(storage, "box")

    @mandatory
    def test_a_kill_while_removing_keeps_all_or_nothing(
        self, storage: Storage, opened: Opened[StorageDriver]
    ) -> None:
        """Killed before any line of removing a container and its layer: each is whole or gone."""
        top = image(storage)

        def remove(driver: StorageDriver) -> None:
            driver.remove_container("box")
            driver.remove_layer(top)

        def make() -> None:
            image(storage)
            storage.make("box", top)
            with storage.root("box") as root:
                write(root, "file", b"x")

        make()
        for _ in self._kills(opened, remove):
            if list(storage.driver.containers()):
                assert storage.changes("box") == ["A /file"]
            if storage.driver.has_layer(top):
                with storage.opened_layer(top) as root:
                    assert read(root, "etc/passwd") == b"root"
            remove(storage.driver)
            assert list(storage.driver.containers()) == []
            assert list(storage.driver.layers()) == [chain_of("base")]
            make()

    def _kills(
        self, opened: Opened[StorageDriver], work: Callable[[StorageDriver], None]
    ) -> Iterator[int]:
        """Kill the work at one line after the other; it is done whole for a start, to count them.

        What was done then is undone by the first round of the caller's checks.
        """
        count = count_lines(opened, work)
        yield count
        for line in spread(count, _KILLS):
            if not kill_at_line(opened, work, line):
                break  # what is there already spares it lines
            yield line

    def _check_layer(self, storage: Storage, name: str, *, whole: int, now: bool) -> None:
        assert storage.driver.has_layer(chain_of(name)) is now
        assert sorted(storage.driver.layers()) == sorted([chain_of("base"), chain_of("top")])
        files = [entry(f"file{number}", bytes(5000)) for number in range(whole - 1)]
        chain = storage.layer(name, chain_of("top"), *files, entry("last"))
        with storage.opened_layer(chain) as root:
            found = [item for item in names(root) if item.startswith(("file", "last"))]
        assert len(found) == whole
        storage.driver.remove_layer(chain)

    def _check_container(self, storage: Storage, key: str) -> None:
        """See that a container works or can be made; remove it."""
        top = chain_of("top")
        with storage.opened_layer(top) as layer:
            wanted = describe_tree(layer)
        if key in storage.driver.containers():
            with storage.root(key) as root:
                assert describe_tree(root) == wanted
        storage.make(key, top)
        with storage.root(key) as root:
            write(root, "file", b"x")
        assert storage.changes(key) == ["A /file"]
        storage.driver.remove_container(key)
        assert list(storage.driver.containers()) == []
