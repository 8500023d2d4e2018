"""The ``vfs`` storage driver.

Below the store's folders (see :mod:`pannier.drivers.layer_store`) each layer and each container has
``tree``, the whole of what is seen through it. Where the filesystem shares extents a copy costs
little more than its inodes; elsewhere it costs what it copies.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from pannier.drivers.base import NoConfig
from pannier.drivers.layer_errors import making
from pannier.drivers.layer_store import CONTAINER_FILE, ContainerRecord, LayerRecord, LayerStore
from pannier.drivers.operations import Action, Opening, Plan, Step
from pannier.drivers.storage import (
    Change,
    ChangeKind,
    ContainerLayer,
    StorageCapability,
    StorageDriver,
    Usage,
)
from pannier.drivers.tree_changes import list_changes
from pannier.drivers.tree_places import make_skeleton
from pannier.errors import DriverError, DriverUnavailable, UnsupportedOperation
from pannier.images.pack import pack_changes
from pannier.images.unpack import unpack_layer
from pannier.linux.copying import copy_tree
from pannier.linux.mounts import MOUNT_ATTR_RDONLY, clone_tree, mount_setattr
from pannier.linux.trees import measure_files, opened_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from pannier.drivers.base import DriverContext, IdMap

__all__ = ["VfsStorage"]

_EMPTY = "empty"


class VfsStorage(StorageDriver):
    """Copies a container's whole root; works on every filesystem that can be written to."""

    id: ClassVar[str] = "vfs"
    priority: ClassVar[int] = 10
    capabilities: ClassVar[AbstractSet[StorageCapability]] = frozenset()
    config_type = NoConfig

    @classmethod
    def probe(cls, context: DriverContext, config: NoConfig) -> None:  # noqa: ARG003 - the contract's form
        """Try whether a folder can be opened as a detached mount, which is all that is needed.

        :raises DriverUnavailable: it cannot.
        """
        try:
            os.close(clone_tree(context.root))
        except OSError as error:
            raise DriverUnavailable(
                f"cannot make a detached mount of {context.root}: {error.strerror}",
                hint="this needs Linux 5.2 and the capability CAP_SYS_ADMIN: run as root",
            ) from error

    def __init__(self, context: DriverContext, config: NoConfig) -> None:  # noqa: ARG002 - the contract's form
        self._store = LayerStore(context.root)
        empty = context.root / _EMPTY
        empty.mkdir(exist_ok=True)
        empty.chmod(0o755)

    def close(self) -> None:
        """Close what is held open; mounts that are in use stay."""
        self._store.close()

    # Layers.

    def create_layer(self, chain_id: str, parent: str | None, diff: BinaryIO) -> Usage:
        """Copy the parent and apply the diff to the copy; see the contract."""
        self._store.layer_folder(chain_id)  # refuses what is no chain id
        if self._store.has_layer(chain_id):
            return self._store.layer(chain_id).usage
        if parent is not None:
            self._store.layer(parent)
        with self._store.stage_layer() as staged:
            with _copied(self._layer_tree(parent), staged) as tree:
                unpacked = unpack_layer(diff, tree, whiteouts="apply")
            usage = Usage(unpacked.size, unpacked.inodes)
            self._store.commit_layer(staged, chain_id, LayerRecord(parent, usage))
        return usage

    def has_layer(self, chain_id: str) -> bool:
        """Whether the layer is here, whole."""
        return self._store.has_layer(chain_id)

    def layers(self) -> Iterator[str]:
        """Yield the chain id of every layer."""
        yield from self._store.layers()

    def layer_usage(self, chain_id: str) -> Usage:
        """Return what was measured when the layer was created: its diff, not its copy."""
        return self._store.layer(chain_id).usage

    def open_layer(self, chain_id: str) -> int:
        """Return a descriptor of a detached read-only mount of the layer's tree."""
        self._store.layer(chain_id)
        descriptor = clone_tree(self._store.layer_folder(chain_id) / "tree")
        try:
            mount_setattr(descriptor, set=MOUNT_ATTR_RDONLY)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def remove_layer(self, chain_id: str) -> None:
        """Remove a layer. Idempotent."""
        self._store.remove_layer(chain_id)

    def _layer_tree(self, chain_id: str | None) -> Path:
        if chain_id is None:
            return self._store.root / _EMPTY
        return self._store.layer_folder(chain_id) / "tree"

    # Container layers.

    def plan_create_container(self, layer: ContainerLayer) -> Plan[None]:
        """Copy the image's tree for a container; see the contract."""
        folder = self._store.container_folder(layer.key)
        if layer.rootfs is not None:
            raise UnsupportedOperation(
                f"the vfs driver cannot use the folder {layer.rootfs} as a root filesystem",
                hint="it would have to copy it whole; use the overlay driver, or import the"
                " folder as an image",
            )
        if layer.size_limit is not None:
            raise UnsupportedOperation(
                "the vfs driver cannot limit a container's size",
                hint="leave out --storage-opt size=",
            )
        if layer.parent is not None:
            self._store.layer(layer.parent)
        source = self._layer_tree(layer.parent)
        made: list[bool] = []
        action = Action(
            Step("copy tree", str(folder / "tree"), f"of {source}"),
            lambda: made.append(self._create(layer)),
            lambda: self._uncreate(layer.key, made),
        )
        return Plan(self.id, [action], lambda: None)

    def _create(self, layer: ContainerLayer) -> bool:
        if self._store.has_container(layer.key):
            return False
        with self._store.stage() as staged:
            with _copied(self._layer_tree(layer.parent), staged) as tree, making("its places"):
                made = make_skeleton(tree, layer.skeleton)
            record = ContainerRecord(layer.parent, skeleton=made, disposable=layer.disposable)
            return self._store.commit_container(staged, layer.key, record)

    def _uncreate(self, key: str, made: list[bool]) -> None:
        if made and made.pop():
            self._store.remove_container(key)

    def containers(self) -> Iterator[str]:
        """Yield the key of every container layer."""
        yield from self._store.containers()

    def plan_open_root(self, key: str, *, idmap: IdMap | None = None) -> Plan[int]:
        """Open a container's tree as a detached mount; see the contract."""
        if idmap is not None:
            raise UnsupportedOperation(
                "the vfs driver has no id maps",
                hint="run the container with --userns=host, or use the overlay driver",
            )
        tree = self._store.container_folder(key) / "tree"
        step = Step("clone mount", str(tree), "detached")
        operation = Opening([step], lambda: self._open_tree(key, tree))
        return Plan(self.id, [operation], operation.take)

    def _open_tree(self, key: str, tree: Path) -> int:
        self._store.container(key)
        try:
            return clone_tree(tree)
        except OSError as error:
            raise DriverError(f"cannot open {tree}: {error.strerror}") from error

    def changes(self, key: str) -> list[Change]:
        """Compare the container's tree with its image's; see the contract."""
        record = self._store.container(key)
        folder = self._store.container_folder(key)
        # The record is written once the copy is complete.
        since = (folder / CONTAINER_FILE).stat().st_mtime_ns
        with (
            opened_directory(folder / "tree") as new,
            opened_directory(self._layer_tree(record.parent)) as old,
        ):
            return list_changes(new, old, since, record.skeleton)

    def write_diff(self, key: str, out: BinaryIO) -> None:
        """Write the container's layer as an uncompressed OCI layer; see the contract."""
        changes = self.changes(key)
        with opened_directory(self._store.container_folder(key) / "tree") as tree:
            pack_changes(tree, changes, out)

    def usage(self, key: str) -> Usage:
        """Measure what the container added or changed."""
        paths = [
            os.fsencode(change.path).strip(b"/")
            for change in self.changes(key)
            if change.kind is not ChangeKind.DELETED
        ]
        with opened_directory(self._store.container_folder(key) / "tree") as tree:
            return Usage(*measure_files(tree, paths))

    def remove_container(self, key: str) -> None:
        """Remove a container's tree. Idempotent."""
        self._store.remove_container(key)


@contextlib.contextmanager
def _copied(source: Path, staged: Path) -> Iterator[int]:
    """Copy a tree into a staged folder, and give a descriptor of the copy."""
    folder = staged / "tree"
    with making(str(folder)):
        folder.mkdir(mode=0o755)
    with opened_directory(folder) as tree, opened_directory(source) as original:
        with making(f"a copy of {source}"):
            copy_tree(original, tree)
        yield tree
