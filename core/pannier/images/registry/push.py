"""``docker push``: images to a registry.

What the registry has already is not sent; what another of its repositories has is taken over from
there. Layers go up in parallel: those that are stored compressed byte for byte, plain ones (of
images that were committed, built or loaded) as gzip, which other engines expect. The manifest that
is pushed then names the compressed layers, and the image gets its digest as a name.

Some registries know OCI's manifests alone, old ones Docker's schema 2 alone: what refuses one kind
is offered the other.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO

from pannier.errors import InvalidRequest
from pannier.images.compression import open_stream
from pannier.images.digest import short_id
from pannier.images.gzipping import compress
from pannier.images.oci import OCI_MANIFEST, Descriptor, Manifest, parse_document
from pannier.images.registry.pull import repository_at
from pannier.images.registry.refusals import RegistryError
from pannier.images.registry.transfers import TransferEvent
from pannier.images.registry.uploading import Uploader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import RawIOBase

    from pannier.images.images import ImageStore
    from pannier.images.leases import Lease
    from pannier.images.model import Image, Layer
    from pannier.images.reference import Reference
    from pannier.images.registry.settings import RegistryOptions
    from pannier.images.registry.transfers import TransferRequest

__all__ = ["PushedImage", "Pusher"]

_AHEAD = 4
# What registries answer to a manifest of a kind that they do not know, most often 400 or 415.
_REFUSING_KINDS = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}


@dataclass(frozen=True, slots=True)
class PushedImage:
    """The answer to a push: the digest and size of the manifest that the registry has now."""

    reference: Reference
    digest: str
    size: int


@dataclass(slots=True)
class Pusher:
    """Pushes images from a store. Safe to use from several threads."""

    store: ImageStore
    options: RegistryOptions

    def push(self, request: TransferRequest) -> PushedImage:
        """Push the image that a name leads to, under that name.

        :raises NotFound: there is no such image here.
        :raises AccessDenied: the registry does not let us.
        :raises RegistryError: the registry cannot be reached, or fails.
        :raises Cancelled: the transfer was given up.
        """
        reference = request.reference.with_default_tag()
        if reference.digest is not None:
            raise InvalidRequest("cannot push a digest reference", hint="push a tag instead")
        endpoint = self.options.endpoints(reference.domain, push=True)[-1]
        request.report(TransferEvent(f"The push refers to repository [{reference.name}]"))
        with (
            self.store.workbench.work() as lease,
            repository_at(endpoint, self.options, request, push=True) as repository,
        ):
            image = self.store.workbench.held(reference.familiar, lease)
            uploader = Uploader(repository, self.store, request)
            push = _Push(self.store, uploader, image, request, lease)
            manifest = push.run(self.options.common.parallel)
            tag = reference.tag or manifest.digest
            try:
                repository.put_manifest(tag, manifest.raw, manifest.media_type)
            except RegistryError as error:
                if error.http_status not in _REFUSING_KINDS:
                    raise
                manifest = push.in_other_words(manifest)
                try:
                    repository.put_manifest(tag, manifest.raw, manifest.media_type)
                except RegistryError:
                    raise error from None  # it was not for the kind, then
            pushed = replace(reference, tag=None, digest=manifest.digest)
            self.store.note_pushed(image.id, pushed)
        return PushedImage(reference, manifest.digest, len(manifest.raw))


class _Push:
    """The blobs of one image on their way."""

    def __init__(
        self,
        store: ImageStore,
        uploader: Uploader,
        image: Image,
        request: TransferRequest,
        lease: Lease,
    ) -> None:
        self._store = store
        self._uploader = uploader
        self._image = image
        self._request = request
        self._lease = lease

    def run(self, parallel: int) -> Manifest:
        """Send all blobs; return the manifest that names them."""
        image = self._image
        raw = self._store.content.read(image.manifest.digest)
        manifest = parse_document(raw, image.manifest.media_type, image.id)
        assert isinstance(manifest, Manifest)
        unique = {layer.diff_id: layer for layer in image.layers}
        for layer in reversed(unique.values()):  # as Docker lists them: the top one first
            self._request.report(TransferEvent("Preparing", short_id(layer.diff_id)))
        config = Descriptor(manifest.config.media_type, image.id, len(image.config.raw))
        with (
            ThreadPoolExecutor(os.cpu_count() or 1, "compress") as deflating,
            ThreadPoolExecutor(parallel, "push") as pool,
        ):
            tasks: list[Callable[[], Descriptor]] = [
                partial(self._layer, layer, deflating) for layer in unique.values()
            ]
            tasks.append(partial(self._uploader.send, config, ""))
            sent = self._all(pool, tasks)
        blobs = dict(zip(unique, sent, strict=False))
        layers = [blobs[layer.diff_id] for layer in image.layers]
        if [layer.digest for layer in layers] == [layer.digest for layer in manifest.layers]:
            return manifest
        return Manifest.make(manifest.config, layers)

    def in_other_words(self, manifest: Manifest) -> Manifest:
        """Return the manifest of another kind, once the registry has all that it names.

        Docker's schema 2 has no place for zstd: such layers are sent as gzip then.
        """
        layers = list(manifest.layers)
        if manifest.media_type == OCI_MANIFEST:
            with ThreadPoolExecutor(os.cpu_count() or 1, "compress") as deflating:
                for position, (layer, sent) in enumerate(
                    zip(self._image.layers, manifest.layers, strict=True)
                ):
                    if sent.media_type.endswith("+zstd"):
                        layers[position] = self._compressed(layer, deflating)
        return replace(manifest, layers=tuple(layers)).in_other_words()

    def _all(
        self, pool: ThreadPoolExecutor, tasks: Sequence[Callable[[], Descriptor]]
    ) -> list[Descriptor]:
        jobs = [pool.submit(task) for task in tasks]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            self._uploader.stop.cancel()
            for job in jobs:
                job.cancel()
            raise

    def _layer(self, layer: Layer, deflating: ThreadPoolExecutor) -> Descriptor:
        if layer.blob.digest != layer.diff_id:
            return self._uploader.send(layer.blob, short_id(layer.diff_id))
        return self._compressed(layer, deflating)

    def _compressed(self, layer: Layer, deflating: ThreadPoolExecutor) -> Descriptor:
        """See that the registry has a layer as gzip."""
        shown = short_id(layer.diff_id)
        known = self._store.compressed.get(layer.diff_id)
        if known is not None and self._uploader.is_there(known, shown):
            return known
        made = self._compress(layer, deflating)
        if made == known:
            self._uploader.upload(made, shown)
            return made
        return self._uploader.send(made, shown)

    def _compress(self, layer: Layer, deflating: ThreadPoolExecutor) -> Descriptor:
        """Make the compressed form of a layer; it stays in the content store for this push."""
        stop = self._uploader.stop
        with (
            self._store.content.open(layer.blob.digest, layer.blob.size) as stored,
            self._store.content.writer(self._lease) as writer,
        ):
            plain: BinaryIO | RawIOBase = stored
            if layer.blob.digest != layer.diff_id:
                plain, _ = open_stream(stored, self._store.limits)
            for piece in compress(plain, deflating, _AHEAD, stop.check):
                writer.write(piece)
            blob = writer.commit()
        return self._store.compressed.put(layer.diff_id, blob.digest, blob.size)
