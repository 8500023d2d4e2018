"""What the tests of storage drivers share: short ways to make layers and containers."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from pannier.drivers.base import IdMap, IdMapping
from pannier.drivers.storage import ContainerLayer, StorageDriver
from pannier.errors import Conflict, PannierError
from pannier.linux.userns import open_userns
from pannier.testing.archives import Member, archive, entry
from pannier.testing.base import Conformance, Opened
from pannier.testing.leaks import Watch, unmount_below

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pannier.drivers.base import DriverContext
    from pannier.drivers.storage import Usage

__all__ = ["IDMAP", "Storage", "StorageTests", "chain_of", "image", "remove_everything"]

_UIDS: Final = ((0, 100_000, 65_536),)
_GIDS: Final = ((0, 200_000, 65_536),)
IDMAP: Final = IdMap(
    tuple(IdMapping(*numbers) for numbers in _UIDS), tuple(IdMapping(*numbers) for numbers in _GIDS)
)
"""The user namespace of the kit's containers."""


def chain_of(name: str) -> str:
    """Return a chain id for a layer that the tests call *name*."""
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


class Storage:
    """Short ways to make layers and containers with an opened driver, and to look at them."""

    def __init__(self, opened: Opened[StorageDriver]) -> None:
        self.opened = opened

    @property
    def driver(self) -> StorageDriver:
        """The instance that is open now."""
        return self.opened.driver

    @property
    def context(self) -> DriverContext:
        """The driver's own folders."""
        return self.opened.context

    def reopen(self) -> None:
        """Close the driver and open it anew."""
        self.opened.reopen()

    def layer(self, name: str, parent: str | None, *entries: Member) -> str:
        """Create a layer of entries; return its chain id."""
        chain = chain_of(name)
        self.driver.create_layer(chain, parent, archive(*entries))
        return chain

    def make(self, key: str, parent: str | None = None, **options: Any) -> None:
        """Create a container's layer; *options* are fields of ContainerLayer."""
        layer = ContainerLayer(key, parent, **options)
        self.opened.run(self.driver.plan_create_container(layer))

    @contextlib.contextmanager
    def root(self, key: str, idmap: IdMap | None = None) -> Iterator[int]:
        """Open a container's root for a while."""
        descriptor = self.opened.run(self.driver.plan_open_root(key, idmap=idmap))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def opened_layer(self, chain: str) -> Iterator[int]:
        """Open a layer for a while."""
        descriptor = self.driver.open_layer(chain)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def changes(self, key: str) -> list[str]:
        """List a container's changes as ``docker diff`` prints them, in the driver's order."""
        return [f"{change.kind} {change.path}" for change in self.driver.changes(key)]

    def diff(self, key: str) -> bytes:
        """Return a container's layer as an archive."""
        out = io.BytesIO()
        self.driver.write_diff(key, out)
        return out.getvalue()

    def commit(self, key: str, name: str, parent: str | None) -> tuple[str, Usage]:
        """Make a layer of what a container's layer is written as."""
        chain = chain_of(name)
        return chain, self.driver.create_layer(chain, parent, io.BytesIO(self.diff(key)))


def image(storage: Storage) -> str:
    """Make an image of two layers, and return the upper one's chain id.

    Seen through it are etc/passwd, data/new, tool, usr/lib/so and the link lib.
    """
    base = storage.layer(
        "base",
        None,
        entry("data/"),
        entry("data/old", b"old"),
        entry("etc/", mode=0o750, uid=3, gid=4),
        entry("etc/group", b"root"),
        entry("etc/passwd", b"root"),
        entry("lib", type=b"2", linkname="usr/lib"),
        entry("usr/"),
        entry("usr/lib/"),
        entry("usr/lib/so", b"so"),
    )
    return storage.layer(
        "top",
        base,
        entry("data/.wh..wh..opq"),
        entry("data/new", b"new"),
        entry("etc/.wh.group"),
        entry("tool", b"#!", mode=0o4755),
    )


def remove_everything(driver: StorageDriver) -> None:
    """Remove every container and layer, each twice, uppermost layers first."""
    for key in list(driver.containers()):
        for _ in range(2):
            driver.remove_container(key)
    assert not list(driver.containers()), "a removed container is still listed"
    while chains := list(driver.layers()):
        refused: list[PannierError] = []
        for chain in reversed(chains):
            try:
                for _ in range(2):
                    driver.remove_layer(chain)
            except Conflict as error:  # another layer stands on it
                refused.append(error)
        left = list(driver.layers())
        assert len(left) < len(chains), f"layers cannot be removed: {refused or left}"


class StorageTests(Conformance[StorageDriver]):
    """The base of the kit's classes for storage drivers."""

    contract: ClassVar[type[StorageDriver]] = StorageDriver

    @pytest.fixture
    def surroundings(self, place: Path) -> Iterator[Watch]:
        """Look at mounts; the user namespace of the kit's containers is kept by its own helper."""
        with contextlib.suppress(OSError):
            os.close(open_userns(_UIDS, _GIDS))
        yield Watch(folders=(place,))
        unmount_below(place)

    @pytest.fixture
    def storage(self, opened: Opened[StorageDriver]) -> Storage:
        """Give the driver with short ways to use it."""
        return Storage(opened)

    def sweep(self, driver: StorageDriver) -> None:
        """Remove every container and layer, each twice."""
        remove_everything(driver)
