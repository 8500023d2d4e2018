"""The content store: blobs named by their digests, in a folder of the OCI image-layout form.

A blob is staged in ``ingest/``, hashed while it is written, and renamed into ``blobs/`` only once
its digest is known and is the one expected: under a digest there is never anything else. The
layout's names (its ``index.json``) live in the database, where they change in transactions.

As with the database, a killed process loses nothing that was finished; after a power cut a blob
may be short, and readers say so.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.errors import ImageInvalid, NotFound, PannierError
from pannier.images.digest import check_digest, digest_of, encoded, is_digest, new_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from _typeshed import ReadableBuffer

    from pannier.images.leases import Lease, Leases

__all__ = ["PARTIAL_PREFIX", "Blob", "BlobWriter", "ContentStore"]

PARTIAL_PREFIX = "partial-"
"""How names in ``ingest/`` begin that outlive their process: see :mod:`pannier.images.partial`."""

_BUFFER = 1 << 20
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True)
class Blob:
    """Content that is in the store; *size* in bytes."""

    digest: str
    size: int


class BlobWriter(io.RawIOBase):
    """A blob being written; thrown away unless :meth:`commit` succeeds.

    :param expected: the digest that the content must have; None if it is not known before.
    :param staged: the file to write, and its descriptor, which becomes the writer's; by default a
        new one.
    """

    def __init__(
        self,
        store: ContentStore,
        lease: Lease,
        expected: str | None,
        staged: tuple[Path, int] | None = None,
    ) -> None:
        self._store = store
        self._lease = lease
        self._expected = expected
        self._wrong = False
        self._begin_hash()
        if staged is None:
            path = store.ingest / secrets.token_hex(16)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            staged = path, os.open(path, flags, 0o600)
        self._path, self._descriptor = staged

    def _begin_hash(self) -> None:
        self._hash = new_hash((self._expected or "sha256:").partition(":")[0])
        self._algorithm = self._hash.name
        self._hashed = 0

    @property
    def written(self) -> int:
        """How many bytes are there."""
        return self._hashed

    def fileno(self) -> int:
        """Return the staged file's descriptor; what is written through it is hashed at the end."""
        return self._descriptor

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of *data*."""
        view = memoryview(data).cast("B")
        self._hash.update(view)
        self._hashed += len(view)
        left = view
        while left:
            left = left[os.write(self._descriptor, left) :]
        return len(view)

    def commit(self, size: int | None = None) -> Blob:
        """Check the content and move it to its place.

        :param size: the number of bytes it must have; None if that is not known.
        :raises ImageInvalid: it is not what was expected; nothing is kept.
        """
        try:
            blob = self._checked(size)
            self._lease.hold(blob.digest)
            self._place(self._store.path(blob.digest))
        except BaseException as error:
            self._wrong = isinstance(error, ImageInvalid)
            self.close()
            raise
        os.close(self._descriptor)
        self._descriptor = -1
        return blob

    def _checked(self, size: int | None) -> Blob:
        written = os.fstat(self._descriptor).st_size
        if size is not None and written != size:
            raise ImageInvalid(
                f"a blob of {size} bytes was expected, {written} bytes came",
                hint="the archive or transfer is damaged; fetch it again",
            )
        if self._hashed != written:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            with io.FileIO(self._descriptor, closefd=False) as staged:
                self._hash = hashlib.file_digest(staged, self._algorithm)
        digest = f"{self._algorithm}:{self._hash.hexdigest()}"
        if self._expected not in (None, digest):
            raise ImageInvalid(
                f"content of digest {self._expected} was expected, that of {digest} came",
                hint="the archive or transfer is damaged, or someone changed it",
            )
        return Blob(digest, written)

    def _place(self, target: Path) -> None:
        self._path.rename(target)

    def _throw_away(self) -> None:
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Throw the content away, unless it was committed. Idempotent."""
        if self._descriptor >= 0:
            try:
                self._throw_away()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1
        super().close()


