"""What the kit is tried on: a driver that keeps the contract, and drivers that each break it once.

Not collected by itself: ``test_storage_kit`` runs it, and reads how each test went.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

import pytest

from pannier.drivers.storage import ContainerLayer, StorageCapability, Usage
from pannier.errors import DriverError, UnsupportedOperation
from pannier.images.unpack import unpack_layer
from pannier.linux.mounts import MS_BIND, clone_tree, mount
from pannier.linux.trees import DIRECTORY
from pannier.testing import StorageConformance
from support.reference_storage import Kept, ReferenceStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pannier.drivers.base import DriverContext, IdMap
    from pannier.drivers.operations import Plan

pytest_plugins = "pannier.testing.plugin"


class Subject(StorageConformance):
    """The kit on a tmpfs, with a driver that a subclass names."""

    driver: ClassVar[type[ReferenceStorage]] = ReferenceStorage
    patience = 0.2

    @pytest.fixture
    def place(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="pannier-test-", dir="/dev/shm") as folder:
            yield Path(folder)

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], ReferenceStorage]:
        return self.driver


class TestReference(Subject):
    """It keeps the contract."""


def rewritten(
    stream: BinaryIO, change: Callable[[tarfile.TarInfo], tarfile.TarInfo | None]
) -> BinaryIO:
    """Return an archive with each member changed, or left out."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(stream.read())) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in old:
            content = old.extractfile(member) if member.isreg() else None
            changed = change(member)
            if changed is not None:
                new.addfile(changed, content)
    out.seek(0)
    return out


