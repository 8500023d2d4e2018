"""The storage contract: image layers, and each container's writable layer.

Words. A *layer* is a read-only filesystem change set, named by its *chain id* (OCI image
specification: the digest that stands for it and everything below it). Its *parent* is the chain id
below, or None. A *container layer* is a writable layer over an image's top layer (or over a folder
of the host, see :attr:`StorageCapability.EXTERNAL_ROOTFS`), named by the container's id, its *key*.
The *root* of a container is the union of them all.

Life cycle. ``create_layer`` brings layers in, bottom first; ``create_container`` adds the writable
layer; ``open_root`` gives the union as a *detached mount*: a descriptor of a mount that is attached
nowhere (``open_tree(2)`` with OPEN_TREE_CLONE, or ``fsmount(2)``). The runtime attaches it in the
container's own mount namespace, so the host's mount table stays as it is, and a mount is gone with
its last user: nothing can be left mounted, whoever is killed. A driver that has only a path makes
such a descriptor with :func:`pannier.linux.mounts.clone_tree`.

Every operation is idempotent or fails with a named error. A layer appears whole or not at all:
stage it, then rename. A second remove is not an error. A re-opened driver finds its state again.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from pannier.drivers.base import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from pannier.drivers.base import IdMap
    from pannier.drivers.operations import Plan

__all__ = [
    "Change",
    "ChangeKind",
    "ContainerLayer",
    "Skeleton",
    "StorageCapability",
    "StorageDriver",
    "Usage",
]


class StorageCapability(StrEnum):
    """What a storage driver may declare."""

    EXTERNAL_ROOTFS = "external-rootfs"
    """A container's lower layer may be a folder of the host (``run --rootfs PATH``), used
    read-only and never changed."""

    IDMAP = "idmap"
    """``open_root`` accepts an id map: files that the layers store as uid 0 appear as the mapped
    root, without a chown or a copy.

    The engine writes through the mount as well, as the host's root, which the map does not have. An
    idmapped mount by itself refuses that (EOVERFLOW, mount_setattr(2)): what is written to must not
    be mapped so, only what is below it."""

    SIZE_LIMIT = "size-limit"
    """A container layer's size can be limited (``--storage-opt size=``).

    A driver that can do so on some filesystems declares it, and refuses a limit on the others."""


class ChangeKind(StrEnum):
    """How a path differs from the layer below; the values are ``docker diff``'s letters."""

    MODIFIED = "C"
    ADDED = "A"
    DELETED = "D"


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One changed path, absolute in the container (``/etc/passwd``), and how it changed.

    Names are decoded with ``os.fsdecode``, so any bytes survive the round trip.
    """

    path: str
    kind: ChangeKind


@dataclass(frozen=True, slots=True)
class Usage:
    """What a layer of its own takes up, without the layers below.

    :param size: apparent bytes of the regular files and symbolic links (hard links counted once).
    :param inodes: number of files of any type.
    """

    size: int
    inodes: int


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Places that the engine mounts on, which are there although no layer has them.

    They lie below everything else, empty, with the modes 0755 and 0644, and are no part of a
    container's changes: neither ``diff`` nor an image committed from it shows them.

    :param directories: absolute paths; likewise *files*. Their parents are made, too.
    """

    directories: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerLayer:
    """What a new container layer stands on.

    :param key: the container's id.
    :param parent: the chain id of the image's top layer; None for an empty image or a rootfs.
    :param rootfs: a folder of the host to use, read-only, as the lower layer.
    :param size_limit: bytes; None for no limit.
    :param skeleton: what is to be there besides.
    :param disposable: the layer goes with its container (``run --rm``): a driver need not have its
        content survive a power failure, nor wait for the disk on its behalf.
    """

    key: str
    parent: str | None = None
    rootfs: Path | None = None
    size_limit: int | None = None
    skeleton: Skeleton = Skeleton()
    disposable: bool = False


