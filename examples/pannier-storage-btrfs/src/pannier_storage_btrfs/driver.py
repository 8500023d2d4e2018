"""The driver btrfs: a subvolume for each layer, a snapshot of it for all that stands on it.

Below the store's folders (see :mod:`pannier.drivers.layer_store`) each layer and each container has
the subvolume ``tree``, the whole of what is seen through it. A layer begins as a snapshot of its
parent's, and is read-only once it is whole; a container's is a snapshot of its image's top layer.
On the disk snapshots share everything that is not written to.

A snapshot lies in a staged folder until it is whole, and what is removed goes to the trash first:
so the store's promises hold, whenever the process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Final

from pannier.drivers import Action, DriverContext, IdMap, Opening, Plan, Step, StorageDriver
from pannier.drivers.layer_errors import making
from pannier.drivers.layer_store import CONTAINER_FILE, ContainerRecord, LayerRecord, LayerStore
from pannier.drivers.storage import Change, ChangeKind, ContainerLayer, StorageCapability, Usage
from pannier.drivers.tree_changes import list_changes
from pannier.drivers.tree_places import make_skeleton
from pannier.errors import DriverError, UnsupportedOperation
from pannier.images.pack import pack_changes
from pannier.images.unpack import unpack_layer
from pannier.linux.mounts import MOUNT_ATTR_RDONLY, clone_tree, mount_setattr
from pannier.linux.trees import measure_files, opened_directory

from pannier_storage_btrfs import ioctls
from pannier_storage_btrfs.probing import probe_btrfs
from pannier_storage_btrfs.quota_groups import QuotaGroups
from pannier_storage_btrfs.removing import TREE, Remover

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BtrfsStorage", "Config"]

_TREE: Final = os.fsdecode(TREE)
_EMPTY: Final = "empty"


@dataclass(frozen=True)
class Config:
    """The table ``[storage.btrfs]`` of the configuration file. Every field has a default.

    :param folder: an absolute path, to keep the trees there and not in the driver's own folder: of
        a folder on btrfs that is nobody else's.
    """

    folder: str = ""


class BtrfsStorage(StorageDriver):
    """Derives each tree from the one below it by a snapshot."""

    id: ClassVar[str] = "btrfs"
    config_type: ClassVar[type[Config]] = Config
    capabilities: ClassVar[frozenset[StorageCapability]] = frozenset({StorageCapability.SIZE_LIMIT})

    @classmethod
    def probe(cls, context: DriverContext, config: Config) -> None:
        """Try a subvolume and a snapshot of it, and leave nothing behind."""
        probe_btrfs(_place(context, config))

    def __init__(self, context: DriverContext, config: Config) -> None:
        """Open the driver, and find again the state that an earlier instance left."""
        place = _place(context, config)
        groups = QuotaGroups(place)
        groups.make()
        groups.sweep()
        self._store = LayerStore(place, Remover(groups).folder)
        empty = self._store.root / _EMPTY
        empty.mkdir(exist_ok=True)
        empty.chmod(0o755)

    def close(self) -> None:
        """Close what is held open; mounts that are in use stay."""
        self._store.close()

    # Layers.

    def create_layer(self, chain_id: str, parent: str | None, diff: BinaryIO) -> Usage:
        """Apply the diff to a snapshot of the parent; see the contract."""
        self._store.layer_folder(chain_id)  # refuses what is no chain id
        if self._store.has_layer(chain_id):
            return self._store.layer(chain_id).usage
        with self._store.stage_layer() as staged:
            with self._derived(parent, staged) as tree:
                unpacked = unpack_layer(diff, tree, whiteouts="apply")
                with making(f"the layer {chain_id}"):
                    ioctls.set_read_only(tree, read_only=True)
            usage = Usage(unpacked.size, unpacked.inodes)
            self._store.commit_layer(staged, chain_id, LayerRecord(parent, usage))
        return usage

    @contextlib.contextmanager
    def _derived(self, parent: str | None, staged: Path) -> Iterator[int]:
        """Make a tree in a staged folder: a layer's snapshot, or an empty one."""
        if parent is not None:
            self._store.layer(parent)
        with opened_directory(staged) as folder:
            with making(f"a subvolume in {staged}"):
                if parent is None:
                    ioctls.create_subvolume(folder, TREE)
                else:
                    with opened_directory(self._layer_tree(parent)) as below:
                        ioctls.snapshot(below, folder, TREE)
            with opened_directory(staged / _TREE) as tree:
                if parent is None:
                    os.fchmod(tree, 0o755)
                yield tree

    def has_layer(self, chain_id: str) -> bool:
        """Whether the layer is here, whole."""
        return self._store.has_layer(chain_id)

    def layers(self) -> Iterator[str]:
        """Yield the chain id of every layer."""
        yield from self._store.layers()

    def layer_usage(self, chain_id: str) -> Usage:
        """Return what was measured when the layer was created."""
        return self._store.layer(chain_id).usage

    def open_layer(self, chain_id: str) -> int:
        """Return a descriptor of a detached read-only mount of the layer's tree."""
        self._store.layer(chain_id)
        return _mount(self._layer_tree(chain_id), read_only=True)

    def remove_layer(self, chain_id: str) -> None:
        """Remove a layer. Idempotent."""
        self._store.remove_layer(chain_id)

    def _layer_tree(self, chain_id: str | None) -> Path:
        if chain_id is None:
            return self._store.root / _EMPTY
        return self._store.layer_folder(chain_id) / _TREE

    def _container_tree(self, key: str) -> Path:
        return self._store.container_folder(key) / _TREE

    # Container layers.

    def plan_create_container(self, layer: ContainerLayer) -> Plan[None]:
        """Make a snapshot of the image's tree for a container; see the contract.

        A size limit is kept by the filesystem's quotas, where these are on, and refused elsewhere
        when the plan is executed.
        """
        if layer.rootfs is not None:
            raise UnsupportedOperation(
                f"the driver btrfs cannot use the folder {layer.rootfs} as a root filesystem",
                hint="use another storage driver, or import the folder as an image",
            )
        if layer.parent is not None:
            self._store.layer(layer.parent)
        made: list[bool] = []
        action = Action(
            Step("make snapshot", str(self._container_tree(layer.key)), self._described(layer)),
            lambda: made.append(self._create(layer)),
            lambda: self._uncreate(layer.key, made),
        )
        return Plan(self.id, [action], lambda: None)

    def _described(self, layer: ContainerLayer) -> str:
        limit = "" if layer.size_limit is None else f", at most {layer.size_limit} bytes of its own"
        return f"of {self._layer_tree(layer.parent)}{limit}"

    def _create(self, layer: ContainerLayer) -> bool:
        if self._store.has_container(layer.key):
            return False
        with self._store.stage() as staged:
            with self._derived(layer.parent, staged) as tree:
                if layer.size_limit is not None:
                    _limit(tree, layer.size_limit)
                with making("places to mount on"):
                    places = make_skeleton(tree, layer.skeleton)
            record = ContainerRecord(layer.parent, skeleton=places, disposable=layer.disposable)
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
            # An idmapped mount would keep the engine, whose ids have no mapping, from writing.
            raise UnsupportedOperation(
                "the driver btrfs has no id maps",
                hint="run the container with --userns=host, or use another storage driver",
            )
        step = Step("clone mount", str(self._container_tree(key)), "detached")
        operation = Opening([step], lambda: self._open_root(key))
        return Plan(self.id, [operation], operation.take)

    def _open_root(self, key: str) -> int:
        self._store.container(key)
        return _mount(self._container_tree(key))

    def changes(self, key: str) -> list[Change]:
        """Compare the container's tree with its image's; see the contract."""
        record = self._store.container(key)
        # The record is written once the snapshot is complete.
        written = (self._store.container_folder(key) / CONTAINER_FILE).stat().st_mtime_ns
        with (
            opened_directory(self._container_tree(key)) as new,
            opened_directory(self._layer_tree(record.parent)) as old,
        ):
            return list_changes(new, old, written, record.skeleton)

    def write_diff(self, key: str, out: BinaryIO) -> None:
        """Write the container's layer as an uncompressed OCI layer; see the contract."""
        changes = self.changes(key)
        with opened_directory(self._container_tree(key)) as tree:
            pack_changes(tree, changes, out)

    def usage(self, key: str) -> Usage:
        """Measure what the container added or changed."""
        paths = [
            os.fsencode(change.path).strip(b"/")
            for change in self.changes(key)
            if change.kind is not ChangeKind.DELETED
        ]
        with opened_directory(self._container_tree(key)) as tree:
            return Usage(*measure_files(tree, paths))

    def remove_container(self, key: str) -> None:
        """Remove a container's tree. Idempotent."""
        self._store.remove_container(key)

    def driver_data(self, key: str) -> dict[str, str]:
        """Return where the container's subvolume is."""
        return {"Subvolume": str(self._container_tree(key))}


def _place(context: DriverContext, config: Config) -> Path:
    return Path(config.folder) if config.folder else context.root


def _mount(tree: Path, *, read_only: bool = False) -> int:
    """Return a descriptor of a detached mount of a tree."""
    try:
        descriptor = clone_tree(tree)
        try:
            if read_only:
                mount_setattr(descriptor, set=MOUNT_ATTR_RDONLY)
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        raise DriverError(f"cannot open {tree}: {error.strerror}") from error
    return descriptor


def _limit(tree: int, size: int) -> None:
    try:
        ioctls.limit_exclusive(tree, size)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise UnsupportedOperation(
                "the size of a container cannot be limited: the filesystem keeps no quotas",
                hint="turn them on with `btrfs quota enable` for the filesystem, or leave out"
                " --storage-opt size=",
            ) from error
        raise DriverError(f"cannot limit a container's size: {error.strerror}") from error
