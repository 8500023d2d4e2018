"""The ``overlay`` storage driver.

Below the store's folders (see :mod:`pannier.drivers.layer_store`) a layer has ``diff``, its change
set in overlayfs' own form; a container has ``upper``, likewise, and overlayfs' ``work``. In
``skeletons`` are the lowest layers of containers: places to mount on, and nothing else.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from pannier.drivers.layer_errors import making
from pannier.drivers.layer_store import ContainerRecord, LayerRecord, LayerStore
from pannier.drivers.operations import Action, Plan, Step
from pannier.drivers.storage import (
    Change,
    ContainerLayer,
    Skeleton,
    StorageCapability,
    StorageDriver,
    Usage,
)
from pannier.errors import Conflict, NotFound, UnsupportedOperation
from pannier.images.pack import pack_changes
from pannier.images.unpack import unpack_layer
from pannier.linux.trees import DIRECTORY, measure_tree, remove_tree
from pannier.linux.userns import open_userns
from pannier_storage_overlay.adopting import adopt
from pannier_storage_overlay.changes import list_changes
from pannier_storage_overlay.probing import probe_overlay
from pannier_storage_overlay.rootmounts import MountRoot
from pannier_storage_overlay.roots import new_root
from pannier_storage_overlay.skeletons import Skeletons
from pannier_storage_overlay.union import Mounter, Union

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.drivers.base import DriverContext, IdMap

__all__ = ["OverlayConfig", "OverlayStorage"]

_EMPTY = "empty"
_SCRATCH = "scratch"


@dataclass(frozen=True)
class OverlayConfig:
    """The table ``[storage.overlay]``.

    :param volatile: never wait for the disk on a container's behalf: fsync(2) in a container does
        nothing, and after a power failure its layer must not be trusted. For build machines and
        tests.
    """

    volatile: bool = False


class OverlayStorage(StorageDriver):
    """Unites layers with overlayfs; nothing is copied until a container writes to it."""

    id: ClassVar[str] = "overlay"
    priority: ClassVar[int] = 100
    capabilities = frozenset({StorageCapability.EXTERNAL_ROOTFS, StorageCapability.IDMAP})
    config_type = OverlayConfig

    @classmethod
    def probe(cls, context: DriverContext, config: OverlayConfig) -> None:  # noqa: ARG003 - the contract's form
        """Mount a small overlay in the driver's folder, write through it, and remove it again.

        :raises DriverUnavailable: it does not work there.
        """
        probe_overlay(context.root)

    def __init__(self, context: DriverContext, config: OverlayConfig) -> None:
        self._config = config
        self._store = LayerStore(context.root)
        self._mounter = Mounter()
        self._planned: dict[str, ContainerRecord] = {}
        self._lock = threading.Lock()
        for name, mode in ((_EMPTY, 0o755), (_SCRATCH, 0o700)):
            folder = context.root / name
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
        self._skeletons = Skeletons(self._store)

    def close(self) -> None:
        """Close what is held open; mounts that are in use stay."""
        self._store.close()

    # Layers.

    def create_layer(self, chain_id: str, parent: str | None, diff: BinaryIO) -> Usage:
        """Create a layer from an uncompressed tar stream; see the contract."""
        self._store.layer_folder(chain_id)  # refuses what is no chain id
        if self._store.has_layer(chain_id):
            return self._store.layer(chain_id).usage
        lowers = self._layer_lowers(parent)
        with self._store.stage_layer() as staged:
            folder = staged / "diff"
            with making(str(folder)):
                descriptor = new_root(folder, lowers[0] if parent is not None else None)
            try:
                unpacked = unpack_layer(
                    diff,
                    descriptor,
                    # Below the lowest layer there is nothing to hide.
                    whiteouts="apply" if parent is None else "overlay",
                    lower=None if parent is None else lambda: self._mount_lowers(lowers),
                )
            finally:
                os.close(descriptor)
            usage = Usage(unpacked.size, unpacked.inodes)
            record = LayerRecord(parent, usage, unpacked.opaque and parent is not None)
            self._store.commit_layer(staged, chain_id, record)
        return usage

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
        """Return a descriptor of a detached read-only mount of the layer over its parents."""
        self._store.layer(chain_id)
        return self._mount_lowers(self._layer_lowers(chain_id))

    def remove_layer(self, chain_id: str) -> None:
        """Remove a layer. Idempotent."""
        self._store.remove_layer(chain_id)

    def _layer_lowers(self, chain_id: str | None) -> tuple[str, ...]:
        """Return the folders of a layer and those below it, top first; at least one."""
        lineage = self._store.lineage(chain_id)
        if not lineage:
            return (str(self._store.root / _EMPTY),)
        return tuple(self._store.layer_path(name, "diff") for name in lineage)

    def _mount_lowers(self, lowers: tuple[str, ...]) -> int:
        return self._mounter.mount(Union(lowers, str(self._store.root / _SCRATCH)))

    def _lowers(self, record: ContainerRecord) -> tuple[str, ...]:
        skeletons = self._skeletons.paths(record)
        if record.rootfs is not None:
            return (record.rootfs, *skeletons)
        return (*self._layer_lowers(record.parent), *skeletons)

    # Container layers.

    def plan_create_container(self, layer: ContainerLayer) -> Plan[None]:
        """Create a container's writable layer; see the contract."""
        folder = self._store.container_folder(layer.key)
        if layer.size_limit is not None:
            raise UnsupportedOperation(
                "the overlay driver cannot limit a container's size",
                hint="leave out --storage-opt size=",
            )
        rootfs = _resolve_rootfs(layer.rootfs)
        skeleton = layer.skeleton
        if rootfs is not None and _holds(rootfs, self._store.root):
            # Overlayfs refuses a lower layer that lies inside another one (ELOOP): over "/" the
            # places are made in the writable layer.
            skeleton = Skeleton()
        record = ContainerRecord(
            layer.parent,
            rootfs,
            skeleton=self._skeletons.name(skeleton),
            disposable=layer.disposable,
        )
        lowers = self._lowers(record)
        made: list[bool] = []
        if not self._store.has_container(layer.key):
            self._plan(layer.key, record)
        action = Action(
            Step("create writable layer", str(folder), f"over {len(lowers)} lower layer(s)"),
            lambda: made.append(self._create(layer.key, record, lowers[0])),
            lambda: self._uncreate(layer.key, made),
        )
        return Plan(self.id, [*self._skeletons.plan(skeleton), action], lambda: None)

    def _plan(self, key: str, record: ContainerRecord) -> None:
        """Remember what is planned, so that mounting it can be described before it is there."""
        with self._lock:
            self._planned[key] = record
            while len(self._planned) > 256:
                del self._planned[next(iter(self._planned))]

    def _create(self, key: str, record: ContainerRecord, top: str) -> bool:
        with self._lock:
            self._planned.pop(key, None)
        if self._store.has_container(key):
            return False
        with making(f"the writable layer of {key}"), self._store.stage() as staged:
            os.close(new_root(staged / "upper", top))
            (staged / "work").mkdir(mode=0o700)
            return self._store.commit_container(staged, key, record)

    def _uncreate(self, key: str, made: list[bool]) -> None:
        if made and made.pop():
            self._store.remove_container(key)

    def containers(self) -> Iterator[str]:
        """Yield the key of every container layer."""
        yield from self._store.containers()

    def plan_open_root(self, key: str, *, idmap: IdMap | None = None) -> Plan[int]:
        """Mount a container's root, detached.

        The id map of the first time is kept with the container's layer, whose files have its ids:
        without one that one is used, and another one is refused.

        :raises Conflict: the layer was used with another id map.
        """
        record = self._planned.get(key)
        if record is None or self._store.has_container(key):
            record = self._store.container(key)
        if record.idmap is not None and idmap is not None and record.idmap != idmap:
            raise Conflict(
                f"the layer of the container {key} has files of another id map",
                hint="create a new container for the new id map",
            )
        operation = MountRoot(key, self._lowers(record), idmap or record.idmap, self._mount_root)
        return Plan(self.id, [operation], operation.take)

    def _mount_root(self, key: str, lowers: tuple[str, ...], idmap: IdMap | None) -> int:
        """Mount a container's root now, and return a descriptor of it."""
        record = self._store.container(key)
        folder = self._store.container_folder(key)
        if record.rootfs is not None and not Path(record.rootfs).is_dir():
            raise NotFound(
                f"the root filesystem {record.rootfs} of the container {key} has gone",
                hint="put the folder back, or remove the container",
            )
        _forgive(folder / "work")
        userns = None
        try:
            if idmap is not None:
                userns = _userns(idmap)
                if record.idmap is None:
                    self._take_over(folder, lowers[0], idmap)
                    self._store.update_container(key, replace(record, idmap=idmap))
            return self._mounter.mount(
                Union(
                    lowers,
                    str(self._store.root / _SCRATCH),
                    str(folder / "upper"),
                    str(folder / "work"),
                    userns,
                    self._config.volatile or record.disposable,
                )
            )
        finally:
            if userns is not None:
                os.close(userns)

    def _take_over(self, folder: Path, top: str, idmap: IdMap) -> None:
        """Give the upper folder, which is the root of the union, to the mapped owner."""
        upper = folder / "upper"
        if any(upper.iterdir()):
            raise Conflict(
                f"the layer of the container {folder.name} has files of the host's ids",
                hint="create a new container for the id map",
            )
        status = Path(top).stat()
        try:
            owner = idmap.host_uid(status.st_uid), idmap.host_gid(status.st_gid)
        except ValueError:  # an owner that the container's map has no id for
            owner = idmap.host_uid(0), idmap.host_gid(0)
        os.chown(upper, *owner)

    def changes(self, key: str) -> list[Change]:
        """List what the container's layer changes; see the contract."""
        record = self._store.container(key)
        upper = os.open(self._store.container_folder(key) / "upper", DIRECTORY)
        try:
            lower = self._mount_lowers(self._lowers(record))
            try:
                return list_changes(upper, lower, record.idmap)
            finally:
                os.close(lower)
        finally:
            os.close(upper)

    def write_diff(self, key: str, out: BinaryIO) -> None:
        """Write the container's layer as an uncompressed OCI layer; see the contract."""
        record = self._store.container(key)
        changes = self.changes(key)
        upper = os.open(self._store.container_folder(key) / "upper", DIRECTORY)
        try:
            pack_changes(upper, changes, out, idmap=record.idmap)
        finally:
            os.close(upper)

    def adopt_container(self, key: str, chain_id: str) -> Usage | None:
        """Make a container's upper folder a layer: it has a layer's form already."""
        record = self._store.container(key)
        if record.parent is None or record.rootfs is not None or record.idmap is not None:
            return None
        return adopt(self._store, key, chain_id, record.parent)

    def usage(self, key: str) -> Usage:
        """Measure a container's own layer; whiteouts are files too."""
        self._store.container(key)
        upper = os.open(self._store.container_folder(key) / "upper", DIRECTORY)
        try:
            return Usage(*measure_tree(upper))
        finally:
            os.close(upper)

    def remove_container(self, key: str) -> None:
        """Remove a container's writable layer. Idempotent."""
        with self._lock:
            self._planned.pop(key, None)
        self._store.remove_container(key)

    def driver_data(self, key: str) -> dict[str, str]:
        """Return the folders that the container's root is made of."""
        record = self._store.container(key)
        folder = self._store.container_folder(key)
        return {
            "LowerDir": ":".join(self._lowers(record)),
            "UpperDir": str(folder / "upper"),
            "WorkDir": str(folder / "work"),
        }


