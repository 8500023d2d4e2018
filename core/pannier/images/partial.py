"""Downloads that may be resumed: kept by digest in the ingest folder until their image is whole.

A download writes ``ingest/partial-ALGORITHM-HEX``. When it is verified it gets its name in
``blobs/`` as well, as a hard link, so that a pull that is given up or killed later on (whose blobs
are then collected, as nothing references them) loses none of what it fetched. A finished pull
drops the ingest names; those of pulls that never finish go after a day.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from typing import TYPE_CHECKING

from pannier.images.content import PARTIAL_PREFIX, BlobWriter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pannier.images.content import ContentStore
    from pannier.images.leases import Lease

__all__ = ["ResumedWriter", "expire_partials", "finish_partials", "resume"]

KEPT_SECONDS = 24 * 3600.0
_NAME = re.compile(rf"{PARTIAL_PREFIX}([a-z0-9]+)-([0-9a-f]+)")
_CHUNK = 1 << 20


def resume(store: ContentStore, lease: Lease, digest: str, size: int) -> BlobWriter:
    """Begin a download, or go on with one that was broken off.

    :attr:`BlobWriter.written` says how much is there already. If another one is at the same blob
    right now, this is an ordinary writer that keeps nothing.

    :param size: what the blob must have in the end; a file that is longer is begun anew.
    """
    path = _path(store, digest)
    descriptor = _open_locked(path)
    if descriptor is None:
        return store.writer(lease, digest)
    if os.fstat(descriptor).st_nlink > 1:
        # The store's own blob, which is not what it was, or it would not be fetched again.
        path.unlink()
        os.close(descriptor)
        return resume(store, lease, digest, size)
    writer = ResumedWriter(store, lease, digest, path, descriptor)
    if os.fstat(descriptor).st_size > size:
        writer.restart()
    else:
        writer.read_back()
    return writer


def _open_locked(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Somebody may have finished and dropped it between the opening and the locking.
        mine = _is_same(descriptor, path)
    except BlockingIOError:
        mine = False
    except BaseException:
        os.close(descriptor)
        raise
    if mine:
        return descriptor
    os.close(descriptor)
    return None


def _path(store: ContentStore, digest: str) -> Path:
    return store.ingest / (PARTIAL_PREFIX + digest.replace(":", "-"))


def _is_same(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


class ResumedWriter(BlobWriter):
    """Writes a download; what is there when it is closed stays for the next one.

    Holds a lock on the file, which the kernel lets go with the process.
    """

    def __init__(
        self, store: ContentStore, lease: Lease, digest: str, path: Path, descriptor: int
    ) -> None:
        super().__init__(store, lease, digest, staged=(path, descriptor))

    def read_back(self) -> None:
        """Hash what is there already, and go on behind it."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        while data := os.read(self._descriptor, _CHUNK):
            self._hash.update(data)
            self._hashed += len(data)

    def is_right(self) -> bool:
        """Whether what is there has the digest that it must have."""
        return f"{self._algorithm}:{self._hash.hexdigest()}" == self._expected

    def restart(self) -> None:
        """Throw away what is there, and begin anew."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._begin_hash()

    def _place(self, target: Path) -> None:
        # A link that replaces what is there, as a rename does: it may be a damaged blob.
        staged = self._store.ingest / secrets.token_hex(16)
        os.link(self._path, staged)
        staged.rename(target)

    def _throw_away(self) -> None:
        if not self._wrong and os.fstat(self._descriptor).st_size:
            os.utime(self._descriptor)
        else:
            self._path.unlink(missing_ok=True)


def finish_partials(store: ContentStore, digests: Iterable[str]) -> None:
    """Drop the ingest names of blobs: an image references them now, or none ever will.

    One that a download is at stays. Idempotent.
    """
    for digest in digests:
        _drop(_path(store, digest))


def _drop(path: Path, newer_than: float | None = None) -> int:
    """Remove a file, unless a download is at it or it is too new; return the bytes freed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        status = os.fstat(descriptor)
        if newer_than is not None and status.st_mtime > newer_than:
            return 0
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return 0
    finally:
        os.close(descriptor)
    # A second link is an image's blob, whose bytes stay.
    return status.st_size if status.st_nlink == 1 else 0


def expire_partials(store: ContentStore, older_than: float = KEPT_SECONDS) -> int:
    """Remove what pulls left that were not resumed, unless one is at it; return the bytes.

    :param older_than: seconds since a pull was last at it.
    """
    limit = time.time() - older_than
    names = [path for path in store.ingest.iterdir() if _NAME.fullmatch(path.name)]
    return sum(_drop(path, limit) for path in names)