class StorageDriver(Driver):
    """Keeps layers, and makes container roots from them."""

    kind: ClassVar[str] = "storage"
    capabilities: ClassVar[AbstractSet[StorageCapability]] = frozenset()

    # Layers.

    @abstractmethod
    def create_layer(self, chain_id: str, parent: str | None, diff: BinaryIO) -> Usage:
        """Create a layer from an uncompressed tar stream, unpacked with the core's unpacker.

        The stream is an OCI layer: whiteouts (``.wh.``) and opaque markers included. An existing
        layer of that chain id is left as it is, and the stream unread.

        :raises NotFound: the parent is not here.
        :raises ImageInvalid: the stream is broken or hostile; nothing was created.
        """

    @abstractmethod
    def has_layer(self, chain_id: str) -> bool:
        """Whether the layer is here, whole."""

    @abstractmethod
    def layers(self) -> Iterator[str]:
        """Yield the chain id of every whole layer."""

    @abstractmethod
    def layer_usage(self, chain_id: str) -> Usage:
        """Measure one layer, without its parents.

        :raises NotFound: there is no such layer.
        """

    @abstractmethod
    def open_layer(self, chain_id: str) -> int:
        """Return a descriptor of a detached read-only mount of the layer over its parents.

        The caller closes it.

        :raises NotFound: there is no such layer.
        """

    @abstractmethod
    def remove_layer(self, chain_id: str) -> None:
        """Remove a layer. Idempotent.

        :raises Conflict: a layer or a container here stands on it.
        """

    # Container layers.

    @abstractmethod
    def plan_create_container(self, layer: ContainerLayer) -> Plan[None]:
        """Create a container's writable layer. An existing one with this key is kept.

        :raises NotFound: the parent is not here, or the rootfs is no folder.
        :raises UnsupportedOperation: a rootfs or limit that the capabilities do not declare.
        """

    @abstractmethod
    def containers(self) -> Iterator[str]:
        """Yield the key of every container layer."""

    @abstractmethod
    def plan_open_root(self, key: str, *, idmap: IdMap | None = None) -> Plan[int]:
        """Give a descriptor of a detached mount of the container's root; the caller closes it.

        May be called again while an earlier mount lives, but then not used for writing through
        both at once: the engine reaches into a running container through its first process.

        :param idmap: the container's user namespace.
        :raises NotFound: there is no such container layer.
        :raises UnsupportedOperation: an id map without the capability.
        """

    @abstractmethod
    def changes(self, key: str) -> list[Change]:
        """List what the container's layer changes, sorted by path; works while it is mounted.

        As ``docker diff``: a folder in which something changed is listed as modified.

        :raises NotFound: there is no such container layer.
        """

    @abstractmethod
    def write_diff(self, key: str, out: BinaryIO) -> None:
        """Write the container's layer as an uncompressed OCI layer (a tar stream).

        Deterministic: the same tree gives the same bytes. Entries are sorted; owners are numeric;
        files created under an id map are written with the container's ids.

        :raises NotFound: there is no such container layer.
        """

    def adopt_container(self, key: str, chain_id: str) -> Usage | None:  # noqa: ARG002 - see below
        """Make a container's layer, which nobody uses any more, a layer over the same parent.

        A short cut for creating the layer from what :meth:`write_diff` wrote, with the same
        result; the container's layer is then gone but for its removal. A driver that has none, or
        not for this container, answers None, and has changed nothing: so does this default.

        :raises NotFound: there is no such container layer.
        """
        return None

    @abstractmethod
    def usage(self, key: str) -> Usage:
        """Measure a container's own layer.

        :raises NotFound: there is no such container layer.
        """

    @abstractmethod
    def remove_container(self, key: str) -> None:
        """Remove a container's writable layer. Idempotent; works after its mounts have gone."""

    def driver_data(self, key: str) -> dict[str, str]:  # noqa: ARG002 - most drivers have none
        """Return what ``inspect`` shows as GraphDriver.Data (``UpperDir``, …)."""
        return {}
