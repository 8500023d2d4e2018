"""Blobs on their way in: downloaded once for everybody, verified, resumed, readable meanwhile."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING

import urllib3

from pannier.errors import ImageInvalid
from pannier.images.registry.transport import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

    from pannier.images.content import BlobWriter
    from pannier.images.oci import Descriptor
    from pannier.images.registry.client import Repository

__all__ = ["Incoming", "download"]

_CHUNK = 1 << 20
_FRUITLESS_TRIES = 6
_PAUSE = 0.25


class Incoming:
    """A blob that one thread writes and others read from its beginning, as far as it has come.

    :param descriptor: digest and size that it must have in the end.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.received = 0
        self._file = -1
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def begin(self, descriptor: int) -> None:
        """Take the staged file to read from; it may be renamed and closed by the writer."""
        with self._changed:
            self._file = os.dup(descriptor)

    def advance(self, received: int) -> None:
        """Say how many bytes have arrived."""
        with self._changed:
            self.received = received
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Say that the blob is whole and verified, or why it never will be."""
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait for the end, and raise the error that there was."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended)
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        """Close the file. Idempotent; no reader may be in use."""
        with self._changed:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def reader(self) -> io.RawIOBase:
        """Return a stream that waits for what has not arrived, and ends once all was verified."""
        return _Reader(self)

    def read_at(self, buffer: WriteableBuffer, offset: int) -> int:
        """Read some bytes at *offset*, waiting until there are some; 0 at the verified end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self.received > offset)
            if self._error is not None:
                raise self._error
            available = self.received - offset
        if available <= 0:
            return 0
        view = memoryview(buffer).cast("B")[:available]
        return os.preadv(self._file, [view], offset)


class _Reader(io.RawIOBase):
    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._offset = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self._incoming.read_at(buffer, self._offset)
        self._offset += count
        return count


def download(
    repository: Repository,
    incoming: Incoming,
    writer: BlobWriter,
    progress: Callable[[int], None],
) -> None:
    """Fetch a blob into *writer*, going on where a broken connection left off, and commit it.

    Tries are counted anew whenever bytes have come.

    :param progress: called with the number of bytes that have arrived.
    :raises ImageInvalid: the server sent more than the size, or something of another digest.
    :raises RegistryError: it stopped sending before the end, time and again.
    """
    size = incoming.descriptor.size
    fruitless = 0
    while incoming.received < size:
        before = incoming.received
        problem = _continue(repository, incoming, writer, progress)
        if incoming.received >= size:
            break
        fruitless = 0 if incoming.received > before else fruitless + 1
        if fruitless >= _FRUITLESS_TRIES:
            raise RegistryError(
                f"{repository.transport.endpoint.host} stopped sending "
                f"{incoming.descriptor.digest} at {incoming.received} of {size} bytes"
                f"{f': {problem}' if problem else ''}"
            ) from problem
        repository.transport.pause(_PAUSE * 2**fruitless)
    writer.commit(size)


def _continue(
    repository: Repository,
    incoming: Incoming,
    writer: BlobWriter,
    progress: Callable[[int], None],
) -> Exception | None:
    """Fetch what is missing, as far as the connection goes; return what broke it."""
    descriptor = incoming.descriptor
    try:
        with repository.blob(descriptor.digest, incoming.received) as (response, begin):
            _skip(response, incoming.received - begin)
            while True:
                repository.transport.check_cancelled()
                data = response.read(_CHUNK)
                if not data:
                    return None
                if incoming.received + len(data) > descriptor.size:
                    raise ImageInvalid(
                        f"{repository.transport.endpoint.host} sent more than the "
                        f"{descriptor.size} bytes of {descriptor.digest}"
                    )
                writer.write(data)
                incoming.advance(incoming.received + len(data))
                progress(incoming.received)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return error


def _skip(response: urllib3.BaseHTTPResponse, count: int) -> None:
    """Pass over what a server without ranges sends again."""
    while count > 0:
        data = response.read(min(_CHUNK, count))
        if not data:
            return
        count -= len(data)
