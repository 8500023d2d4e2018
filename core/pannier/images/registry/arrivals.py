"""The blobs that pulls wait for: here already, fetched by somebody, or fetched by us."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from pannier.errors import PannierError
from pannier.images.digest import short_id
from pannier.images.partial import resume
from pannier.images.registry.incoming import Incoming, download
from pannier.images.registry.transfers import TransferEvent

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    from pannier.images.content import ContentStore
    from pannier.images.leases import Lease
    from pannier.images.oci import Descriptor
    from pannier.images.registry.client import Repository
    from pannier.images.registry.transfers import TransferRequest

__all__ = ["Arrival", "Downloads"]


class Downloads:
    """What is being fetched, by digest: one download for everybody who wants a blob."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._incoming: dict[str, Incoming] = {}

    def join(self, descriptor: Descriptor, watch: Callable[[int], None]) -> tuple[Incoming, bool]:
        """Want a blob: return its download, and whether the caller is the one to do it."""
        with self._lock:
            known = self._incoming.get(descriptor.digest)
            if known is not None and known.descriptor.size == descriptor.size and known.join(watch):
                return known, False
            made = Incoming(descriptor)
            made.join(watch)
            self._incoming[descriptor.digest] = made
            return made, True

    def forget(self, incoming: Incoming) -> None:
        """Note that a download has ended: who comes now looks in the store, or begins anew."""
        with self._lock:
            if self._incoming.get(incoming.descriptor.digest) is incoming:
                del self._incoming[incoming.descriptor.digest]


class Arrival:
    """One blob of one pull.

    :param quiet: report nothing.
    :ivar fetched: whether it was not here.
    :ivar borrowed: whether another pull fetches it.
    """

    def __init__(
        self,
        content: ContentStore,
        downloads: Downloads,
        repository: Repository,
        blob: Descriptor,
        *,
        lease: Lease,
        request: TransferRequest,
        quiet: bool,
    ) -> None:
        self._content = content
        self._downloads = downloads
        self._repository = repository
        self._blob = blob
        self._lease = lease
        self._request = request
        self._quiet = quiet
        self._incoming: Incoming | None = None
        self.fetched = False
        self.borrowed = False

    @contextlib.contextmanager
    def begun(self, pool: ThreadPoolExecutor) -> Iterator[None]:
        """Have the blob fetched, unless it is here, and wanted for the length of a block."""
        blob = self._content.hold(self._blob.digest, self._lease)
        if blob is not None and blob.size == self._blob.size:
            yield
            return
        self._check_room()
        self.fetched = True
        self._report("Pulling fs layer")
        incoming, mine = self._downloads.join(self._blob, self._progress)
        try:
            self._incoming = incoming
            if mine:
                pool.submit(self._fetch, incoming)
            else:
                self.borrowed = True
                self._report("Waiting")
            # A download that ended between the look above and this one has left the blob here.
            yield
        finally:
            incoming.leave(self._progress)

    def _check_room(self) -> None:
        free = os.statvfs(self._content.ingest)
        room = free.f_bavail * free.f_frsize
        if self._blob.size > room:
            raise PannierError(
                f"the layer {short_id(self._blob.digest)} has {self._blob.size} bytes, "
                f"but the disk has room for only {room}",
                hint="remove what is not needed: pannier system prune",
            )

    def _fetch(self, incoming: Incoming) -> None:
        error: BaseException | None = None
        try:
            incoming.unwanted.check()
            blob = self._blob
            known = self._content.hold(blob.digest, self._lease)
            if known is not None and known.size == blob.size:
                # Another pull's download ended between our look into the store and our joining.
                with self._content.open(blob.digest) as stream:
                    incoming.begin(stream.fileno(), blob.size, hidden=False)
                return
            with resume(self._content, self._lease, blob.digest, blob.size) as writer:
                download(self._repository.until(incoming.unwanted), incoming, writer)
        except BaseException as problem:  # noqa: BLE001 - whoever waits for the blob gets it
            error = problem
        finally:
            self._downloads.forget(incoming)
            if error is None:
                self._report("Download complete")
            incoming.end(error)

    def _progress(self, received: int) -> None:
        if received:
            self._report("Downloading", received)

    def _report(self, status: str, current: int = 0) -> None:
        if not self._quiet:
            total = self._blob.size if current else 0
            short = short_id(self._blob.digest)
            self._request.report(TransferEvent(status, short, current, total))

    def open(self, digest: str) -> io.RawIOBase:
        """Return the layer's stream, which may still be arriving."""
        if self._incoming is None:
            return self._content.open(digest, self._blob.size)
        return self._incoming.reader(self._request.cancellation, self._extracted)

    def _extracted(self, position: int) -> None:
        # A layer has one line on a terminal: as long as it comes down, that is what it shows.
        if self._incoming is not None and self._incoming.ended:
            self._report("Extracting", position)

    def wait(self) -> None:
        """Wait until the blob is whole and verified.

        :raises Cancelled: the pull was given up.
        """
        if self._incoming is not None:
            self._incoming.wait(self._request.cancellation)
