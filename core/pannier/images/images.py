"""The image store: what the engine, the builder and the API ask about images.

An image's id is the digest of its configuration. Its blobs are in the content store, its layers
are unpacked by the storage driver, its names are in the database. Safe to call from any thread.
"""

from __future__ import annotations

import contextlib
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

from pannier.bounded import Patience
from pannier.errors import Conflict, InvalidRequest, NotFound
from pannier.images.catalog import Catalog
from pannier.images.compressed import CompressedLayers
from pannier.images.compression import DEFAULT_LIMITS, Limits
from pannier.images.content import ContentStore
from pannier.images.filters import ImageFilters
from pannier.images.finding import find_image, resolve, select_images
from pannier.images.importing import commit, import_image
from pannier.images.layers import LayerStore
from pannier.images.leases import Leases
from pannier.images.listing import history_of, list_images
from pannier.images.load import load
from pannier.images.model import (
    AddedImage,
    DeletedImage,
    DiskUsage,
    HistoryItem,
    Image,
    ImageSize,
    PruneReport,
    Removal,
)
from pannier.images.partial import expire_partials
from pannier.images.reference import Reference, parse_reference
from pannier.images.removal import Remover, prunable
from pannier.images.save import save
from pannier.images.workbench import Workbench, blobs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pannier.database import Database
    from pannier.drivers.storage import StorageDriver
    from pannier.images.importing import CommitRequest, ImportRequest
    from pannier.images.load import LoadEvent
    from pannier.images.model import ImageUser
    from pannier.images.oci import Platform

__all__ = ["ImageStore", "tag_reference"]

EVERYTHING = ImageFilters()


