"""``docker save``: images into one archive that is an OCI layout and a docker-archive at once.

As Docker 25 and later write it: ``index.json`` and ``manifest.json`` both point into ``blobs/``,
where what images share is once. The archive depends on the images and their names alone, so the
same images give the same bytes; the blobs are those that came in, so digests survive a round trip.
Only a manifest of Docker's schema 2 is written anew: in a layout, skopeo and umoci look for OCI's.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Final

from pannier.images.jsonutil import dump
from pannier.images.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, parse_document
from pannier.images.reference import parse_reference
from pannier.images.tar_writer import TarWriter, Written

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Mapping, Sequence

    from pannier.images.content import ContentStore
    from pannier.images.model import Image
    from pannier.images.workbench import Workbench

__all__ = ["save"]

_BLOCK: Final = 512
_CHUNK: Final = 1 << 20
_AT_ONCE: Final = 1 << 30


def save(bench: Workbench, chosen: Iterable[tuple[str, Sequence[str]]], out: BinaryIO) -> None:
    """Write images to *out*, forwards only.

    :param chosen: the full ids of images, each with the tags that it is saved with.
    :raises NotFound: an image is not there; nothing was written yet.
    """
    with bench.leases.lease() as lease:
        images: dict[str, tuple[Image, list[str]]] = {}
        for identity, tags in chosen:
            image = bench.held(identity, lease)
            known = images.setdefault(identity, (image, []))[1]
            known += [tag for tag in tags if tag not in known]
        _Archive(bench.content, out).write(list(images.values()))


class _Archive:
    def __init__(self, content: ContentStore, out: BinaryIO) -> None:
        self._content = content
        self._out = out
        self._tar = TarWriter(out)
        self._descriptor = _descriptor(out)

    def write(self, images: Sequence[tuple[Image, Sequence[str]]]) -> None:
        """Write the documents first, so that a reader knows what comes, then the blobs."""
        manifests = {image.id: self._manifest(image) for image, _ in images}
        self._document("oci-layout", dump({"imageLayoutVersion": "1.0.0"}))
        self._document("index.json", _index(images, manifests))
        self._document("manifest.json", _manifest(images))
        self._folder("blobs")
        self._folder("blobs/sha256")
        for manifest in {one.digest: one for one in manifests.values()}.values():
            self._document(_path(manifest.digest), manifest.raw)
        blobs = {image.id: len(image.config.raw) for image, _ in images}
        for image, _ in images:
            blobs |= {layer.blob.digest: layer.blob.size for layer in image.layers}
        for digest, size in blobs.items():
            self._blob(digest, size)
        self._tar.finish()
        self._out.flush()

    def _manifest(self, image: Image) -> Manifest:
        pointer = image.manifest
        found = parse_document(self._content.read(pointer.digest), pointer.media_type, image.id)
        assert isinstance(found, Manifest)
        return found if found.media_type == OCI_MANIFEST else found.in_other_words()

    def _header(self, name: str, kind: bytes, mode: int, size: int = 0) -> None:
        entry = Written(name.encode(), kind, mode, uid=0, gid=0, mtime=0, size=size)
        self._tar.add(entry)

    def _folder(self, name: str) -> None:
        self._header(name + "/", b"5", 0o755)

    def _document(self, name: str, data: bytes) -> None:
        self._header(name, b"0", 0o644, len(data))
        self._out.write(data + bytes(-len(data) % _BLOCK))

    def _blob(self, digest: str, size: int) -> None:
        self._header(_path(digest), b"0", 0o644, size)
        with self._content.open(digest, size) as blob:
            self._copy(blob, size)
        self._out.write(bytes(-size % _BLOCK))

    def _copy(self, blob: io.FileIO, size: int) -> None:
        if self._descriptor is not None:
            # The kernel copies; what is buffered here has to be out before.
            self._out.flush()
            left = size
            while left:
                left -= os.sendfile(self._descriptor, blob.fileno(), None, min(left, _AT_ONCE))
            return
        buffer = memoryview(bytearray(_CHUNK))
        while count := blob.readinto(buffer):
            self._out.write(buffer[:count])


def _descriptor(out: BinaryIO) -> int | None:
    """Return a descriptor that sendfile(2) can write to, or None."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = out.fileno()
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            return descriptor if os.get_blocking(descriptor) else None
    return None


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _index(
    images: Sequence[tuple[Image, Sequence[str]]], manifests: Mapping[str, Manifest]
) -> bytes:
    entries: list[object] = []
    for image, tags in images:
        manifest = manifests[image.id].descriptor
        # Without a tag the image is in the index once, nameless.
        for tag in tags or (None,):
            annotations = {}
            if tag is not None:
                reference = parse_reference(tag)
                annotations = {
                    "io.containerd.image.name": str(reference),
                    "org.opencontainers.image.ref.name": reference.tag or "",
                }
            entry = Descriptor(
                manifest.media_type, manifest.digest, manifest.size, annotations=annotations
            )
            entries.append(entry.document())
    return dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def _manifest(images: Sequence[tuple[Image, Sequence[str]]]) -> bytes:
    there = {image.id for image, _ in images}
    return dump(
        [
            {
                "Config": _path(image.id),
                "RepoTags": list(tags) or None,
                "Layers": [_path(layer.blob.digest) for layer in image.layers],
                **({"Parent": image.parent} if image.parent in there else {}),
            }
            for image, tags in images
        ]
    )
