"""``docker pull``: images from a registry.

Layers come down in parallel; each is hashed while it is written to the content store, and unpacked
by the storage driver while it arrives, bottom layer first. A layer that two pulls want is fetched
once. Names are entered in one transaction when everything is there.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pannier.errors import ImageInvalid, NotFound, PannierError, UnsupportedOperation
from pannier.images import oci
from pannier.images.config import ImageConfig
from pannier.images.digest import chain_ids, digest_of, short_id
from pannier.images.model import NewImage
from pannier.images.registry.auth import Credentials
from pannier.images.registry.client import Repository
from pannier.images.registry.incoming import Incoming, download
from pannier.images.registry.transport import Cancelled, RegistryError, Transport

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Sequence

    from pannier.images.images import ImageStore
    from pannier.images.leases import Lease
    from pannier.images.model import Image
    from pannier.images.reference import Reference
    from pannier.images.registry.settings import Endpoint, RegistryOptions

__all__ = ["PulledImage", "Puller", "TransferEvent", "TransferRequest"]

_CONFIG_LIMIT = 8 << 20
_DEPTH = 3


@dataclass(frozen=True, slots=True)
class TransferEvent:
    """What happens to a layer, in Docker's words.

    :param id: the short form of the layer's digest; empty for the whole transfer.
    :param current: bytes done; *total* is 0 where there is nothing to count.
    """

    status: str
    id: str = ""
    current: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """A pull or push.

    :param platform: which image of an index to take; None for this host's.
    :param report: told of what happens, from several threads.
    :param cancelled: set it to end the transfer.
    """

    reference: Reference
    credentials: Credentials = field(default_factory=Credentials)
    platform: oci.Platform | None = None
    report: Callable[[TransferEvent], None] = lambda _: None
    cancelled: threading.Event = field(default_factory=threading.Event)


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


@dataclass(slots=True)
class Puller:
    """Pulls images into a store."""

    store: ImageStore
    options: RegistryOptions
    _incoming: dict[str, Incoming] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pull(self, request: TransferRequest) -> PulledImage:
        """Pull what a reference leads to; mirrors are asked first.

        :raises NotFound: no such image, in Docker's words.
        :raises RegistryError: the registry cannot be reached, or fails.
        :raises ImageInvalid: what it sent is broken or hostile; nothing was kept.
        """
        reference = request.reference.with_default_tag()
        failures: list[PannierError] = []
        for endpoint in self.options.endpoints(reference.domain):
            try:
                return self._persist(endpoint, replace(request, reference=reference))
            except (RegistryError, NotFound) as error:
                failures.append(error)
        raise _best(failures, reference)

    def _persist(self, endpoint: Endpoint, request: TransferRequest) -> PulledImage:
        while True:
            try:
                return self._pull_from(endpoint, request)
            except Cancelled:
                # Another pull that was fetching a layer for us, too, may have been given up.
                if request.cancelled.is_set():
                    raise

    def tags(self, request: TransferRequest) -> list[str]:
        """Return every tag of a repository, sorted."""
        endpoint = self.options.endpoints(request.reference.domain)[-1]
        with self._repository(endpoint, request) as repository:
            return repository.tags()

    @contextlib.contextmanager
    def _repository(self, endpoint: Endpoint, request: TransferRequest) -> Iterator[Repository]:
        # A mirror is another server: the registry's credentials are not its business.
        credentials = Credentials() if endpoint.mirror else request.credentials
        transport = Transport(endpoint, self.options, credentials, request.cancelled)
        try:
            yield Repository(transport, request.reference.path)
        finally:
            transport.close()

    def _pull_from(self, endpoint: Endpoint, request: TransferRequest) -> PulledImage:
        reference = request.reference
        with self._repository(endpoint, request) as repository, self.store.work() as lease:
            wanted = reference.digest or reference.tag or ""
            raw, media_type = repository.manifest(wanted)
            digest = reference.digest or digest_of(raw)
            document = oci.parse_document(raw, media_type, str(reference))
            shown = reference.tag or reference.digest or ""
            request.report(TransferEvent(f"Pulling from {reference.path}", shown))
            manifest = _choose(repository, document, request)
            config = self._config(repository, manifest, lease)
            self._layers(repository, manifest, config, request, lease)
            names: tuple[Reference, ...] = (replace(reference, tag=None, digest=digest),)
            if reference.tag is not None:
                names = (replace(reference, digest=None), *names)
            before = self.store.find(names[0].familiar)
            (added,) = self.store.add([NewImage(config, manifest, names)], lease)
        changed = before is None or before.id != added.image.id
        return PulledImage(added.image, reference, digest, changed)

    def _config(self, repository: Repository, manifest: oci.Manifest, lease: Lease) -> ImageConfig:
        descriptor = manifest.config
        if descriptor.size > _CONFIG_LIMIT:
            raise ImageInvalid(
                f"the image's configuration is larger than {_CONFIG_LIMIT >> 20} MiB"
            )
        if self.store.content.hold(descriptor.digest, lease) is None:
            incoming = Incoming(descriptor)
            with self.store.content.writer(lease, descriptor.digest) as writer:
                download(repository, incoming, writer, lambda _: None)
        config = ImageConfig.parse(self.store.content.read(descriptor.digest))
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

    def _layers(
        self,
        repository: Repository,
        manifest: oci.Manifest,
        config: ImageConfig,
        request: TransferRequest,
        lease: Lease,
    ) -> None:
        unique = {layer.digest: layer for layer in manifest.layers}
        foreign = [layer for layer in unique.values() if layer.urls]
        if foreign:
            raise UnsupportedOperation(
                f"layer {short_id(foreign[0].digest)} is a foreign layer, kept elsewhere",
                hint="only Windows images have such layers",
            )
        with ThreadPoolExecutor(self.options.common.parallel, "pull") as pool:
            arrivals: dict[str, _Arrival] = {}
            try:
                for layer in unique.values():
                    arrivals[layer.digest] = _Arrival(self, repository, layer, request, lease)
                    arrivals[layer.digest].begin(pool)
                self._unpack(manifest.layers, config, arrivals, request, lease)
            except BaseException:
                for arrival in arrivals.values():
                    arrival.give_up()
                raise

    def _unpack(
        self,
        layers: Sequence[oci.Descriptor],
        config: ImageConfig,
        arrivals: dict[str, _Arrival],
        request: TransferRequest,
        lease: Lease,
    ) -> None:
        parent = None
        chains = chain_ids(config.diff_ids)
        for position, layer in enumerate(layers):
            arrival = arrivals[layer.digest]
            known = self.store.storage.has_layer(chains[position])
            parent = self.store.unpack_one(
                config, position, layer, parent, lease, open_blob=arrival.open
            )
            arrival.wait()
            status = "Already exists" if known and not arrival.fetched else "Pull complete"
            request.report(TransferEvent(status, short_id(layer.digest)))

    # One download for everybody who wants a blob.

    def share(self, descriptor: oci.Descriptor) -> tuple[Incoming, bool]:
        """Return the download of a blob, and whether the caller is the one to do it."""
        with self._lock:
            known = self._incoming.get(descriptor.digest)
            if known is not None:
                return known, False
            made = self._incoming[descriptor.digest] = Incoming(descriptor)
            return made, True

    def unshare(self, digest: str) -> None:
        """Note that a download has ended: who comes now looks in the store, or begins anew."""
        with self._lock:
            self._incoming.pop(digest, None)


class _Arrival:
    """One layer of one pull: it is here, somebody fetches it, or we do."""

    def __init__(
        self,
        puller: Puller,
        repository: Repository,
        layer: oci.Descriptor,
        request: TransferRequest,
        lease: Lease,
    ) -> None:
        self._puller = puller
        self._repository = repository
        self._layer = layer
        self._request = request
        self._lease = lease
        self._gone = threading.Event()
        self._incoming: Incoming | None = None
        self.fetched = False

    def begin(self, pool: ThreadPoolExecutor) -> None:
        """Have the layer fetched, unless it is here."""
        blob = self._puller.store.content.hold(self._layer.digest, self._lease)
        if blob is not None and blob.size == self._layer.size:
            return
        self.fetched = True
        self._report("Pulling fs layer")
        self._incoming, mine = self._puller.share(self._layer)
        if mine:
            pool.submit(self._fetch, self._incoming)
        else:
            self._report("Waiting")

    def _fetch(self, incoming: Incoming) -> None:
        try:
            self._check_wanted()
            content = self._puller.store.content
            with content.writer(self._lease, self._layer.digest) as writer:
                incoming.begin(writer.fileno())
                download(self._repository, incoming, writer, self._progress)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the blob gets it
            self._puller.unshare(self._layer.digest)
            incoming.end(error)
        else:
            self._puller.unshare(self._layer.digest)
            incoming.end()
            self._report("Download complete")

    def _check_wanted(self) -> None:
        if self._gone.is_set():
            raise Cancelled("the transfer was cancelled")

    def _progress(self, received: int) -> None:
        self._check_wanted()
        self._report("Downloading", received)

    def _report(self, status: str, current: int = 0) -> None:
        total = self._layer.size if current else 0
        self._request.report(TransferEvent(status, short_id(self._layer.digest), current, total))

    def open(self, digest: str) -> io.RawIOBase:
        """Return the layer's stream, which may still be arriving."""
        if self._incoming is None:
            return self._puller.store.content.open(digest, self._layer.size)
        self._report("Extracting", self._layer.size)
        return self._incoming.reader()

    def wait(self) -> None:
        """Wait until the layer's blob is whole and verified."""
        if self._incoming is not None:
            self._incoming.wait()

    def give_up(self) -> None:
        """End our own download. One that another pull does goes on."""
        self._gone.set()


def _choose(
    repository: Repository, document: oci.Manifest | oci.Index, request: TransferRequest
) -> oci.Manifest:
    """Follow indexes to the manifest for the platform that is asked for."""
    wanted = request.platform or oci.Platform.native()
    for _ in range(_DEPTH):
        if isinstance(document, oci.Manifest):
            return document
        fitting = [
            entry
            for entry in document.manifests
            if entry.platform is not None and entry.platform.matches(wanted)
        ]
        if not fitting:
            raise NotFound(
                f"no matching manifest for {wanted} in the manifest list entries",
                hint="offered: "
                + ", ".join(sorted({str(e.platform) for e in document.manifests if e.platform})),
            )
        raw, media_type = repository.manifest(fitting[0].digest)
        document = oci.parse_document(raw, media_type, fitting[0].digest)
    raise ImageInvalid("the image's index leads to further indexes without end")


def _best(failures: list[PannierError], reference: Reference) -> PannierError:
    """Return what to tell of several failures: the registry's own word, which came last."""
    last = failures[-1]
    if isinstance(last, NotFound) and "manifest unknown" in str(last).lower():
        return NotFound(f"manifest for {reference.familiar} not found: manifest unknown")
    return last
