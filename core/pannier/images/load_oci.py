"""The OCI image layout in an archive (OCI image specification, image-layout.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.errors import ImageInvalid, UnsupportedOperation
from pannier.images.archived import ArchivedImage, archived_name
from pannier.images.config import ImageConfig
from pannier.images.jsonutil import Node
from pannier.images.oci import Index, Manifest, parse_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.images.archive import Archive
    from pannier.images.content import Blob
    from pannier.images.oci import Descriptor, Platform
    from pannier.images.reference import Reference

__all__ = ["oci_images", "oci_manifests"]

_MAX_DEPTH = 4
_FULL_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
_REFERENCE_TYPE = "vnd.docker.reference.type"


def oci_images(archive: Archive, platform: Platform) -> list[ArchivedImage]:
    """Read the images of a layout; several names of one image make one.

    :param platform: which to take of an index of several.
    :raises ImageInvalid: a document is malformed, or names what is not there.
    """
    found: dict[str, ArchivedImage] = {}
    for descriptor in _top(archive).manifests:
        if _is_attachment(descriptor):
            continue
        manifest = _choose(archive, descriptor, platform, 0)
        if manifest is None:
            continue
        names = _names(descriptor)
        known = found.get(manifest.digest)
        if known is not None:
            names = tuple(dict.fromkeys((*known.names, *names)))
        found[manifest.digest] = _image(archive, manifest, names)
    if not found:
        raise ImageInvalid(
            f"the archive holds no image for {platform}",
            hint="choose another with --platform OS/ARCHITECTURE",
        )
    return list(found.values())


def oci_manifests(archive: Archive) -> dict[str, Manifest]:
    """Return the layout's manifests by their configuration's digest; those that can be read."""
    manifests = {}
    for descriptor in _top(archive).manifests:
        for manifest in _all(archive, descriptor, 0):
            manifests[manifest.config.digest] = manifest
    return manifests


def _top(archive: Archive) -> Index:
    layout = archive.find("oci-layout")
    if layout is not None:
        node = Node.parse(archive.small(layout, "oci-layout"), "oci-layout")
        version = node.text("imageLayoutVersion")
        if version.partition(".")[0] != "1":
            raise ImageInvalid(f"oci-layout: version {version[:50]!r} is not known")
    index = parse_document(archive.document("index.json"), where="index.json")
    if not isinstance(index, Index):
        raise ImageInvalid("index.json: expected an index of manifests")
    return index


def _blob(archive: Archive, descriptor: Descriptor) -> Blob | None:
    blob = archive.find(f"blobs/{descriptor.digest.replace(':', '/')}")
    if blob is not None and blob.size != descriptor.size:
        raise ImageInvalid(
            f"blob {descriptor.digest} has {blob.size} bytes, "
            f"but what points to it says {descriptor.size}"
        )
    return blob


def _document(archive: Archive, descriptor: Descriptor) -> Manifest | Index | None:
    blob = _blob(archive, descriptor)
    if blob is None:
        return None
    raw = archive.small(blob, descriptor.digest)
    return parse_document(raw, descriptor.media_type, where=descriptor.digest)


def _missing(descriptor: Descriptor) -> ImageInvalid:
    return ImageInvalid(
        f"the archive has no blob {descriptor.digest}, which it points to",
        hint="was it copied whole?",
    )


def _is_attachment(descriptor: Descriptor) -> bool:
    return _REFERENCE_TYPE in descriptor.annotations


def _choose(
    archive: Archive, descriptor: Descriptor, platform: Platform, depth: int
) -> Manifest | None:
    """Return the one manifest behind a descriptor that is for *platform*."""
    document = _document(archive, descriptor)
    if document is None:
        raise _missing(descriptor)
    if isinstance(document, Manifest):
        return document
    if depth >= _MAX_DEPTH:
        raise ImageInvalid("indexes are nested too deeply")
    candidates = [entry for entry in document.manifests if not _is_attachment(entry)]
    for entry in candidates:
        if entry.platform is None or entry.platform.matches(platform):
            return _choose(archive, entry, platform, depth + 1)
    return None


def _all(archive: Archive, descriptor: Descriptor, depth: int) -> Iterator[Manifest]:
    try:
        document = _document(archive, descriptor)
    except (ImageInvalid, UnsupportedOperation):
        # The docker-archive's own documents describe the images; this one is only a bonus.
        return
    if isinstance(document, Manifest):
        yield document
    elif document is not None and depth < _MAX_DEPTH:
        for entry in document.manifests:
            yield from _all(archive, entry, depth + 1)


def _names(descriptor: Descriptor) -> tuple[Reference, ...]:
    full = descriptor.annotations.get(_FULL_NAME)
    name = full or descriptor.annotations.get(_REF_NAME, "")
    # A bare word is a tag without a repository (image-layout.md allows any text): no name for us.
    if full is None and not {"/", ":"} & set(name):
        return ()
    return (archived_name(name, "index.json"),)


def _image(archive: Archive, manifest: Manifest, names: tuple[Reference, ...]) -> ArchivedImage:
    blobs = []
    for layer in (manifest.config, *manifest.layers):
        blob = _blob(archive, layer)
        if blob is None:
            raise _missing(layer)
        blobs.append(blob)
    config = ImageConfig.parse(archive.small(blobs[0], "config"), manifest.config.digest)
    return ArchivedImage(config, tuple(blobs[1:]), names, manifest)