class ContentStore:
    """Blobs on disk.

    :param root: the folder; made where it does not exist. One process at a time may use it.
    """

    def __init__(self, root: Path, leases: Leases) -> None:
        self.root = root
        self.ingest = root / "ingest"
        self._leases = leases
        for folder in (root, root / "blobs", root / "blobs" / "sha256", self.ingest):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout = root / "oci-layout"
        if not layout.exists():
            staged = self.ingest / "oci-layout"
            staged.write_bytes(_LAYOUT)
            staged.rename(layout)
        # Whatever else is staged was being written by a process that is gone.
        for leftover in self.ingest.iterdir():
            if not leftover.name.startswith(PARTIAL_PREFIX):
                leftover.unlink()

    def path(self, digest: str) -> Path:
        """Return where a blob is or would be.

        :raises InvalidRequest: *digest* is none.
        """
        algorithm, _, value = check_digest(digest).partition(":")
        folder = self.root / "blobs" / algorithm
        if algorithm != "sha256":
            folder.mkdir(mode=0o700, exist_ok=True)
        return folder / value

    def has(self, digest: str) -> bool:
        """Whether the blob is here."""
        return self.path(digest).exists()

    def hold(self, digest: str, lease: Lease) -> Blob | None:
        """Hold a blob if it is here: then it stays as long as the lease. None if it is not."""
        lease.hold(digest)
        try:
            return Blob(digest, self.path(digest).stat().st_size)
        except FileNotFoundError:
            return None

    def open(self, digest: str, size: int | None = None) -> io.FileIO:
        """Open a blob for reading, unbuffered.

        :param size: the number of bytes that it must have, where known.
        :raises NotFound: it is not here.
        :raises PannierError: it is not whole any more.
        """
        try:
            stream = io.FileIO(self.path(digest), "rb")
        except FileNotFoundError:
            raise NotFound(
                f"blob {digest} is not in the image store", hint="load or pull its image again"
            ) from None
        if size is not None and os.fstat(stream.fileno()).st_size != size:
            stream.close()
            raise _damaged(digest)
        return stream

    def read(self, digest: str) -> bytes:
        """Return a small blob (a manifest or a configuration), verified.

        :raises NotFound: it is not here.
        :raises PannierError: it is not whole any more.
        """
        with self.open(digest) as stream:
            data = stream.readall()
        algorithm = digest.partition(":")[0]
        if hashlib.new(algorithm, data).hexdigest() != encoded(digest):
            raise _damaged(digest)
        return data

    def writer(self, lease: Lease, expected: str | None = None) -> BlobWriter:
        """Begin a blob; use it in a ``with`` block, and commit it there."""
        if expected is not None:
            check_digest(expected)
        return BlobWriter(self, lease, expected)

    def put(self, data: bytes, lease: Lease) -> Blob:
        """Store a small blob; if it is here already, hold it."""
        digest = digest_of(data)
        known = self.hold(digest, lease)
        if known is not None and known.size == len(data):
            return known
        with self.writer(lease, digest) as writer:
            writer.write(data)
            return writer.commit()

    def digests(self) -> Iterator[str]:
        """Yield the digest of every blob."""
        for folder in (self.root / "blobs").iterdir():
            for blob in folder.iterdir():
                digest = f"{folder.name}:{blob.name}"
                if is_digest(digest):
                    yield digest

    def collect(self, candidates: Iterable[str], referenced: Callable[[str], bool]) -> int:
        """Remove those *candidates* that nobody holds and nothing references; return the bytes.

        Must not be called inside a transaction: it waits for locks.
        """
        freed = 0
        for digest in candidates:
            with self._leases.locked(digest):
                if self._leases.held(digest) or referenced(digest):
                    continue
                path = self.path(digest)
                with contextlib.suppress(FileNotFoundError):
                    size = path.stat().st_size
                    path.unlink()
                    freed += size
        return freed


def _damaged(digest: str) -> PannierError:
    return PannierError(
        f"blob {digest} in the image store is damaged",
        hint="remove the image and load or pull it again",
    )