def _holds(rootfs: str, store: Path) -> bool:
    """Whether *store* is in *rootfs*, by whatever name: bind mounts keep the inode's number."""
    top = os.stat(rootfs)  # noqa: PTH116 - as os.path.samestat takes it
    return any(os.path.samestat(top, folder.stat()) for folder in (store, *store.parents))


def _resolve_rootfs(rootfs: Path | None) -> str | None:
    if rootfs is None:
        return None
    resolved = os.path.realpath(rootfs)
    if not Path(resolved).is_dir():
        raise NotFound(
            f"the root filesystem {rootfs} is no folder", hint="give the path of a folder"
        )
    return resolved


def _forgive(work: Path) -> None:
    """Remove the mark of a volatile mount, for which overlayfs would refuse to mount again.

    It says that the layer is not to be trusted if the host crashed meanwhile; who asks for
    volatile layers has accepted that.
    """
    try:
        marks = os.open(work / "work" / "incompat", DIRECTORY)
    except FileNotFoundError:
        return
    try:
        remove_tree(b"volatile", marks)
    finally:
        os.close(marks)


def _userns(idmap: IdMap) -> int:
    uids, gids = (
        tuple((item.container, item.host, item.size) for item in ranges)
        for ranges in (idmap.uids, idmap.gids)
    )
    try:
        return open_userns(uids, gids)
    except OSError as error:
        raise UnsupportedOperation(
            f"cannot make a user namespace to map ids with: {error.strerror}",
            hint="see the sysctl user.max_user_namespaces, or run with --userns=host",
        ) from error
