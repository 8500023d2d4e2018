"""``docker push``: images to a registry.

What the registry has already is not sent; what another of its repositories has is taken over from
there. Layers go up in parallel, compressed as they are stored. A broken connection is tried again,
blob by blob.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.errors import PannierError
from pannier.images.digest import short_id
from pannier.images.oci import Manifest, parse_document
from pannier.images.reference import parse_reference
from pannier.images.registry.client import Repository
from pannier.images.registry.pull import TransferEvent, TransferRequest
from pannier.images.registry.transport import RegistryError, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.images.images import ImageStore
    from pannier.images.model import Image
    from pannier.images.oci import Descriptor
    from pannier.images.reference import Reference
    from pannier.images.registry.settings import RegistryOptions

__all__ = ["PushedImage", "Pusher"]

_CHUNK = 1 << 20
_REPORT_EVERY = 1 << 20
_TRIES = 4
_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class PushedImage:
    """The answer to a push: the manifest's digest and size."""

    reference: Reference
    digest: str
    size: int


@dataclass(slots=True)
class Pusher:
    """Pushes images from a store."""

    store: ImageStore
    options: RegistryOptions

    def push(self, request: TransferRequest) -> PushedImage:
        """Push the image that a name leads to, under that name.

        :raises NotFound: there is no such image here.
        :raises Forbidden: the registry does not let us.
        :raises RegistryError: the registry cannot be reached, or fails.
        """
        reference = request.reference.with_default_tag()
        endpoint = self.options.endpoints(reference.domain, push=True)[-1]
        with self.store.hold(reference.familiar) as image:
            transport = Transport(endpoint, self.options, request.credentials, request.cancelled)
            try:
                repository = Repository(transport, reference.path, push=True)
                raw = self.store.content.read(image.manifest.digest)
                manifest = parse_document(raw, image.manifest.media_type, reference.familiar)
                assert isinstance(manifest, Manifest)
                request.report(TransferEvent(f"The push refers to repository [{reference.name}]"))
                self._blobs(repository, image, manifest, request)
                name = reference.tag or manifest.digest
                repository.put_manifest(name, manifest.raw, manifest.media_type)
            finally:
                transport.close()
        return PushedImage(reference, manifest.digest, len(manifest.raw))

    def _blobs(
        self, repository: Repository, image: Image, manifest: Manifest, request: TransferRequest
    ) -> None:
        names = [parse_reference(text) for text in (*image.tags, *image.digests)]
        sources = sorted(
            {name.path for name in names if name.domain == request.reference.domain}
            - {request.reference.path}
        )
        layers = list({layer.digest: layer for layer in manifest.layers}.values())
        for layer in layers:
            request.report(TransferEvent("Preparing", short_id(layer.digest)))
        with ThreadPoolExecutor(self.options.common.parallel, "push") as pool:
            jobs = [
                pool.submit(self._blob, repository, layer, sources, request)
                for layer in (*layers, manifest.config)
            ]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                request.cancelled.set()
                raise

    def _blob(
        self,
        repository: Repository,
        blob: Descriptor,
        sources: list[str],
        request: TransferRequest,
    ) -> None:
        short = short_id(blob.digest)
        if repository.blob_size(blob.digest) is not None:
            request.report(TransferEvent("Layer already exists", short))
            return
        location = None
        for source in sources:
            with contextlib.suppress(PannierError):  # a source that we may not read is no harm
                location = repository.mount(blob.digest, source)
                if location is None:
                    request.report(TransferEvent(f"Mounted from {source}", short))
                    return
        for attempt in range(1, _TRIES + 1):
            try:
                location = location or repository.begin_upload()
                body = self._content(repository, blob, request)
                repository.finish_upload(location, blob.digest, blob.size, body)
            except RegistryError as error:
                passing = error.http_status == 0 or error.http_status >= 500
                if attempt == _TRIES or not passing:
                    raise
                location = None
                repository.transport.pause(_PAUSE * 2**attempt)
            else:
                request.report(TransferEvent("Pushed", short))
                return

    def _content(
        self, repository: Repository, blob: Descriptor, request: TransferRequest
    ) -> Iterator[bytes]:
        sent = reported = 0
        with self.store.content.open(blob.digest, blob.size) as stream:
            while data := stream.read(_CHUNK):
                repository.transport.check_cancelled()
                yield data
                sent += len(data)
                if sent - reported >= _REPORT_EVERY or sent == blob.size:
                    reported = sent
                    request.report(TransferEvent("Pushing", short_id(blob.digest), sent, blob.size))
