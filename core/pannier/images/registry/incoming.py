"""Blobs on their way in: downloaded once for everybody, verified, resumed, readable meanwhile."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING

import urllib3

from pannier.errors import ImageInvalid
from pannier.images.partial import ResumedWriter
from pannier.images.registry.cancelling import Cancellation
from pannier.images.registry.refusals import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

    from pannier.images.content import BlobWriter
    from pannier.images.oci import Descriptor
    from pannier.images.registry.client import BlobStream, Repository

__all__ = ["Incoming", "download"]

_CHUNK = 1 << 20
_FRUITLESS_TRIES = 6
_PAUSE = 0.25


class Incoming:
    """A blob that one thread writes and others read from its beginning, as far as it has come.

    It is there as long as anybody wants it: the last to :meth:`leave` gives the download up.

    :param descriptor: digest and size that it must have in the end.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.received = 0
        self.unwanted = Cancellation()
        self._file = -1
        self._hidden = False
        self._ended = False
        self._error: BaseException | None = None
        self._users = 0
        self._watchers: list[Callable[[int], None]] = []
        self._changed = threading.Condition()

    # For those who want the blob.

    def join(self, watch: Callable[[int], None]) -> bool:
        """Want the blob from now on; False if it is too late, as the others gave it up.

        :param watch: called, on the thread that downloads, with the bytes that have arrived.
        """
        with self._changed:
            if self.unwanted.cancelled:
                return False
            self._users += 1
            self._watchers.append(watch)
            return True

    def leave(self, watch: Callable[[int], None]) -> None:
        """Want it no more."""
        with self._changed:
            self._users -= 1
            self._watchers.remove(watch)
            if self._users == 0:
                self.unwanted.cancel()
                self._close_unused()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    def wait(self, cancellation: Cancellation) -> None:
        """Wait for the end, and raise the error that there was.

        :raises Cancelled: the waiting was given up.
        """
        with cancellation.calling(self._wake), self._changed:
            self._changed.wait_for(lambda: self._ended or cancellation.cancelled)
            cancellation.check()
            if self._error is not None:
                raise self._error

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def reader(self, cancellation: Cancellation, progress: Callable[[int], None]) -> io.RawIOBase:
        """Return a stream that waits for what has not arrived, and ends once all was verified.

        :param progress: called with how far it was read.
        """
        return _Reader(self, cancellation, progress)

    def read_at(self, buffer: WriteableBuffer, offset: int, cancellation: Cancellation) -> int:
        """Read some bytes at *offset*, waiting until there are some; 0 at the verified end."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._ended
                    or (self.received > offset and not self._hidden)
                    or cancellation.cancelled
                )
            )
            cancellation.check()
            if self._error is not None:
                raise self._error
            available = self.received - offset
        if available <= 0:
            return 0
        view = memoryview(buffer).cast("B")[:available]
        return os.preadv(self._file, [view], offset)

    # For the one who downloads it.

    def begin(self, descriptor: int, received: int, *, hidden: bool) -> None:
        """Take the staged file to read from; it may be renamed and closed by the writer.

        :param hidden: let nobody read before the end.
        """
        with self._changed:
            self._file = os.dup(descriptor)
            self._hidden = hidden
        self.advance(received)

    def advance(self, received: int) -> None:
        """Say how many bytes have arrived."""
        with self._changed:
            self.received = received
            self._changed.notify_all()
            watchers = tuple(self._watchers)
        for watch in watchers:
            watch(received)

    def end(self, error: BaseException | None = None) -> None:
        """Say that the blob is whole and verified, or why it never will be."""
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()
            if self._users == 0:
                self._close_unused()

    def _close_unused(self) -> None:
        if self._ended and self._file >= 0:
            os.close(self._file)
            self._file = -1


class _Reader(io.RawIOBase):
    def __init__(
        self, incoming: Incoming, cancellation: Cancellation, progress: Callable[[int], None]
    ) -> None:
        self._incoming = incoming
        self._cancellation = cancellation
        self._progress = progress
        self._offset = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        # Registered only while there is something to wait for would be a race; this is cheap.
        with self._cancellation.calling(self._incoming._wake):  # noqa: SLF001 - one module's own
            count = self._incoming.read_at(buffer, self._offset, self._cancellation)
        self._offset += count
        if count:
            self._progress(self._offset)
        return count


def download(repository: Repository, incoming: Incoming, writer: BlobWriter) -> None:
    """Fetch a blob into *writer*, going on where a broken connection left off, and commit it.

    Tries are counted anew whenever bytes have come. What an earlier pull left is used; if the
    whole is not right then, the blob is fetched once more from its beginning.

    :raises ImageInvalid: the server sent more than the size, or something of another digest.
    :raises RegistryError: it stopped sending before the end, time and again.
    """
    size = incoming.descriptor.size
    resumed = writer.written
    # What was on the disk before is shown to nobody until it is known to be right.
    incoming.begin(writer.fileno(), resumed, hidden=resumed > 0)
    _fetch(repository, incoming, writer)
    if resumed and isinstance(writer, ResumedWriter) and not writer.is_right():
        writer.restart()
        incoming.advance(0)
        _fetch(repository, incoming, writer)
    writer.commit(size)


def _fetch(repository: Repository, incoming: Incoming, writer: BlobWriter) -> None:
    descriptor = incoming.descriptor
    fruitless = 0
    while incoming.received < descriptor.size:
        before = incoming.received
        problem = _continue(repository, incoming, writer)
        if incoming.received >= descriptor.size:
            return
        fruitless = 0 if incoming.received > before else fruitless + 1
        if fruitless >= _FRUITLESS_TRIES:
            raise RegistryError(
                f"{repository.host} stopped sending {descriptor.digest} at "
                f"{incoming.received} of {descriptor.size} bytes"
                f"{f': {problem}' if problem else ''}"
            ) from problem
        repository.cancellation.pause(_PAUSE * 2**fruitless)


def _continue(repository: Repository, incoming: Incoming, writer: BlobWriter) -> Exception | None:
    """Fetch what is missing, as far as the connection goes; return what broke it."""
    descriptor = incoming.descriptor
    try:
        with repository.blob(descriptor.digest, incoming.received) as stream:
            _check(repository, descriptor, stream, incoming.received)
            _skip(stream, incoming.received - stream.begin)
            while data := stream.read(_CHUNK):
                repository.cancellation.check()
                if incoming.received + len(data) > descriptor.size:
                    raise _too_long(repository, descriptor)
                writer.write(data)
                incoming.advance(incoming.received + len(data))
                if incoming.received == descriptor.size and stream.announced is not None:
                    return None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return error
    return None


def _check(
    repository: Repository, descriptor: Descriptor, stream: BlobStream, received: int
) -> None:
    if stream.announced is not None and stream.announced != descriptor.size:
        raise ImageInvalid(
            f"{repository.host} announces {stream.announced} bytes of {descriptor.digest}, "
            f"which the manifest says has {descriptor.size}"
        )
    if stream.begin > received:
        raise RegistryError(
            f"{repository.host} sent {descriptor.digest} from byte {stream.begin} on, "
            f"where byte {received} was asked for"
        )


def _too_long(repository: Repository, descriptor: Descriptor) -> ImageInvalid:
    return ImageInvalid(
        f"{repository.host} sent more than the {descriptor.size} bytes of {descriptor.digest}"
    )


def _skip(stream: BlobStream, count: int) -> None:
    """Pass over what a server without ranges sends again."""
    while count > 0:
        data = stream.read(min(_CHUNK, count))
        if not data:
            return
        count -= len(data)
