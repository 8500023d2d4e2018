"""``docker pull``: images from a registry.

Layers come down in parallel; each is hashed while it is written to the content store, and unpacked
by the storage driver while it arrives, bottom layer first. A layer that two pulls want is fetched
once, and for as long as one of them wants it. Names are entered in one transaction when everything
is there.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self, TypeVar

from pannier.errors import Forbidden, ImageInvalid, NotFound, PannierError, UnsupportedOperation
from pannier.images.config import ImageConfig
from pannier.images.digest import chain_ids, short_id
from pannier.images.model import NewImage
from pannier.images.partial import finish_partials
from pannier.images.registry.arrivals import Arrival, Downloads
from pannier.images.registry.auth import ANONYMOUS
from pannier.images.registry.cancelling import Cancelled
from pannier.images.registry.choosing import Described, choose, describe
from pannier.images.registry.client import Repository
from pannier.images.registry.refusals import AccessDenied, RegistryError
from pannier.images.registry.transfers import TransferEvent
from pannier.images.registry.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pannier.images.images import ImageStore
    from pannier.images.leases import Lease
    from pannier.images.model import Image
    from pannier.images.oci import Descriptor, Manifest
    from pannier.images.reference import Reference
    from pannier.images.registry.settings import Endpoint, RegistryOptions
    from pannier.images.registry.transfers import TransferRequest

__all__ = ["PullDenied", "PulledImage", "Puller", "describe_at", "repository_at"]

T = TypeVar("T")

_CONFIG_LIMIT = 8 << 20
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class PulledImage:
    """The answer to a pull.

    :param digest: of the manifest or index that the reference led to.
    :param changed: whether the name leads to another image than before.
    """

    image: Image
    reference: Reference
    digest: str
    changed: bool


class PullDenied(NotFound):
    """The registry does not show us whether there is such an image."""


@dataclass(slots=True)
class Puller:
    """Pulls images into a store. Safe to use from several threads."""

    store: ImageStore
    options: RegistryOptions
    _downloads: Downloads = field(default_factory=Downloads)

    def pull(self, request: TransferRequest) -> PulledImage:
        """Pull what a reference leads to; mirrors are asked first.

        :raises NotFound: no such image, in Docker's words; nor is it told apart from one that the
            registry does not show us, or that a mirror lacks while the registry cannot be reached.
        :raises RegistryError: the registry cannot be reached, or fails.
        :raises ImageInvalid: what it sent is broken or hostile; nothing was kept.
        :raises Cancelled: the transfer was given up.
        """
        reference = request.reference.with_default_tag()
        request = replace(request, reference=reference)
        return _first(self.options, request, lambda endpoint: self._persist(endpoint, request))

    def _persist(self, endpoint: Endpoint, request: TransferRequest) -> PulledImage:
        for attempt in range(1, _ATTEMPTS + 1):
            with _Attempt(self, endpoint, request) as work:
                try:
                    return work.run()
                except (Cancelled, RegistryError, Forbidden, NotFound):
                    # What another pull was fetching for us, too, failed it for reasons of its own.
                    request.cancellation.check()
                    if not work.borrowed or attempt == _ATTEMPTS:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def tags(self, request: TransferRequest) -> list[str]:
        """Return every tag of a repository, sorted.

        :raises NotFound: as :meth:`pull`.
        """

        def ask(endpoint: Endpoint) -> list[str]:
            with repository_at(endpoint, self.options, request) as repository:
                return repository.tags()

        return _first(self.options, request, ask)

    @property
    def downloads(self) -> Downloads:
        """What is being fetched now, for all pulls."""
        return self._downloads


@contextlib.contextmanager
def repository_at(
    endpoint: Endpoint, options: RegistryOptions, request: TransferRequest, *, push: bool = False
) -> Iterator[Repository]:
    """Give the repository of a request at a server."""
    # A mirror is another server: the registry's credentials are not its business.
    credentials = ANONYMOUS if endpoint.mirror else request.credentials
    transport = Transport(endpoint, options, credentials)
    try:
        yield Repository(
            transport, request.reference.path, push=push, cancellation=request.cancellation
        )
    finally:
        transport.close()


def describe_at(options: RegistryOptions, request: TransferRequest) -> Described:
    """Tell what a registry has under a name, without fetching the image.

    :raises NotFound: as :meth:`Puller.pull`.
    """

    def ask(endpoint: Endpoint) -> Described:
        with repository_at(endpoint, options, request) as repository:
            return describe(repository, request.reference)

    return _first(options, request, ask)


def _first(options: RegistryOptions, request: TransferRequest, ask: Callable[[Endpoint], T]) -> T:
    """Return the answer of the first server that has one: the mirrors, then the registry."""
    *mirrors, registry = options.endpoints(request.reference.domain)
    lacking = ""
    for mirror in mirrors:
        # Whatever is wrong with a mirror, the registry itself may do.
        try:
            return ask(mirror)
        except NotFound:
            lacking = mirror.host
        except PannierError:
            pass
        request.cancellation.check()
    try:
        return ask(registry)
    except (NotFound, Forbidden) as error:
        raise _in_dockers_words(error, request.reference) from error
    except RegistryError as error:
        if not lacking or error.http_status:
            raise
        # Where only the mirror can be reached, what it lacks is not there.
        raise NotFound(
            f"No such image: {request.reference.familiar}: the mirror {lacking} has none, and "
            f"{error}",
            hint=error.hint,
        ) from error


class _Attempt:
    """One try to pull an image from one server."""

    def __init__(self, puller: Puller, endpoint: Endpoint, request: TransferRequest) -> None:
        self._puller = puller
        self._store = puller.store
        self._request = request
        self._stack = contextlib.ExitStack()
        self._endpoint = endpoint
        self._repository: Repository
        self._lease: Lease
        self.borrowed = False

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._lease = stack.enter_context(self._store.workbench.work())
            self._repository = stack.enter_context(
                repository_at(self._endpoint, self._puller.options, self._request)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> PulledImage:
        """Pull."""
        request, reference = self._request, self._request.reference
        chosen = choose(self._repository, reference, request.platform)
        manifest = chosen.manifest
        request.report(
            TransferEvent(f"Pulling from {reference.path}", reference.tag or reference.digest or "")
        )
        blobs = [blob.digest for blob in (manifest.config, *manifest.layers)]
        try:
            config = self._config(manifest)
            self._check_platform(config)
            if not self._is_here(config):
                self._layers(manifest, config)
        except (ImageInvalid, UnsupportedOperation):
            finish_partials(self._store.content, blobs)  # no pull will want them again
            raise
        names: tuple[Reference, ...] = (replace(reference, tag=None, digest=chosen.digest),)
        if reference.tag is not None and reference.digest is None:
            names = (reference, *names)
        before = self._store.find(names[0].familiar)
        (added,) = self._store.workbench.add([NewImage(config, manifest, names)], self._lease)
        finish_partials(self._store.content, blobs)
        changed = before is None or before.id != added.image.id
        return PulledImage(added.image, reference, chosen.digest, changed)

    def _config(self, manifest: Manifest) -> ImageConfig:
        descriptor = manifest.config
        if descriptor.size > _CONFIG_LIMIT:
            raise ImageInvalid(
                f"the image's configuration is larger than {_CONFIG_LIMIT >> 20} MiB"
            )
        with ThreadPoolExecutor(1, "pull-config") as pool:
            arrival = self._arrival(descriptor, quiet=True)
            with arrival.begun(pool):
                arrival.wait()
        config = ImageConfig.parse(self._store.content.read(descriptor.digest))
        if config.os != "linux":
            raise ImageInvalid(
                f"image operating system {config.os[:50]!r} cannot be used on this platform",
                hint="only Linux images can be run here",
            )
        if len(config.diff_ids) != len(manifest.layers):
            raise ImageInvalid(
                f"the manifest has {len(manifest.layers)} layers, "
                f"the image's configuration {len(config.diff_ids)}"
            )
        return config

    def _check_platform(self, config: ImageConfig) -> None:
        """Say so where the one image that there is is for another platform; as Docker does."""
        wanted = self._request.platform
        if wanted is not None and not config.platform.matches(wanted):
            self._request.report(
                TransferEvent(
                    f"WARNING: image with reference {self._request.reference.familiar} was found "
                    f"but does not match the specified platform: wanted {wanted}, "
                    f"actual: {config.platform}"
                )
            )

    def _is_here(self, config: ImageConfig) -> bool:
        """Whether the image is here, perhaps out of an archive: then only a name is new."""
        known = self._store.find(config.id)
        if known is None:
            return False
        with contextlib.suppress(NotFound):  # removed meanwhile
            self._store.workbench.held(config.id, self._lease)
            whole = all(self._store.storage.has_layer(layer.chain_id) for layer in known.layers)
            blobs = all(self._store.content.has(layer.blob.digest) for layer in known.layers)
            return whole and blobs
        return False

    def _arrival(self, descriptor: Descriptor, *, quiet: bool = False) -> Arrival:
        return Arrival(
            self._store.content,
            self._puller.downloads,
            self._repository,
            descriptor,
            lease=self._lease,
            request=self._request,
            quiet=quiet,
        )

    def _layers(self, manifest: Manifest, config: ImageConfig) -> None:
        unique = {layer.digest: layer for layer in manifest.layers}
        for layer in manifest.layers:
            if layer.urls:
                raise UnsupportedOperation(
                    f"layer {short_id(layer.digest)} is a foreign layer, kept elsewhere",
                    hint="only Windows images have such layers",
                )
            if layer.size != unique[layer.digest].size:
                raise ImageInvalid(f"the manifest gives layer {layer.digest} two sizes")
        with (
            ThreadPoolExecutor(self._puller.options.common.parallel, "pull") as pool,
            contextlib.ExitStack() as stack,
        ):
            arrivals: dict[str, Arrival] = {}
            for layer in unique.values():
                arrivals[layer.digest] = arrival = self._arrival(layer)
                stack.enter_context(arrival.begun(pool))
                self.borrowed = self.borrowed or arrival.borrowed
            self._unpack(manifest, config, arrivals)

    def _unpack(
        self, manifest: Manifest, config: ImageConfig, arrivals: dict[str, Arrival]
    ) -> None:
        parent = None
        chains = chain_ids(config.diff_ids)
        for position, layer in enumerate(manifest.layers):
            arrival = arrivals[layer.digest]
            known = self._store.storage.has_layer(chains[position])
            parent = self._store.workbench.unpack_one(
                config, position, layer, parent, self._lease, open_blob=arrival.open
            )
            arrival.wait()
            self._request.cancellation.check()
            status = "Already exists" if known and not arrival.fetched else "Pull complete"
            self._request.report(TransferEvent(status, short_id(layer.digest)))


def _in_dockers_words(error: PannierError, reference: Reference) -> NotFound:
    """Return what Docker's clients look for when an image is not there, or not for us."""
    name = reference.familiar_name
    if isinstance(error, AccessDenied):
        return PullDenied(
            f"pull access denied for {name}, repository does not exist or may require "
            f"'docker login': {error.words}",
            hint=error.hint,
        )
    text = str(error)
    if isinstance(error, Forbidden) or text.startswith("no matching manifest"):
        raise error
    if "manifest unknown" in text.lower():
        return NotFound(f"manifest for {reference.familiar} not found: {text}", hint=error.hint)
    if "name unknown" in text.lower():
        return NotFound(f"repository {name} not found: {text}", hint=error.hint)
    return NotFound(f"{reference.familiar} not found: {text}", hint=error.hint)