class Rewriting(ReferenceStorage):
    """Loses something of each archive."""

    def create_layer(self, chain_id: str, parent: str | None, diff: BinaryIO) -> Usage:
        return super().create_layer(chain_id, parent, rewritten(diff, self.change))

    def change(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        raise NotImplementedError


class LosesAWhiteout(Rewriting):
    """Unpacks no whiteouts."""

    def change(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = Path(member.name).name
        return None if name.startswith(".wh.") and not name.endswith(".opq") else member


class ForgetsAnOpaqueFolder(Rewriting):
    """Unpacks no opaque markers."""

    def change(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if member.name.endswith(".wh..wh..opq") else member


class LosesHardLinks(Rewriting):
    """Makes empty files of hard links."""

    def change(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.islnk():
            member.type, member.size = tarfile.REGTYPE, 0
        return member


class DropsAttributes(Rewriting):
    """Unpacks no extended attributes."""

    def change(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.pax_headers = {}
        return member


class ForgetsOwners(Rewriting):
    """Gives everything to root."""

    def change(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        return member


class CutsTimes(Rewriting):
    """Knows whole seconds only."""

    def change(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.pax_headers = {}
        member.mtime = int(member.mtime)
        return member


class LeaksAMount(ReferenceStorage):
    """Leaves a bind mount in its folder."""

    def create(self, layer: ContainerLayer) -> bool:
        mount(self.root / "layers", self.root / "empty", None, MS_BIND)
        return super().create(layer)


class LeaksADescriptor(ReferenceStorage):
    """Opens a layer once too often."""

    def open_layer(self, chain_id: str) -> int:
        os.dup(descriptor := super().open_layer(chain_id))
        return descriptor


class LeavesFiles(ReferenceStorage):
    """Leaves a lock of each container that was removed."""

    def remove_container(self, key: str) -> None:
        super().remove_container(key)
        (self.state / f"{key}.lock").touch()


class SharesAWritableLayer(ReferenceStorage):
    """Gives every container the same tree."""

    def open_tree(self, tree: Path) -> int:
        return super().open_tree(min(tree.parent.parent.iterdir()) / "tree")


class WritesToTheImage(ReferenceStorage):
    """Opens layers for writing."""

    def open_layer(self, chain_id: str) -> int:
        self.find("layers", chain_id)
        return clone_tree(self.folder("layers", chain_id) / "tree")


class GivesAFolderForAMount(ReferenceStorage):
    """Opens a folder instead of mounting it."""

    def open_tree(self, tree: Path) -> int:
        return os.open(tree, DIRECTORY)


class SecondRemoveRaises(ReferenceStorage):
    """Complains that a removed container is not there."""

    def remove_container(self, key: str) -> None:
        self.find("containers", key)
        super().remove_container(key)


class ForgetsAtReopen(ReferenceStorage):
    """Has no containers when it is opened."""

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        for key in self.kept("containers"):
            self.forget("containers", key)


class MakesHalfALayer(ReferenceStorage):
    """Unpacks a layer in its place."""

    def create_layer(self, chain_id: str, parent: str | None, diff: BinaryIO) -> Usage:
        if self.has_layer(chain_id):
            return self.layer_usage(chain_id)
        staged = self.stage()
        with self.below(parent, None) as below:
            self.copy(below, staged / "tree")
        self.keep(staged, "layers", Kept(chain_id, parent))
        try:
            used = unpack_layer(diff, self.folder("layers", chain_id) / "tree", whiteouts="apply")
        except BaseException:
            self.forget("layers", chain_id)
            raise
        return Usage(used.size, used.inodes)


class RemovesAParentInUse(ReferenceStorage):
    """Removes what something stands on."""

    def remove_layer(self, chain_id: str) -> None:
        self.forget("layers", chain_id)


class WritesAnotherDiffEachTime(ReferenceStorage):
    """Pads its archives ever further."""

    times = itertools.count()

    def write_diff(self, key: str, out: BinaryIO) -> None:
        super().write_diff(key, out)
        out.write(bytes(512) * next(self.times))


class DeclaresWhatItHasNot(ReferenceStorage):
    """Declares id maps, and ignores them."""

    capabilities = frozenset({StorageCapability.IDMAP})

    def plan_open_root(self, key: str, *, idmap: IdMap | None = None) -> Plan[int]:
        del idmap
        return super().plan_open_root(key)


class IgnoresALimit(ReferenceStorage):
    """Declares size limits, and ignores them."""

    def create(self, layer: ContainerLayer) -> bool:
        return super().create(ContainerLayer(layer.key, layer.parent))


class RefusesALimitHere(ReferenceStorage):
    """Declares size limits, and finds that this filesystem cannot keep them: no fault."""

    hint: ClassVar[str | None] = "turn them on, or leave the limit out"

    def create(self, layer: ContainerLayer) -> bool:
        if layer.size_limit is not None:
            raise UnsupportedOperation("this filesystem keeps no limits", hint=self.hint)
        return super().create(layer)


class TestRefusesALimitHere(Subject):
    """It keeps the contract."""

    driver = RefusesALimitHere


class RefusesALimitRudely(RefusesALimitHere):
    """Does the same, and does not say what can be done."""

    hint = None


class RefusesWithoutAHint(ReferenceStorage):
    """Says no, and nothing else."""

    def plan_open_root(self, key: str, *, idmap: IdMap | None = None) -> Plan[int]:
        if idmap is not None:
            raise UnsupportedOperation("no")
        return super().plan_open_root(key)


class ActsWhenItPlans(ReferenceStorage):
    """Creates a container when it is asked for a plan."""

    def plan_create_container(self, layer: ContainerLayer) -> Plan[None]:
        plan = super().plan_create_container(layer)
        self.create(layer)
        return plan


class UndoesTooMuch(ReferenceStorage):
    """Takes back what was there before."""

    def uncreate(self, key: str, made: list[bool]) -> None:
        del made
        self.remove_container(key)


class FailsWithoutAName(ReferenceStorage):
    """Lets the kernel's error through."""

    def create(self, layer: ContainerLayer) -> bool:
        try:
            return super().create(layer)
        except DriverError:
            raise OSError(errno.ENOSPC, "No space left on device") from None


class DiesHalfWay(ReferenceStorage):
    """Fills a container in its place."""

    def create(self, layer: ContainerLayer) -> bool:
        staged = self.stage()
        (staged / "tree").mkdir()
        new = self.keep(staged, "containers", Kept(layer.key, layer.parent))
        if not new:
            self.discard(staged)
            return False
        with self.below(layer.parent, None) as below:
            self.copy(below, self.folder("containers", layer.key) / "tree")
        return True


class TrustsNames(ReferenceStorage):
    """Unpacks archives to see whether it can."""

    def create_layer(self, chain_id: str, parent: str | None, diff: BinaryIO) -> Usage:
        data = diff.read()
        with (
            tempfile.TemporaryDirectory() as folder,
            tarfile.open(fileobj=io.BytesIO(data)) as tar,
        ):
            # The argument `filter` came with Python 3.11.4, and Debian 12 has 3.11.2.
            tar.extraction_filter = lambda member, _: member
            tar.extractall(folder)
        return super().create_layer(chain_id, parent, io.BytesIO(data))


class CountsTheLayersBelow(ReferenceStorage):
    """Adds the layers below to a layer's usage."""

    def layer_usage(self, chain_id: str) -> Usage:
        record = self.find("layers", chain_id)
        below = self.layer_usage(record.parent) if record.parent else Usage(0, 0)
        return Usage(record.size + below.size, record.inodes + below.inodes)


BROKEN = (
    LosesAWhiteout,
    ForgetsAnOpaqueFolder,
    LosesHardLinks,
    DropsAttributes,
    ForgetsOwners,
    CutsTimes,
    LeaksAMount,
    LeaksADescriptor,
    LeavesFiles,
    SharesAWritableLayer,
    WritesToTheImage,
    GivesAFolderForAMount,
    SecondRemoveRaises,
    ForgetsAtReopen,
    MakesHalfALayer,
    RemovesAParentInUse,
    WritesAnotherDiffEachTime,
    DeclaresWhatItHasNot,
    IgnoresALimit,
    RefusesALimitRudely,
    RefusesWithoutAHint,
    ActsWhenItPlans,
    UndoesTooMuch,
    FailsWithoutAName,
    DiesHalfWay,
    TrustsNames,
    CountsTheLayersBelow,
)

globals().update(
    (f"Test{driver.__name__}", type(f"Test{driver.__name__}", (Subject,), {"driver": driver}))
    for driver in BROKEN
)
