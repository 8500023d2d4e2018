"""Copying into and out of containers, and exporting them.

A path is resolved in the container's root as a process inside would resolve it, whatever links are
there; it cannot lead out. Only plain system calls on descriptors touch what is inside.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.drivers.operations import Abandonment
from pannier.engine import users
from pannier.engine.extract import Extraction
from pannier.engine.gomode import go_mode
from pannier.engine.model import MountKind
from pannier.engine.results import PathStat
from pannier.errors import Forbidden, InvalidRequest, NotFound
from pannier.images.pack import pack_tree
from pannier.linux.paths import open_in_root

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from typing import BinaryIO

    from pannier.engine.entering import Entering
    from pannier.engine.model import Container
    from pannier.engine.registry import Live
    from pannier.engine.telling import Teller
    from pannier.engine.workers import Workers

__all__ = ["Archives"]


@dataclass(slots=True)
class Archives:
    """Copies files in and out."""

    entering: Entering
    teller: Teller
    workers: Workers

    async def stat(self, live: Live, path: str) -> PathStat:
        """Return what is at *path*; a link itself, unless the path ends in a slash.

        :raises NotFound: there is nothing.
        """
        async with live.lock:
            return await self.workers.bounded(self._stat, live.container, path)

    def _stat(self, container: Container, path: str) -> PathStat:
        with self.entering.root(container) as root, _opened(container, root, path) as descriptor:
            return _described(root, descriptor, path)

    async def get(self, live: Live, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        """Return what is at *path*, and an archive of it.

        The archive's names begin with the path's last component. The container may go on, stop
        or be removed while it is read.

        :raises NotFound: there is nothing.
        """
        async with live.lock:
            container = live.container
            stack, found, descriptor = await self.workers.bounded(self._open, container, path)
        self.teller.container(container, "archive-path")

        def pack(out: BinaryIO) -> None:
            pack_tree(descriptor, out, prefix=_base(path), idmap=container.idmap)

        return found, self._closing(stack, self.workers.written(pack))

    def _open(self, container: Container, path: str) -> tuple[contextlib.ExitStack, PathStat, int]:
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(self.entering.root(container))
            descriptor = stack.enter_context(_opened(container, root, path))
            found = _described(root, descriptor, path)
            Abandonment.check()  # nobody would close it
            return stack.pop_all(), found, descriptor
        raise AssertionError

    async def _closing(
        self, stack: contextlib.ExitStack, chunks: AsyncGenerator[bytes, None]
    ) -> AsyncIterator[bytes]:
        with stack:
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    yield chunk

    async def put(
        self,
        live: Live,
        path: str,
        chunks: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool = False,
        copy_uid_gid: bool = False,
    ) -> None:
        """Unpack an archive, compressed or not, in the folder *path*.

        :param no_overwrite_dir_non_dir: a folder does not replace a file, nor a file a folder.
        :param copy_uid_gid: everything is to belong to the container's user, not to the owners
            that the archive names.
        :raises NotFound: there is no such path.
        :raises InvalidRequest: it is no folder; the archive is broken.
        :raises Forbidden: it is mounted read-only.
        """
        async with self.workers.reading(chunks) as stream, live.lock:
            stack, extraction = await self.workers.bounded(
                self._open_to_put,
                live.container,
                path,
                keep_types=no_overwrite_dir_non_dir,
                own=copy_uid_gid,
            )
            with stack:
                await self.workers.bulk(extraction.run, stream)
        self.teller.container(live.container, "extract-to-dir")

    def _open_to_put(
        self, container: Container, path: str, *, keep_types: bool, own: bool
    ) -> tuple[contextlib.ExitStack, Extraction]:
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(self.entering.root(container))
            with _opened(container, root, path, folder=True) as folder:
                if not stat.S_ISDIR(os.fstat(folder).st_mode):
                    raise InvalidRequest("extraction point is not a directory")
                # Where the path really is, so that links in the archive's own paths count from
                # the container's root.
                place = _inside(root, folder)
            _check_writable(container, place)
            owner = None
            if own:
                account = users.find(root, container.config.user)
                owner = (account.uid, account.gid)
            Abandonment.check()  # nobody would close it
            inside = os.path.relpath(place, "/")
            extraction = Extraction(root, inside, container.idmap, owner, keep_types=keep_types)
            return stack.pop_all(), extraction
        raise AssertionError

    async def export(self, live: Live) -> AsyncIterator[bytes]:
        """Return a container's whole root as an archive, without what is mounted in it."""
        async with live.lock:
            container = live.container
            stack, root = await self.workers.bounded(self._open_bare, container)
        self.teller.container(container, "export")

        def pack(out: BinaryIO) -> None:
            pack_tree(root, out, idmap=container.idmap)

        return self._closing(stack, self.workers.written(pack))

    def _open_bare(self, container: Container) -> tuple[contextlib.ExitStack, int]:
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(self.entering.bare_root(container))
            Abandonment.check()  # nobody would close it
            return stack.pop_all(), root
        raise AssertionError


