"""What the tests of the storage drivers share: archives, drivers, and ways to look at roots."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pannier.drivers.base import DriverContext
from pannier.drivers.operations import Transaction
from pannier.drivers.storage import ContainerLayer
from pannier.linux.trees import walk_tree
from pannier.linux.xattrs import proc_path, read_xattrs
from pannier.testing.archives import Member, archive, entry
from pannier.testing.trees import names, read, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pannier.drivers.base import IdMap
    from pannier.drivers.storage import StorageDriver

__all__ = [
    "Layers",
    "Member",
    "archive",
    "entry",
    "names",
    "open_layers",
    "read",
    "snapshot",
    "write",
]


class Layers:
    """Short ways to make layers and containers with a driver, and to look at their roots."""

    def __init__(self, open_driver: Callable[[], StorageDriver]) -> None:
        self._open = open_driver
        self.driver = open_driver()

    def reopen(self) -> None:
        """Close the driver and open it anew, as a restart of the daemon does."""
        self.driver.close()
        self.driver = self._open()

    def settle(self) -> None:
        """Wait until what was removed is gone from the disk."""
        store = getattr(self.driver, "_store")  # noqa: B009 - not every driver has one
        store.settle()

    def layer(self, name: str, parent: str | None, *entries: Member) -> str:
        """Create the layer sha256:*name* of entries."""
        chain = f"sha256:{name}"
        self.driver.create_layer(chain, parent, archive(*entries))
        return chain

    def container(self, key: str, parent: str | None = None, **options: Any) -> None:
        """Create a container's layer."""
        layer = ContainerLayer(key, parent, **options)
        Transaction().run(self.driver.plan_create_container(layer))

    def root(self, key: str, idmap: IdMap | None = None) -> int:
        """Open a container's root."""
        return Transaction().run(self.driver.plan_open_root(key, idmap=idmap))

    def changes(self, key: str) -> list[str]:
        """List a container's changes as ``docker diff`` prints them."""
        return [f"{change.kind} {change.path}" for change in self.driver.changes(key)]

    def diff(self, key: str) -> bytes:
        """Return a container's layer as an archive."""
        out = io.BytesIO()
        self.driver.write_diff(key, out)
        return out.getvalue()


def snapshot(root: int) -> dict[str, tuple[Any, ...]]:
    """Describe everything below a root: kind, mode, owner, time, content, attributes."""
    found: dict[str, tuple[Any, ...]] = {}
    opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
    try:
        for item in walk_tree(opened):
            status = item.status
            content: object = None
            if stat.S_ISREG(status.st_mode):
                descriptor = os.open(item.name, os.O_RDONLY, dir_fd=item.dir_fd)
                with os.fdopen(descriptor, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(item.name, dir_fd=item.dir_fd)
            attributes = {
                key: value
                for key, value in read_xattrs(proc_path(item.dir_fd, item.name)).items()
                if not key.startswith(b"trusted.overlay.")
            }
            found[os.fsdecode(item.path)] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_rdev,
                status.st_mtime_ns,
                content,
                attributes,
            )
    finally:
        os.close(opened)
    return found


@contextlib.contextmanager
def open_layers(
    driver: Callable[[DriverContext, Any], StorageDriver], config: object, path: Path
) -> Iterator[Layers]:
    """Give a driver on an empty folder; afterwards nothing of it may be mounted."""
    root, state = path / "root", path / "state"
    for folder in (root, state):
        folder.mkdir(mode=0o700, parents=True)
    layers = Layers(lambda: driver(DriverContext(root, state), config))
    yield layers
    layers.driver.close()
    assert str(path) not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
