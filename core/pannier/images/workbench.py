"""Where images are made: for all that brings one in, be it from an archive, a registry or a build.

What is on the bench stays for as long as the lease that it was put there under; what no image uses
at the end is collected. Safe to call from any thread.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

from pannier.images.compression import CHUNK
from pannier.images.digest import digest_of, is_digest
from pannier.images.finding import find_image, image_of, no_such
from pannier.images.layers import LayerToMake
from pannier.images.model import AddedImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from _typeshed import ReadableBuffer

    from pannier.database import Database
    from pannier.drivers.storage import StorageDriver
    from pannier.images.catalog import Catalog
    from pannier.images.compression import Limits
    from pannier.images.config import ImageConfig
    from pannier.images.content import Blob, ContentStore
    from pannier.images.layers import LayerStore
    from pannier.images.leases import Lease, Leases
    from pannier.images.model import Image, NewImage
    from pannier.images.oci import Descriptor

__all__ = ["Workbench", "blobs_of"]


class Workbench:
    """Holds, unpacks and enters images.

    :param content: where their blobs are.
    :param limits: how far a compressed layer or archive may grow.
    """

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        content: ContentStore,
        layers: LayerStore,
        *,
        leases: Leases,
        limits: Limits,
    ) -> None:
        self.content = content
        self.leases = leases
        self.limits = limits
        self._database = database
        self._catalog = catalog
        self._layers = layers

    @contextlib.contextmanager
    def work(self) -> Iterator[Lease]:
        """Give a lease to bring images in under; what no image uses at the end is collected."""
        with self.leases.lease() as lease:
            try:
                yield lease
            finally:
                keys = lease.keys
                lease.release()
                self._layers.collect(self._layers.of_lease(keys))
                blobs = [key for key in keys if is_digest(key)]
                self.content.collect(blobs, self._catalog.references_blob)

    def held(self, text: str, lease: Lease) -> Image:
        """Return an image whose layers and blobs stay for as long as the lease.

        :raises NotFound: as :func:`~pannier.images.finding.find_image`.
        """
        image = find_image(self._catalog, text)
        self.hold(image, lease)
        return image

    def hold(self, image: Image, lease: Lease, *, blobs: bool = True) -> None:
        """Have an image's layers, and its blobs, stay for as long as the lease.

        :raises NotFound: the image was removed meanwhile.
        """
        for layer in image.layers:
            self._layers.hold(layer.chain_id, lease)
        for digest in blobs_of(image) if blobs else ():
            lease.hold(digest)
        # Asked again, since a removal may have come in between.
        if not self._catalog.exists(image.id):
            raise no_such(image.id)

    def take_diff(self, storage: StorageDriver, container: str, lease: Lease) -> Blob:
        """Store what a container's layer changes: a plain tar stream, whose digest is its diff id.

        :param container: the key of the layer.
        :raises NotFound: the driver has no such layer.
        """
        with self.content.writer(lease) as writer:
            with io.BufferedWriter(_Keep(writer), CHUNK) as out:
                storage.write_diff(container, out)
            return writer.commit()

    def unpack(
        self,
        config: ImageConfig,
        blobs: Sequence[Descriptor],
        lease: Lease,
        *,
        driver: StorageDriver | None = None,
    ) -> None:
        """Have the storage driver make every layer of an image that it does not have.

        :param blobs: the layers' tar streams, in the content store.
        :param driver: another than the default one.
        :raises ImageInvalid: one is broken, hostile, or not what the configuration says.
        """
        parent = None
        for position in range(len(blobs)):
            parent = self.unpack_one(
                config, position, blobs[position], parent, lease, driver=driver
            )

    def unpack_one(
        self,
        config: ImageConfig,
        position: int,
        blob: Descriptor,
        parent: str | None,
        lease: Lease,
        *,
        open_blob: Callable[[str], io.RawIOBase] | None = None,
        container: str | None = None,
        driver: StorageDriver | None = None,
    ) -> str:
        """Have the driver make one layer; return its chain id, the parent of the next.

        :param open_blob: opens the layer's stream where it is not in the content store yet.
        :param container: the key of a container's layer that the blob was written from, and that
            nobody uses any more.
        """
        diff_id = config.diff_ids[position]
        chain_id = digest_of(f"{parent} {diff_id}".encode()) if parent else diff_id
        # A blob of the store was checked when it came in; any other stream is checked now.
        verified = open_blob is None and blob.digest == diff_id
        layer = LayerToMake(chain_id, diff_id, parent, blob.digest, verified, container)
        self._layers.ensure(layer, lease, open_blob or self.content.open, driver)
        return chain_id

    def add(self, images: Sequence[NewImage], lease: Lease) -> tuple[AddedImage, ...]:
        """Enter images whose layers are unpacked, with their names: all of them or none.

        An image that is known keeps its manifest, and gets the names.

        :param lease: holds the layers' blobs, and the unpacked layers.
        """
        for image in images:
            self.content.put(image.config.raw, lease)
            self.content.put(image.manifest.raw, lease)
        added = []
        with self._database.transaction():
            for image in images:
                identity = image.config.id
                new = self._catalog.add(image.config, image.manifest, image.parent)
                lost = [(name, self._catalog.tag(identity, name)) for name in image.names]
                renamed = tuple((name.familiar, old) for name, old in lost if old is not None)
                added.append(AddedImage(image_of(self._catalog, identity), new, renamed))
        return tuple(added)


class _Keep(io.RawIOBase):
    """Passes writes on, and does not close what it writes to."""

    def __init__(self, out: io.RawIOBase) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int | None:
        return self._out.write(data)


def blobs_of(image: Image) -> list[str]:
    """Return the digests of everything that an image needs in the content store."""
    return [image.id, image.manifest.digest, *(layer.blob.digest for layer in image.layers)]