def _normal(path: str) -> str:
    # POSIX has two slashes at the beginning mean something else, and normpath() leaves them.
    return posixpath.normpath("/" + path.lstrip("/"))


def _base(path: str) -> str:
    return posixpath.basename(_normal(path)) if not path.endswith("/.") else "."


@contextlib.contextmanager
def _opened(container: Container, root: int, path: str, *, folder: bool = False) -> Iterator[int]:
    """Give a descriptor that names what is at *path*; its last link is not followed.

    :param folder: it is followed, and must lead to a folder.
    """
    flags = os.O_PATH | os.O_NOFOLLOW
    # An ending in a slash or "/." asks for what a link leads to, as a folder.
    folder = folder or path.endswith(("/", "/."))
    try:
        if folder:
            descriptor = open_in_root(root, "/" + path, os.O_PATH | os.O_DIRECTORY)
        else:
            descriptor = open_in_root(root, "/" + path, flags)
    except NotADirectoryError as error:
        raise InvalidRequest(f"not a directory: {path}") from error
    except OSError as error:
        raise NotFound(
            f"Could not find the file {path} in container {container.name}",
            hint="the path is looked up in the container, from its root folder",
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _described(root: int, descriptor: int, path: str) -> PathStat:
    found = os.fstat(descriptor)
    target = ""
    if stat.S_ISLNK(found.st_mode):
        link = os.readlink(b"", dir_fd=descriptor)
        where = posixpath.dirname(_normal(path))
        target = posixpath.normpath(posixpath.join(where, os.fsdecode(link)))
        with contextlib.suppress(OSError):
            followed = open_in_root(root, target)
            try:
                target = _inside(root, followed)
            finally:
                os.close(followed)
    return PathStat(
        name=_base(path) if _base(path) != "." else posixpath.basename(posixpath.dirname(path)),
        size=found.st_size,
        mode=go_mode(found.st_mode),
        mtime_ns=found.st_mtime_ns,
        link_target=target,
    )


def _inside(root: int, descriptor: int) -> str:
    """Return the path that an open file has inside *root*.

    The kernel tells a descriptor's path from the root of its mount namespace, or for a detached
    mount from the mount's own root.
    """
    base = str(Path(f"/proc/self/fd/{root}").readlink())
    path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    if base != "/" and (path == base or path.startswith(f"{base}/")):
        path = path[len(base) :] or "/"
    return path


def _check_writable(container: Container, path: str) -> None:
    path = _normal(path)
    best = ""
    read_only = container.host.read_only
    for point in container.mounts:
        place = posixpath.normpath(point.spec.destination)
        covers = path == place or path.startswith(f"{place}/")
        if covers and len(place) > len(best):
            best = place
            read_only = point.spec.read_only and point.spec.kind is not MountKind.TMPFS
    if read_only:
        what = "mounted volume" if best else "container rootfs"
        raise Forbidden(f"{what} is marked read-only")
