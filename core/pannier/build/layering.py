"""COPY, ADD and WORKDIR: steps that write files into a new layer. Everything here blocks."""

from __future__ import annotations

import contextlib
import os
import posixpath
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from pannier.build.copying import Attributes, Destination, archive_stream, as_stream
from pannier.build.sources import Item, combined_digest
from pannier.drivers.operations import Transaction
from pannier.drivers.storage import ContainerLayer
from pannier.engine import users
from pannier.errors import InvalidRequest, NotFound
from pannier.linux.xattrs import proc_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.build.ignore import IgnoreRules
    from pannier.build.sources import Root
    from pannier.build.state import Committer, State
    from pannier.images.oci import Descriptor

__all__ = ["Commit", "Copying", "Text", "make_folder", "parse_mode", "write_copy"]


@dataclass(frozen=True, slots=True)
class Text:
    """A file that stands in the Dockerfile itself (a heredoc), or was fetched."""

    item: Item
    data: bytes
    mtime: int
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Copying:
    """A COPY or ADD with everything decided but who the owner is.

    :param destination: absolute; ends with a slash where it was written so.
    :param chown: names are looked up in the image's own files; empty is root, or, with *keep*,
        the source's owner.
    :param unpack: archives among the sources are unpacked.
    :param parents: the sources' folders are made in the destination.
    """

    items: tuple[tuple[Root, Item], ...]
    texts: tuple[Text, ...]
    destination: str
    chown: str = ""
    mode: int | None = None
    keep: bool = False
    unpack: bool = False
    parents: bool = False
    excludes: IgnoreRules | None = None

    @property
    def digest(self) -> str:
        """What goes in, without times."""
        items = [item for _, item in self.items]
        return combined_digest([*items, *(text.item for text in self.texts)])

    def check(self) -> None:
        """Refuse several sources for one file.

        :raises InvalidRequest: in Docker's words.
        """
        count = len(self.items) + len(self.texts)
        if not count:
            raise InvalidRequest("no source files were specified", hint="the pattern fits no file")
        if count > 1 and not self.destination.endswith("/"):
            raise InvalidRequest(
                "When using COPY with more than one source file, the destination must be a "
                "directory and end with a /",
                hint="end the destination with a slash",
            )


def parse_mode(text: str) -> int | None:
    """Return the permission bits of ``--chmod``; None for none.

    :raises InvalidRequest: it is not octal.
    """
    if not text:
        return None
    if len(text) > 5 or any(digit not in "01234567" for digit in text):
        raise InvalidRequest(f"invalid --chmod: {text[:50]!r}", hint="write octal digits, 0755")
    return int(text, 8) & 0o7777


class Commit(Protocol):
    """Makes the image of a step."""

    def __call__(self, layer: Descriptor | None, *, container: str | None) -> State:
        """Commit *layer*, which was written from the container layer *container*."""


@contextlib.contextmanager
def _layer(committer: Committer, top: str | None) -> Iterator[str]:
    """Give the key of a new writable layer."""
    storage = committer.store.storage
    key = f"build-{secrets.token_hex(16)}"
    Transaction().run(storage.plan_create_container(ContainerLayer(key, top)))
    try:
        yield key
    finally:
        storage.remove_container(key)


@contextlib.contextmanager
def _root(committer: Committer, key: str) -> Iterator[int]:
    """Give a descriptor of a layer's root; with the block its mount is gone."""
    root = Transaction().run(committer.store.storage.plan_open_root(key))
    try:
        yield root
    finally:
        os.close(root)


def make_folder(committer: Committer, top: str | None, path: str, commit: Commit) -> State:
    """Make a working directory, if it is not there already."""
    with _layer(committer, top) as key:
        with _root(committer, key) as root:
            destination = Destination(root)
            there = destination.is_folder(path)
            if not there:
                os.close(destination.make_folder(path))
        return commit(None if there else committer.layer(key), container=key)


def write_copy(committer: Committer, top: str | None, copying: Copying, commit: Commit) -> State:
    """Copy files into a new layer.

    :raises InvalidRequest: an owner is unknown, or something is in the way.
    """
    with _layer(committer, top) as key:
        with _root(committer, key) as root:
            owner = _owner(root, copying.chown) if copying.chown else (0, 0)
            kept = copying.keep and not copying.chown
            wanted = Attributes(None if kept else owner, copying.mode)
            writer = _Writer(committer, copying, Destination(root), wanted)
            for source, item in copying.items:
                writer.copy(source, item)
            for text in copying.texts:
                writer.write(text)
        return commit(committer.layer(key), container=key)


def _owner(root: int, chown: str) -> tuple[int, int]:
    """Return the ids that ``--chown`` means; a lone user's group is that of its own name."""
    try:
        if ":" in chown:
            found = users.find(root, chown)
        else:
            try:
                found = users.find(root, f"{chown}:{chown}")
            except NotFound:
                found = users.find(root, chown)
    except NotFound as error:
        raise InvalidRequest(
            f"unable to convert uid/gid chown string to host mapping: {error.message}",
            hint=error.hint,
        ) from None
    return found.uid, found.gid


class _Writer:
    def __init__(
        self,
        committer: Committer,
        copying: Copying,
        destination: Destination,
        wanted: Attributes,
    ) -> None:
        self._limits = committer.store.limits
        self._copying = copying
        self._to = destination
        self._wanted = wanted

    def copy(self, source: Root, item: Item) -> None:
        path = self._copying.destination
        if self._copying.parents:
            folder = item.path if item.folder else posixpath.dirname(item.path)
            path = posixpath.join(path, folder) + "/"
        descriptor = source.open(item.path)
        try:
            if item.folder:
                self._to.copy_folder(descriptor, path, self._wanted, self._copying.excludes)
            elif not (self._copying.unpack and self._unpacked(descriptor, path)):
                self._to.copy_file(descriptor, self._target(path, item), self._wanted)
        finally:
            os.close(descriptor)

    def write(self, text: Text) -> None:
        wanted = self._wanted
        if text.mode is not None and wanted.mode is None:
            wanted = replace(wanted, mode=text.mode)
        target = self._target(self._copying.destination, text.item)
        self._to.write_file(text.data, target, wanted, text.mtime)

    def _target(self, path: str, item: Item) -> str:
        if path.endswith("/") or self._to.is_folder(path):
            return posixpath.join(path, item.name)
        return path

    def _unpacked(self, descriptor: int, path: str) -> bool:
        opened = os.open(proc_path(descriptor), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with as_stream(opened) as stream:
            plain = archive_stream(stream, self._limits)
            if plain is None:
                return False
            self._to.unpack(plain, path, self._wanted.folder_owner)
        return True