class ImageStore:
    """The images of one engine.

    :param root: the engine's folder; the content store is in ``images`` there.
    :param storage: the driver that unpacks and keeps the layers.
    :param others: drivers that get an image's layers when a container is made with them, by id.
    :param limits: how far a compressed layer or archive may grow.
    :param patience: seconds that a driver may take for each thing it is asked meanwhile.
    :ivar workbench: where images are made and held, for the builder and for registries.
    """

    def __init__(
        self,
        root: Path,
        database: Database,
        storage: StorageDriver,
        *,
        others: Mapping[str, StorageDriver] = MappingProxyType({}),
        limits: Limits = DEFAULT_LIMITS,
        patience: float = 300.0,
    ) -> None:
        leases = Leases()
        self.limits = limits
        self.content = ContentStore(root / "images", leases)
        self.storage = storage
        self._others = others
        self._database = database
        self._catalog = Catalog(database, self.content)
        every = (storage, *(other for other in others.values() if other is not storage))
        self._layers = LayerStore(database, every, leases, limits, Patience(patience))
        self.workbench = Workbench(
            database, self._catalog, self.content, self._layers, leases=leases, limits=limits
        )
        self.compressed = CompressedLayers(database)
        self._layers.sweep()
        self.content.collect(self.content.digests(), self._catalog.references_blob)
        expire_partials(self.content)

    # Looking up.

    def find(self, text: str) -> Image | None:
        """Return the image that *text* names; None if there is none. As :meth:`get`."""
        try:
            return self.get(text)
        except NotFound:
            return None

    def get(self, text: str) -> Image:
        """Return an image by tag, digest, full id or the beginning of an id.

        :raises NotFound: there is none, in Docker's words.
        :raises InvalidRequest: *text* can be neither a reference nor an id.
        """
        return find_image(self._catalog, text)

    def storage_named(self, id: str) -> StorageDriver:
        """Return the default storage driver for an empty id, or one of the others."""
        return self._others[id] if id and id != self.storage.id else self.storage

    @contextlib.contextmanager
    def hold(self, text: str, storage: str = "") -> Iterator[Image]:
        """Give an image whose layers stay while the block runs, and are there.

        For making a container from it: between the look-up and the container's layer nobody can
        remove what the container will stand on. Layers that the storage driver does not have
        (another one is asked for, or was the default when they came) are unpacked again.

        :param storage: the id of a storage driver; empty for the default.
        :raises NotFound: as :meth:`get`.
        """
        with self.workbench.leases.lease() as lease:
            image = self.get(text)
            self.workbench.hold(image, lease, blobs=False)
            top = image.top_layer
            driver = self.storage_named(storage)
            if top is not None and not driver.has_layer(top):
                self.workbench.hold(image, lease)
                blobs = [layer.blob for layer in image.layers]
                self.workbench.unpack(image.config, blobs, lease, driver=driver)
            yield image

    def select(self, text: str) -> list[tuple[str, tuple[str, ...]]]:
        """Return the images that *text* means to ``save`` or ``push``, with the tags it means.

        A repository means all of its tags, a tag itself, an id no tag.

        :raises NotFound: as :meth:`get`.
        """
        return select_images(self._catalog, text)

    def list(self, filters: ImageFilters = EVERYTHING, *, all: bool = False) -> tuple[Image, ...]:
        """Return images, the newest first.

        Names that do not match a reference filter are left out of an image's tags and digests.

        :param all: untagged images that others were made from, too.
        :raises NotFound: the image of *before* or *since* is not there.
        """
        before = None if filters.before is None else self.get(filters.before)
        since = None if filters.since is None else self.get(filters.since)
        return list_images(self._catalog, filters, before=before, since=since, all=all)

    def history(self, text: str) -> tuple[HistoryItem, ...]:
        """Return how an image was made, the last step first.

        :raises NotFound: as :meth:`get`.
        """
        return history_of(self._catalog, self.get(text))

    def children(self, identity: str) -> tuple[str, ...]:
        """Return the ids of the images that were committed or built from this one."""
        return tuple(self._catalog.children(identity))

    def names_of_repository(self, reference: Reference) -> tuple[tuple[Reference, str], ...]:
        """Return every tag and digest in a repository, with the id that it leads to."""
        return tuple(self._catalog.names_of_repository(reference.name))

    # Naming and removing.

    def tag(self, text: str, name: str) -> Reference:
        """Give an image another name; an image that had it before loses it.

        :param name: ``latest`` is added where it has no tag.
        :returns: the name that the image now has.
        :raises NotFound: as :meth:`get`.
        :raises InvalidRequest: the name is malformed, or has a digest.
        """
        reference = tag_reference(name)
        with self._database.transaction():
            self._catalog.tag(resolve(self._catalog, text), reference)
        return reference

    def note_pushed(self, identity: str, reference: Reference) -> None:
        """Give an image the name of a manifest that it was pushed as.

        :param identity: its full id; nothing is done if it has gone meanwhile.
        :param reference: with a digest.
        """
        with self._database.transaction():
            if self._catalog.exists(identity):
                self._catalog.tag(identity, reference)

    def homes_of(self, blob: str, domain: str) -> tuple[str, ...]:
        """Return the repositories at a registry that hold, as far as is known, a layer's blob."""
        names = self._catalog.names_with_blob(blob)
        return tuple(sorted({name.path for name in names if name.domain == domain}))

    def remove(
        self,
        text: str,
        *,
        users: Callable[[], Sequence[ImageUser]],
        force: bool = False,
        prune: bool = True,
    ) -> tuple[Removal, ...]:
        """Remove a name, and the image with its last one; or an image by id.

        :param users: answers which containers there are; asked inside the transaction that
            removes, so that a container cannot appear in between.
        :param force: remove it though stopped containers use it or it has several names.
        :param prune: whether untagged parents go too.
        :raises NotFound: as :meth:`get`.
        :raises Conflict: it may not go, in Docker's words; then nothing was changed.
        """
        with self._database.transaction():
            remover = Remover(self._catalog, users())
            done = remover.remove(resolve(self._catalog, text), text, force=force, prune=prune)
        self._collect(remover.gone)
        return self._really_gone(done)

    def prune(
        self, filters: ImageFilters, *, users: Callable[[], Sequence[ImageUser]]
    ) -> PruneReport:
        """Remove images that no container uses: untagged ones, or with ``dangling=False`` all.

        Also collects layers and blobs that were left over.
        """
        done: list[Removal] = []
        gone: list[Image] = []
        for identity in self._catalog.ids():
            with self._database.transaction():
                image = self._catalog.image(identity)
                containers = users()
                if (
                    image is None
                    or not prunable(image, self._catalog.parents(), filters)
                    or any(user.image == identity for user in containers)
                ):
                    continue
                remover = Remover(self._catalog, containers)
                for text in (*image.tags, *image.digests) or (identity,):
                    # A conflict means that it is needed after all; what was untagged before is.
                    with contextlib.suppress(Conflict, NotFound):
                        if resolve(self._catalog, text) == identity:
                            remover.remove(identity, text, force=False, prune=True)
                done += remover.done
                gone += remover.gone
        self._collect(gone)
        self._layers.collect()
        self.content.collect(self.content.digests(), self._catalog.references_blob)
        expire_partials(self.content, older_than=0)
        sizes = {layer.chain_id: layer.size for image in gone for layer in image.layers}
        removals = self._really_gone(done)
        layers = {
            item.id for item in removals if isinstance(item, DeletedImage) and not item.is_image
        }
        return PruneReport(removals, sum(sizes[chain_id] for chain_id in layers))

    def _really_gone(self, removals: Iterable[Removal]) -> tuple[Removal, ...]:
        """Leave out layers that stay for now, because a container stands on them."""
        return tuple(
            item
            for item in removals
            if not isinstance(item, DeletedImage) or item.is_image or not self._layers.has(item.id)
        )

    def _collect(self, gone: Iterable[Image]) -> None:
        for image in gone:
            self._layers.collect([layer.chain_id for layer in reversed(image.layers)])
            self.content.collect(blobs_of(image), self._catalog.references_blob)

    # Sizes.

    def sizes(self, images: Iterable[Image]) -> tuple[ImageSize, ...]:
        """Return how large images are, in their order."""
        shared = self._catalog.shared_layers()
        return tuple(
            ImageSize(
                size=image.size,
                shared=sum(layer.size for layer in image.layers if layer.chain_id in shared),
            )
            for image in images
        )

    def disk_usage(self) -> DiskUsage:
        """Return what all images take."""
        images = self.list(all=True)
        return DiskUsage(
            layers=self._catalog.layers_size(),
            content=self._catalog.content_size() + sum(len(image.config.raw) for image in images),
            images=tuple(zip(images, self.sizes(images), strict=True)),
        )

    # Whole images, in and out.

    def load(self, stream: BinaryIO, platform: Platform | None = None) -> Iterator[LoadEvent]:
        """Load the images of an archive, as ``docker load``: see :func:`pannier.images.load.load`.

        Nothing happens before the first event is asked for, and nothing stays unless the last is.
        """
        return load(self.workbench, stream, platform)

    def save(self, names: Sequence[str], out: BinaryIO) -> None:
        """Write images into an archive, as ``docker save``: :func:`pannier.images.save.save`."""
        chosen = [pair for name in names for pair in self.select(name)]
        save(self.workbench, chosen, out)

    def import_image(self, stream: BinaryIO, request: ImportRequest) -> AddedImage:
        """Make an image of a root filesystem: :func:`pannier.images.importing.import_image`."""
        return import_image(self.workbench, stream, request)

    def commit(self, request: CommitRequest) -> AddedImage:
        """Make an image of a container: :func:`pannier.images.importing.commit`."""
        return commit(self.workbench, self.storage_named(request.storage), request)


def tag_reference(name: str) -> Reference:
    """Return what a new tag is to be called.

    :raises InvalidRequest: the name is malformed, or has a digest.
    """
    reference = parse_reference(name)
    if reference.digest is not None:
        raise InvalidRequest(
            "refusing to create a tag with a digest reference",
            hint="leave out what follows the @",
        )
    return reference.with_default_tag()
