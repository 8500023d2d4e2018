"""``docker load``: images from an archive.

Three forms are understood: the docker-archive (``manifest.json``, Docker 1.10 and later, skopeo,
podman), the OCI image layout (``index.json``), both of which may be in one archive, and Docker's
first form (``repositories``). The archive may be compressed.

Everything is checked before anything is kept: first all documents, then each layer against its
diff id while it is unpacked; then all images and names are entered in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pannier.errors import ImageInvalid
from pannier.images.archive import Archive
from pannier.images.archived import parent_of
from pannier.images.compression import Compression, detect, open_stream
from pannier.images.digest import short_id
from pannier.images.load_docker import docker_images
from pannier.images.load_legacy import legacy_images
from pannier.images.load_oci import oci_images, oci_manifests
from pannier.images.model import NewImage
from pannier.images.oci import OCI_CONFIG, OCI_LAYER, Descriptor, Manifest, Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.images.archived import ArchivedImage
    from pannier.images.content import Blob
    from pannier.images.leases import Lease
    from pannier.images.workbench import Workbench

__all__ = ["LayerProgress", "LoadEvent", "LoadedImage", "RenamedImage", "load"]

_COPY = 1 << 20


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """How far a layer is.

    :param layer: the short form of its diff id.
    :param current: bytes of its stored form; *total* once it is done.
    """

    layer: str
    current: int
    total: int


@dataclass(frozen=True, slots=True)
class RenamedImage:
    """A name that leads elsewhere now; *id* is the image that it led to before."""

    reference: str
    id: str

    @property
    def message(self) -> str:
        """What Docker prints."""
        return (
            f"The image {self.reference} already exists, renaming the old one with ID "
            f"{self.id} to empty string"
        )


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image that is there now; *reference* is None where the archive does not name it."""

    id: str
    reference: str | None = None

    @property
    def message(self) -> str:
        """What Docker prints."""
        if self.reference is None:
            return f"Loaded image ID: {self.id}"
        return f"Loaded image: {self.reference}"


LoadEvent = LayerProgress | RenamedImage | LoadedImage


def load(
    bench: Workbench, stream: BinaryIO, platform: Platform | None = None
) -> Iterator[LoadEvent]:
    """Load every image of an archive; yields what happens, as it happens.

    :param stream: read forwards only, in pieces.
    :param platform: which image to take where an index offers several; None for this host's.
    :raises ImageInvalid: the archive is broken, hostile, or has no image; nothing was changed.
    """
    with bench.work() as lease:
        archive = Archive(bench.content, lease)
        archive.read(stream, bench.limits)
        found = _images(archive, platform)
        images = [_checked(bench, image, lease, parent_of(image, found)) for image in found]
        for image in images:
            yield from _unpack(bench, image, lease)
        added = bench.add(images, lease)
    for image, result in zip(images, added, strict=True):
        for reference, old in result.renamed:
            yield RenamedImage(reference, old)
        for name in image.names:
            yield LoadedImage(result.image.id, name.familiar)
        if not image.names:
            yield LoadedImage(result.image.id)


def _images(archive: Archive, platform: Platform | None) -> list[ArchivedImage]:
    wanted = platform or Platform.native()
    if archive.find("manifest.json") is not None:
        # An archive of both forms: docker's names the images, OCI's has their manifests.
        manifests = oci_manifests(archive) if archive.find("index.json") else {}
        images = docker_images(archive, manifests)
    elif archive.find("index.json") is not None:
        images = oci_images(archive, wanted)
    elif archive.find("repositories") is not None:
        images = legacy_images(archive)
    else:
        images = []
    if not images:
        raise ImageInvalid(
            "the archive holds no image: there is no manifest.json, index.json or repositories",
            hint="archives come from `docker save`, `podman save` or `skopeo copy`; "
            "a root filesystem is brought in with `pannier import`",
        )
    return images


def _checked(bench: Workbench, image: ArchivedImage, lease: Lease, parent: str | None) -> NewImage:
    config = image.config
    if config.os != "linux":
        raise ImageInvalid(
            f"cannot load {config.os[:50]} image on linux", hint="only Linux images can be run here"
        )
    if len(image.layers) != len(config.diff_ids):
        raise ImageInvalid(
            "invalid manifest, layers length mismatch: "
            f"expected {len(config.diff_ids)}, got {len(image.layers)}"
        )
    layers = [
        _layer(bench, blob, diff_id, lease)
        for blob, diff_id in zip(image.layers, config.diff_ids, strict=True)
    ]
    manifest = image.manifest
    if manifest is None or [layer.digest for layer in manifest.layers] != [
        layer.digest for layer in layers
    ]:
        pointer = Descriptor(OCI_CONFIG, config.id, len(config.raw))
        manifest = Manifest.make(pointer, layers)
    return NewImage(config, manifest, image.names, parent)


def _layer(bench: Workbench, blob: Blob, diff_id: str, lease: Lease) -> Descriptor:
    with bench.content.open(blob.digest) as stream:
        compression = detect(stream.read(6))
    if compression in (Compression.XZ, Compression.BZIP2):
        # OCI has no media type for these: such a layer is stored plain.
        blob = _plain(bench, blob, lease)
        compression = Compression.PLAIN
    if compression is Compression.PLAIN and blob.digest != diff_id:
        raise ImageInvalid(
            f"a layer has the digest {blob.digest}, but the image's configuration says {diff_id}",
            hint="the archive is damaged, or someone changed it",
        )
    suffix = f"+{compression.value}" if compression.value else ""
    return Descriptor(OCI_LAYER + suffix, blob.digest, blob.size)


def _plain(bench: Workbench, blob: Blob, lease: Lease) -> Blob:
    with (
        bench.content.open(blob.digest) as stream,
        bench.content.writer(lease) as writer,
    ):
        plain, _ = open_stream(stream, bench.limits)
        while data := plain.read(_COPY):
            writer.write(data)
        return writer.commit()


def _unpack(bench: Workbench, image: NewImage, lease: Lease) -> Iterator[LayerProgress]:
    parent = None
    for position, layer in enumerate(image.manifest.layers):
        name = short_id(image.config.diff_ids[position])
        yield LayerProgress(name, 0, layer.size)
        parent = bench.unpack_one(image.config, position, layer, parent, lease)
        yield LayerProgress(name, layer.size, layer.size)
