"""Takes an image archive apart: every file of it becomes a blob of the content store.

The archive is read once, forwards, and never held in memory: it may come from a socket. Names and
links are only looked up among the archive's own files; nothing is ever unpacked by its name.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, BinaryIO

from pannier.errors import ImageInvalid
from pannier.images.compression import open_stream
from pannier.images.digest import is_digest
from pannier.images.jsonutil import MAX_DOCUMENT
from pannier.images.tar_reader import TarReader

if TYPE_CHECKING:
    from pannier.images.compression import Limits
    from pannier.images.content import Blob, ContentStore
    from pannier.images.leases import Lease
    from pannier.images.tar_reader import TarEntry

__all__ = ["Archive"]

_MAX_MEMBERS = 20_000
_MAX_LINKS = 8
_MAX_NAME = 4096


class Archive:
    """The files of an archive, by name.

    :param lease: holds every blob that the archive turned into.
    """

    def __init__(self, content: ContentStore, lease: Lease) -> None:
        self._content = content
        self._lease = lease
        self._files: dict[str, Blob] = {}
        self._links: dict[str, str] = {}

    def read(self, stream: BinaryIO, limits: Limits) -> None:
        """Read an archive, compressed or not, to its end.

        :raises ImageInvalid: it is broken, hostile or over the limits.
        """
        plain, _ = open_stream(stream, limits)
        reader = TarReader(plain, max_bytes=limits.size)
        members = 0
        while (entry := reader.next()) is not None:
            members += 1
            if members > _MAX_MEMBERS:
                raise ImageInvalid(
                    f"the archive has more than {_MAX_MEMBERS} members",
                    hint="an image archive has a few for each layer; to make an image of a root "
                    "filesystem use `pannier import`",
                )
            self._take(reader, entry)
        reader.drain()

    def _take(self, reader: TarReader, entry: TarEntry) -> None:
        name = _member_name(entry.name)
        if entry.type == b"0":
            self._links.pop(name, None)
            self._files[name] = self._store(reader, entry, name)
        elif entry.type in b"12":
            # Hard links name a member from the top, symbolic ones from where they are.
            folder = "" if entry.type == b"1" else posixpath.dirname(name)
            self._files.pop(name, None)
            self._links[name] = _member_name(
                posixpath.join(folder, entry.link.decode("utf-8", "surrogateescape")).encode(
                    "utf-8", "surrogateescape"
                )
            )
        elif entry.type != b"5":
            raise ImageInvalid(f"the archive's member {name!r} is a device or a fifo")

    def _store(self, reader: TarReader, entry: TarEntry, name: str) -> Blob:
        expected = _digest_in(name)
        if expected is not None:
            known = self._content.hold(expected, self._lease)
            # What is here was verified; the archive's copy is skipped unread.
            if known is not None and known.size == entry.size:
                return known
        with self._content.writer(self._lease, expected) as writer:
            reader.copy_to(writer.fileno(), entry)
            return writer.commit(entry.size)

    def names(self) -> list[str]:
        """Return the names of all files and links."""
        return [*self._files, *self._links]

    def find(self, name: str) -> Blob | None:
        """Return the file of a name, through links; None if there is none."""
        for _ in range(_MAX_LINKS):
            blob = self._files.get(name)
            if blob is not None:
                return blob
            target = self._links.get(name)
            if target is None:
                return None
            name = target
        raise ImageInvalid(f"the archive's link {name!r} leads in a circle")

    def get(self, name: str) -> Blob:
        """Return the file that one of the archive's documents names.

        :raises ImageInvalid: it is not there, or the name leads out of the archive.
        """
        blob = self.find(_member_name(name.encode("utf-8", "surrogateescape")))
        if blob is None:
            raise ImageInvalid(
                f"the archive has no member {name[:200]!r}, which its manifest names",
                hint="was it copied whole?",
            )
        return blob

    def document(self, name: str) -> bytes:
        """Return a small file's bytes.

        :raises ImageInvalid: it is not there or too large.
        """
        return self.small(self.get(name), name)

    def small(self, blob: Blob, name: str) -> bytes:
        """Return a small blob's bytes.

        :raises ImageInvalid: it is too large to be a document.
        """
        if blob.size > MAX_DOCUMENT:
            raise ImageInvalid(f"{name[:200]!r} is longer than {MAX_DOCUMENT >> 20} MiB")
        return self._content.read(blob.digest)


def _member_name(raw: bytes) -> str:
    name = raw.decode("utf-8", "surrogateescape")
    normal = posixpath.normpath(name)
    if len(name) > _MAX_NAME or normal.startswith("/") or normal.split("/", 1)[0] == "..":
        raise ImageInvalid(f"the archive's member name {name[:200]!r} leads out of the archive")
    return normal


def _digest_in(name: str) -> str | None:
    """Return the digest that a file's place in an image layout says."""
    parts = name.split("/")
    if len(parts) == 3 and parts[0] == "blobs":
        digest = f"{parts[1]}:{parts[2]}"
        if is_digest(digest):
            return digest
    return None
