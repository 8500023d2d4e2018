"""What the image store answers with: plain values that other rooms may keep."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.images.config import ImageConfig
    from pannier.images.oci import Descriptor, Manifest
    from pannier.images.reference import Reference

__all__ = [
    "AddedImage",
    "DeletedImage",
    "DiskUsage",
    "HistoryItem",
    "Image",
    "ImageSize",
    "ImageUser",
    "Layer",
    "NewImage",
    "PruneReport",
    "Removal",
    "UntaggedImage",
]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image.

    :param blob: the tar stream as it is stored, perhaps compressed.
    :param size: bytes of the layer's files, unpacked.
    """

    chain_id: str
    diff_id: str
    blob: Descriptor
    size: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the store.

    :param id: the digest of its configuration.
    :param layers: bottom first.
    :param tags: familiar references, ``busybox:latest``, sorted.
    :param digests: familiar references by manifest, ``busybox@sha256:…``, sorted.
    :param parent: the image that it was committed or built from here; None if it came from
        elsewhere.
    :param tagged: when a tag was last put on it, in nanoseconds since the epoch; None if never.
    """

    id: str
    manifest: Descriptor
    config: ImageConfig
    layers: tuple[Layer, ...]
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    parent: str | None = None
    tagged: int | None = None

    @property
    def size(self) -> int:
        """Bytes of all its layers' files, unpacked: Docker's *virtual size*."""
        return sum(layer.size for layer in self.layers)

    @property
    def top_layer(self) -> str | None:
        """The chain id that a container's layer stands on; None for an image without layers."""
        return self.layers[-1].chain_id if self.layers else None

    @property
    def created_ns(self) -> int:
        """When it was made, in nanoseconds since the epoch; Go's zero time if unknown."""
        return self.config.created_ns

    @property
    def dangling(self) -> bool:
        """Whether no tag leads to it."""
        return not self.tags


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to enter into the store.

    :param names: tags to give it.
    :param parent: the image that it was committed or built from.
    """

    config: ImageConfig
    manifest: Manifest
    names: tuple[Reference, ...] = ()
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class AddedImage:
    """An image that was entered.

    :param new: it was not known before.
    :param renamed: a familiar name that it took over, and the id of the image that lost it.
    """

    image: Image
    new: bool
    renamed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ImageUser:
    """A container, as far as an image's removal is concerned with it.

    :param image: the image's id.
    :param mounted: it is mounted in the container, which was not made from it.
    """

    container: str
    image: str
    running: bool
    mounted: bool = False


@dataclass(frozen=True, slots=True)
class UntaggedImage:
    """A reference that was removed.

    :param reference: in its familiar form.
    :param image: the id of the image that it led to.
    :param labels: that image's.
    :param implied: it only went since the last tag of its repository did.
    """

    reference: str
    image: str
    labels: Mapping[str, str] = field(default_factory=dict)
    implied: bool = False


@dataclass(frozen=True, slots=True)
class DeletedImage:
    """Something that was deleted: an image's id, or the chain id of a layer that went with it."""

    id: str
    is_image: bool = True


Removal = UntaggedImage | DeletedImage
"""One line of what a removal did, in the order of Docker's answer."""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a prune did; *reclaimed* in bytes of unpacked layers, as Docker counts."""

    removals: tuple[Removal, ...]
    reclaimed: int


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One step of an image's history, as ``docker history`` shows it, newest first.

    :param id: the image that the step made, or ``<missing>``.
    :param created: nanoseconds since the epoch.
    :param size: bytes of the layer that the step made; 0 where it made none.
    """

    id: str
    created: int
    created_by: str
    comment: str
    size: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageSize:
    """How large an image is, in bytes of unpacked files.

    :param size: all of its layers.
    :param shared: the layers that another image uses too.
    """

    size: int
    shared: int

    @property
    def unique(self) -> int:
        """What only this image uses."""
        return self.size - self.shared


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """What ``system df`` says of images.

    :param layers: bytes of all unpacked layers in use, each counted once.
    :param content: bytes of the stored blobs (layers as they came, manifests, configurations).
    """

    layers: int
    content: int
    images: tuple[tuple[Image, ImageSize], ...]
