"""A storage driver to test the kit with: whole copies, plainly written, on a tmpfs.

Not for use: it compares whole trees, and waits for everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from pannier.drivers.base import DriverContext, IdMap, NoConfig
from pannier.drivers.layer_errors import making
from pannier.drivers.operations import Action, Plan, Step
from pannier.drivers.storage import (
    Change,
    ChangeKind,
    ContainerLayer,
    Skeleton,
    StorageCapability,
    StorageDriver,
    Usage,
)
from pannier.errors import Conflict, NotFound, UnsupportedOperation
from pannier.images.pack import pack_changes
from pannier.images.unpack import unpack_layer
from pannier.linux.copying import copy_tree
from pannier.linux.mounts import MOUNT_ATTR_RDONLY, clone_tree, mount, mount_setattr, umount
from pannier.linux.trees import DIRECTORY, measure_files, remove_tree
from pannier.testing.trees import Facts, describe_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

__all__ = ["ReferenceStorage"]


@dataclass
class Kept:
    """What is written down of a layer or a container."""

    name: str
    parent: str | None
    rootfs: str | None = None
    places: tuple[str, ...] = ()
    size: int = 0
    inodes: int = 0


class ReferenceStorage(StorageDriver):
    """Keeps ``layers/NAME`` and ``containers/KEY``, each with a tree and a record."""

    id: ClassVar[str] = "reference"
    capabilities: ClassVar[AbstractSet[StorageCapability]] = frozenset(
        {StorageCapability.EXTERNAL_ROOTFS, StorageCapability.SIZE_LIMIT}
    )

    @classmethod
    def probe(cls, context: DriverContext, config: Any) -> None:
        """Work anywhere."""

    def __init__(self, context: DriverContext, config: Any = NoConfig) -> None:
        del config
        self.root = context.root
        self.state = context.state
        self._lock = threading.RLock()
        self._number = 0
        for name in ("layers", "containers", "staging", "empty"):
            (self.root / name).mkdir(mode=0o755, exist_ok=True)
        for left in (self.root / "staging").iterdir():
            self.discard(left)
        self._kept = {kind: self.load(kind) for kind in ("layers", "containers")}

    # Folders.

    def stage(self) -> Path:
        """Make a new folder to make something in."""
        with self._lock:
            self._number += 1
            staged = self.root / "staging" / f"{os.getpid()}-{id(self)}-{self._number}"
        with making(str(staged)):
            staged.mkdir()
        return staged

    def discard(self, folder: Path) -> None:
        """Remove a folder of layers, containers or staging, if it is there."""
        with self._lock:
            self._number += 1
            aside = self.root / "staging" / f"{os.getpid()}-{id(self)}-{self._number}-gone"
            try:
                folder.rename(aside)
            except FileNotFoundError:
                return
        with contextlib.suppress(OSError):
            umount(aside / "tree")
        parent = os.open(aside.parent, DIRECTORY)
        remove_tree(os.fsencode(aside.name), parent)
        os.close(parent)

    def folder(self, kind: str, name: str) -> Path:
        """Return where something is kept."""
        return self.root / kind / name.replace(":", "-")

    def load(self, kind: str) -> dict[str, Kept]:
        """Read the records of all layers, or all containers."""
        found = {}
        for folder in (self.root / kind).iterdir():
            record = Kept(**json.loads((folder / "record").read_text(encoding="utf-8")))
            found[record.name] = record
        return found

    def kept(self, kind: str) -> dict[str, Kept]:
        """Return the records of all layers, or all containers."""
        with self._lock:
            return dict(self._kept[kind])

    def record(self, name: str) -> Kept:
        """Return a record for a layer over nothing."""
        return Kept(name, None)

    def find(self, kind: str, name: str) -> Kept:
        """Return one record."""
        try:
            return self.kept(kind)[name]
        except KeyError:
            raise NotFound(f"there is nothing called {name} in {kind}") from None

    def keep(self, staged: Path, kind: str, record: Kept) -> bool:
        """Put what was staged in its place, unless there is something."""
        with making("a record"):
            (staged / "record").write_text(json.dumps(vars(record)), encoding="utf-8")
        with self._lock:
            place = self.folder(kind, record.name)
            if place.exists():
                return False
            staged.rename(place)
            self._kept[kind][record.name] = record
        return True

    def copy(self, source: int, target: Path) -> None:
        """Copy a tree into a new folder."""
        target.mkdir(exist_ok=True)
        into = os.open(target, DIRECTORY)
        try:
            with making(str(target)):
                copy_tree(source, into)
        finally:
            os.close(into)

    @contextlib.contextmanager
    def below(self, parent: str | None, rootfs: str | None) -> Iterator[int]:
        """Open what a layer or container is a copy of."""
        path = self.folder("layers", parent) / "tree" if parent else self.root / "empty"
        # Detached, so that what is mounted in a folder of the host is not seen.
        descriptor = clone_tree(rootfs or path)
        opened = os.open(".", DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        try:
            yield opened
        finally:
            os.close(opened)

    # Layers.

    def create_layer(self, chain_id: str, parent: str | None, diff: BinaryIO) -> Usage:
        """Copy the parent, and apply the archive."""
        if self.has_layer(chain_id):
            return self.layer_usage(chain_id)
        if parent is not None:
            self.find("layers", parent)
        staged = self.stage()
        try:
            with self.below(parent, None) as below:
                self.copy(below, staged / "tree")
            used = unpack_layer(diff, staged / "tree", whiteouts="apply")
            record = Kept(chain_id, parent, size=used.size, inodes=used.inodes)
            self.keep(staged, "layers", record)
        finally:
            self.discard(staged)
        return Usage(used.size, used.inodes)

    def has_layer(self, chain_id: str) -> bool:
        return chain_id in self.kept("layers")

    def layers(self) -> Iterator[str]:
        yield from self.kept("layers")

    def layer_usage(self, chain_id: str) -> Usage:
        record = self.find("layers", chain_id)
        return Usage(record.size, record.inodes)

    def open_layer(self, chain_id: str) -> int:
        self.find("layers", chain_id)
        descriptor = clone_tree(self.folder("layers", chain_id) / "tree")
        mount_setattr(descriptor, set=MOUNT_ATTR_RDONLY)
        return descriptor

    def remove_layer(self, chain_id: str) -> None:
        with self._lock:
            for record in (*self.kept("layers").values(), *self.kept("containers").values()):
                if record.parent == chain_id:
                    raise Conflict(f"{record.name} stands on {chain_id}")
            self.forget("layers", chain_id)

    # Containers.

    def plan_create_container(self, layer: ContainerLayer) -> Plan[None]:
        if layer.parent is not None:
            self.find("layers", layer.parent)
        if layer.rootfs is not None and not layer.rootfs.is_dir():
            raise NotFound(f"{layer.rootfs} is no folder")
        made: list[bool] = []
        action = Action(
            Step("copy", layer.key),
            lambda: made.append(self.create(layer)),
            lambda: self.uncreate(layer.key, made),
        )
        return Plan(self.id, [action], lambda: None)

    def uncreate(self, key: str, made: list[bool]) -> None:
        """Take back a container that was made."""
        if made and made.pop():
            self.remove_container(key)

    def create(self, layer: ContainerLayer) -> bool:
        """Copy the image; whether there was no such container."""
        if layer.key in self.kept("containers"):
            return False
        staged = self.stage()
        tree = staged / "tree"
        rootfs = str(layer.rootfs) if layer.rootfs else None
        try:
            tree.mkdir()
            if layer.size_limit is not None:
                mount("tmpfs", tree, "tmpfs", 0, f"size={layer.size_limit}")
            with self.below(layer.parent, rootfs) as below:
                self.copy(below, tree)
            with making("places"):
                places = _make_places(tree, layer.skeleton)
            return self.keep(staged, "containers", Kept(layer.key, layer.parent, rootfs, places))
        finally:
            self.discard(staged)

    def containers(self) -> Iterator[str]:
        yield from self.kept("containers")

    def plan_open_root(self, key: str, *, idmap: IdMap | None = None) -> Plan[int]:
        if idmap is not None:
            raise UnsupportedOperation("no id maps", hint="run without --userns")
        tree = self.folder("containers", self.find("containers", key).name) / "tree"
        opened: list[int] = []
        action = Action(
            Step("open", key),
            lambda: opened.append(self.open_tree(tree)),
            lambda: os.close(opened.pop()) if opened else None,
        )
        return Plan(self.id, [action], opened.pop)

    def open_tree(self, tree: Path) -> int:
        """Return a descriptor of a container's root."""
        return clone_tree(tree)

    def changes(self, key: str) -> list[Change]:
        record = self.find("containers", key)
        with self.below(record.parent, record.rootfs) as below:
            old = describe_tree(below)
        with self.opened(key) as tree:
            new = describe_tree(tree)
        found = dict.fromkeys(set(old) - set(new), ChangeKind.DELETED)
        for path in list(found):
            if os.path.dirname(path) in found:  # noqa: PTH120 - any text
                del found[path]
        places = set(record.places)
        for path, facts in new.items():
            if path not in old and not (path in places and not facts.content):
                found[path] = ChangeKind.ADDED
            elif path in old and _plain(facts) != _plain(old[path]):
                found[path] = ChangeKind.MODIFIED
        for path in list(found):
            while path := os.path.dirname(path):  # noqa: PTH120 - as above
                found.setdefault(path, ChangeKind.MODIFIED if path in old else ChangeKind.ADDED)
        found.pop(".", None)
        return sorted(
            Change(f"/{path}", kind)
            for path, kind in found.items()
            if path not in new or not stat.S_ISSOCK(int(new[path].mode, 8))
        )

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[int]:
        """Open a container's tree for a while."""
        descriptor = os.open(self.folder("containers", key) / "tree", DIRECTORY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def write_diff(self, key: str, out: BinaryIO) -> None:
        changes = self.changes(key)
        with self.opened(key) as tree:
            pack_changes(tree, changes, out)

    def usage(self, key: str) -> Usage:
        changes = [item for item in self.changes(key) if item.kind != ChangeKind.DELETED]
        with self.opened(key) as tree:
            return Usage(*measure_files(tree, [os.fsencode(item.path[1:]) for item in changes]))

    def remove_container(self, key: str) -> None:
        self.forget("containers", key)

    def forget(self, kind: str, name: str) -> None:
        """Remove a layer or a container."""
        with self._lock:
            self.discard(self.folder(kind, name))
            self._kept[kind].pop(name, None)


def _plain(facts: Facts) -> object:
    return (facts.mode, facts.owner, facts.device, facts.time, facts.content, facts.attributes)


def _make_places(tree: Path, skeleton: Skeleton) -> tuple[str, ...]:
    """Make places to mount on, and return those that were not there."""
    made: list[str] = []
    for name, file in (
        *((name, False) for name in skeleton.directories),
        *((name, True) for name in skeleton.files),
    ):
        here = tree
        parts = Path(name).parts[1:]
        for number, part in enumerate(parts):
            times = here.stat()
            here /= part
            if here.is_symlink():
                break
            if here.exists():
                continue
            if file and number == len(parts) - 1:
                here.touch()
                here.chmod(0o644)
            else:
                here.mkdir()
                here.chmod(0o755)
            os.utime(here.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
            made.append(str(here.relative_to(tree)))
    return tuple(made)
