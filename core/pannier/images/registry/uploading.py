"""One blob on its way to a registry: looked for, taken over, or sent."""

from __future__ import annotations

import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING

from pannier.errors import Forbidden, NotFound
from pannier.images.registry.cancelling import Cancellation
from pannier.images.registry.refusals import RegistryError
from pannier.images.registry.transfers import TransferEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.images.images import ImageStore
    from pannier.images.oci import Descriptor
    from pannier.images.registry.client import Repository, Upload
    from pannier.images.registry.transfers import TransferRequest

__all__ = ["Uploader"]

_PIECE = 1 << 20
_CHUNK = 16 << 20
_TRIES = 5
_PAUSE = 0.25
_SOURCES = 3
_SERVER_ERRORS = 500
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
# What servers answer that take no blob whole: too large for them, or a method they do not know.
_IN_CHUNKS = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.LENGTH_REQUIRED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    HTTPStatus.NOT_IMPLEMENTED,
}


class Uploader:
    """Sends blobs of the content store to one repository. Safe to use from several threads.

    :ivar stop: set to end all of it: the request was given up, or one of the blobs failed.
    """

    def __init__(self, repository: Repository, store: ImageStore, request: TransferRequest) -> None:
        self.stop = Cancellation()
        self._repository = repository.until(self.stop)
        self._store = store
        self._request = request

    def _report(self, status: str, shown: str, current: int = 0, total: int = 0) -> None:
        if shown:
            self._request.report(TransferEvent(status, shown, current, total))

    def send(self, blob: Descriptor, shown: str) -> Descriptor:
        """See that the registry has a blob; return it.

        :param shown: what the blob is called in reports; empty for none.
        :raises RegistryError: the registry fails, time and again.
        """
        with self._request.cancellation.calling(self.stop.cancel):
            if not self.is_there(blob, shown):
                self.upload(blob, shown)
        return blob

    def is_there(self, blob: Descriptor, shown: str) -> bool:
        """Whether the registry has a blob, or took it over from another of its repositories."""
        if self._repository.has_blob(blob.digest):
            self._report("Layer already exists", shown)
            return True
        domain, own = self._request.reference.domain, self._request.reference.path
        homes = [home for home in self._store.homes_of(blob.digest, domain) if home != own]
        for home in homes[:_SOURCES]:
            # A repository that we may not read, or that has gone, is no harm.
            with contextlib.suppress(NotFound, Forbidden, RegistryError):
                begun = self._repository.mount(blob.digest, home)
                if begun is None:
                    self._report(f"Mounted from {home}", shown)
                    return True
                self._repository.abandon_upload(begun)
        return False

    def upload(self, blob: Descriptor, shown: str) -> None:
        """Send a blob, whole or in chunks, again and again where the connection breaks."""
        whole = True
        for attempt in range(1, _TRIES + 1):
            self.stop.check()
            try:
                self._upload(blob, shown, whole=whole)
            except RegistryError as error:
                status = error.http_status
                if whole and status in _IN_CHUNKS:
                    whole = False
                    continue
                if attempt == _TRIES or (0 < status < _SERVER_ERRORS and status not in _PASSING):
                    raise
            except NotFound:
                # The server forgot the upload that it had begun (it was restarted, perhaps).
                if attempt == _TRIES:
                    raise
            else:
                self._report("Pushed", shown)
                return
            self.stop.pause(_PAUSE * 2**attempt)

    def _upload(self, blob: Descriptor, shown: str, *, whole: bool) -> None:
        upload = self._repository.begin_upload()
        done = False
        try:
            if whole and not upload.chunk:
                self._repository.finish_upload(
                    upload, blob.digest, blob.size, lambda: self._content(blob, shown)
                )
            else:
                self._in_chunks(upload, blob, shown)
            done = True
        finally:
            if not done:
                self._repository.abandon_upload(upload)

    def _in_chunks(self, upload: Upload, blob: Descriptor, shown: str) -> None:
        size = max(upload.chunk, _CHUNK)
        offset = 0
        with self._store.content.open(blob.digest, blob.size) as stream:
            while offset < blob.size:
                self.stop.check()
                data = stream.read(min(size, blob.size - offset))
                self._repository.send_chunk(upload, offset, data)
                offset += len(data)
                self._report("Pushing", shown, offset, blob.size)
        self._repository.finish_upload(upload, blob.digest, 0, list)

    def _content(self, blob: Descriptor, shown: str) -> Iterator[bytes]:
        sent = 0
        with self._store.content.open(blob.digest, blob.size) as stream:
            while data := stream.read(_PIECE):
                self.stop.check()
                yield data
                sent += len(data)
                self._report("Pushing", shown, sent, blob.size)
