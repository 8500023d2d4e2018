"""Writing into the root of the image being built, for COPY, ADD and WORKDIR.

Every path is resolved inside the root through descriptors: links that the image has are followed
as a process in it would follow them, and lead nowhere else.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from pannier.errors import InvalidRequest
from pannier.images.compression import open_stream
from pannier.images.tar_headers import BLOCK, checksum_ok
from pannier.images.unpack import unpack_layer
from pannier.linux.copying import copy_content
from pannier.linux.paths import open_in_root
from pannier.linux.trees import DIRECTORY, PATH, Folders, remove_tree, walk_tree
from pannier.linux.xattrs import proc_path, read_xattrs, set_xattr

if TYPE_CHECKING:
    from pannier.build.ignore import IgnoreRules
    from pannier.images.compression import Limits
    from pannier.linux.trees import Found

__all__ = ["Attributes", "Destination", "archive_stream", "as_stream"]

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS: Final = 40
_CAPABILITY: Final = b"security.capability"


@dataclass(frozen=True, slots=True)
class Attributes:
    """What copied files are to be like.

    :param owner: uid and gid; None keeps the source's.
    :param mode: permission bits; None keeps the source's.
    """

    owner: tuple[int, int] | None = (0, 0)
    mode: int | None = None

    @property
    def folder_owner(self) -> tuple[int, int]:
        """Who owns the folders that have to be made on the way."""
        return self.owner or (0, 0)


class Destination:
    """The root that is written into.

    :param root: a descriptor of it, which can be read.
    """

    def __init__(self, root: int) -> None:
        self._root = root

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder, perhaps behind links."""
        try:
            os.close(open_in_root(self._root, path, os.O_PATH | os.O_DIRECTORY))
        except OSError:
            return False
        return True

    def make_folder(self, path: str, owner: tuple[int, int] = (0, 0)) -> int:
        """Return a descriptor of a folder that can be read; it is made where it is missing.

        :raises InvalidRequest: something that is no folder is in the way.
        """
        with contextlib.suppress(FileNotFoundError):
            return self._open_folder(path)
        parts = [part for part in path.split("/") if part not in ("", ".")]
        here = os.open(b".", DIRECTORY, dir_fd=self._root)
        for index, name in enumerate(parts):
            try:
                inner = self._step("/".join(parts[: index + 1]), here, name, owner)
            finally:
                os.close(here)
            here = inner
        return here

    def _open_folder(self, path: str) -> int:
        try:
            return open_in_root(self._root, path or ".", os.O_RDONLY | os.O_DIRECTORY)
        except NotADirectoryError:
            raise InvalidRequest(
                f"cannot write to {path}: something on the way is no folder",
                hint="choose another destination, or remove what is there first",
            ) from None

    def _step(self, path: str, parent: int, name: str, owner: tuple[int, int]) -> int:
        try:
            return self._open_folder(path)
        except FileNotFoundError:
            pass
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            raise InvalidRequest(
                f"cannot make the folder {path}: a link that leads nowhere is in its place"
            ) from None
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        # Whatever the daemon's umask is.
        os.chmod(name, 0o755, dir_fd=parent)  # noqa: S103 - folders of an image are for all
        return self._open_folder(path)

    def _place(self, path: str, owner: tuple[int, int]) -> tuple[int, bytes]:
        """Return a folder's descriptor and the name in it that a file's path leads to."""
        for _ in range(_MAX_LINKS):
            head, _, name = path.rstrip("/").rpartition("/")
            if name in ("", ".", ".."):
                raise InvalidRequest(f"the destination {path} is a folder")
            parent = self.make_folder(head, owner)
            try:
                target = os.readlink(name, dir_fd=parent)
            except OSError:  # no link, or not there
                return parent, os.fsencode(name)
            os.close(parent)
            path = target if target.startswith("/") else f"{head}/{target}"
        raise InvalidRequest(f"the destination {path} is a link that leads in a circle")

    # What is copied.

    def copy_file(self, source: int, path: str, wanted: Attributes) -> None:
        """Copy one file (its descriptor may be O_PATH) to *path*, in the place of what is there."""
        parent, name = self._place(path, wanted.folder_owner)
        try:
            _clear(parent, name)
            _copy_node(source, parent, name, wanted)
        finally:
            os.close(parent)

    def write_file(self, data: bytes, path: str, wanted: Attributes, mtime: int) -> None:
        """Write a small file; *mtime* in nanoseconds."""
        parent, name = self._place(path, wanted.folder_owner)
        try:
            _clear(parent, name)
            descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
            with io.FileIO(descriptor, "w") as out:
                view = memoryview(data)
                while view:
                    view = view[out.write(view) :]
                os.fchown(descriptor, *wanted.folder_owner)
                os.fchmod(descriptor, 0o644 if wanted.mode is None else wanted.mode)
                os.utime(descriptor, ns=(mtime, mtime))
        finally:
            os.close(parent)

    def copy_folder(
        self, source: int, path: str, wanted: Attributes, excludes: IgnoreRules | None = None
    ) -> None:
        """Copy what is in a folder into the folder *path*, which is made where it is missing.

        Folders are merged; anything else takes the place of what is there.
        """
        made = not self.is_folder(path)
        # Only the last folder is the copy; those above it are root's.
        target = self.make_folder(path)
        try:
            if made and wanted.owner is not None:
                os.fchown(target, *wanted.owner)
            opened = os.open(b".", DIRECTORY, dir_fd=source)
            try:
                if made and wanted.owner is None:
                    status = os.fstat(opened)
                    os.fchown(target, status.st_uid, status.st_gid)
                if made and wanted.mode is not None:
                    os.fchmod(target, wanted.mode)
                _merge(opened, target, wanted, excludes)
            finally:
                os.close(opened)
        finally:
            os.close(target)

    def unpack(self, stream: BinaryIO, path: str, owner: tuple[int, int]) -> None:
        """Unpack an uncompressed archive into the folder *path*."""
        target = self.make_folder(path, owner)
        before = os.fstat(target)
        try:
            unpack_layer(stream, target, whiteouts="none")
            # What the archive says of its own root does not make the folder another.
            os.fchown(target, before.st_uid, before.st_gid)
            os.fchmod(target, stat.S_IMODE(before.st_mode))
        finally:
            os.close(target)


def _merge(source: int, target: int, wanted: Attributes, excludes: IgnoreRules | None) -> None:
    linked: dict[tuple[int, int], bytes] = {}
    folders: list[tuple[bytes, os.stat_result]] = []
    with contextlib.closing(Folders(target)) as into:
        for found in walk_tree(source):
            if stat.S_ISSOCK(found.status.st_mode):
                continue
            if excludes is not None and excludes.ignores(os.fsdecode(found.path)):
                continue
            if stat.S_ISDIR(found.status.st_mode):
                _merge_folder(found, into, wanted)
                folders.append((found.path, found.status))
                continue
            parent = _parent(into, found)
            _clear(parent, found.name)
            identity = (found.status.st_dev, found.status.st_ino)
            first = linked.get(identity) if found.status.st_nlink > 1 else None
            if first is not None:
                into.link(first, _parent(into, found), found.name)
                continue
            if found.status.st_nlink > 1:
                linked[identity] = found.path
            opened = os.open(found.name, PATH, dir_fd=found.dir_fd)
            try:
                _copy_node(opened, parent, found.name, wanted)
            finally:
                os.close(opened)
        for path, status in folders:
            times = (status.st_atime_ns, status.st_mtime_ns)
            os.utime(proc_path(into.open(path)), ns=times)


def _parent(into: Folders, found: Found) -> int:
    """Return the folder that a file goes into, made if an exclusion left it out."""
    head = found.path[: -len(found.name) - 1]
    with contextlib.suppress(FileNotFoundError):
        return into.open(head)
    parts = head.split(b"/")
    for index in range(len(parts)):
        parent = into.open(b"/".join(parts[:index]))
        with contextlib.suppress(FileExistsError):
            os.mkdir(parts[index], 0o755, dir_fd=parent)
    return into.open(head)


def _merge_folder(found: Found, into: Folders, wanted: Attributes) -> None:
    parent, status = _parent(into, found), found.status
    try:
        os.mkdir(found.name, 0o700, dir_fd=parent)
    except FileExistsError:
        present = os.stat(found.name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(present.st_mode):
            _clear(parent, found.name)
            os.mkdir(found.name, 0o700, dir_fd=parent)
    owner = wanted.owner or (status.st_uid, status.st_gid)
    os.chown(found.name, *owner, dir_fd=parent, follow_symlinks=False)
    mode = stat.S_IMODE(status.st_mode) if wanted.mode is None else wanted.mode
    os.chmod(found.name, mode, dir_fd=parent)


def _clear(parent: int, name: bytes) -> None:
    """Remove what has a name that is to be taken."""
    remove_tree(name, parent)


def _copy_node(source: int, parent: int, name: bytes, wanted: Attributes) -> None:
    status = os.fstat(source)
    kind = stat.S_IFMT(status.st_mode)
    owner = wanted.owner or (status.st_uid, status.st_gid)
    times = (status.st_atime_ns, status.st_mtime_ns)
    mode = stat.S_IMODE(status.st_mode) if wanted.mode is None else wanted.mode
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(b"", dir_fd=source), name, dir_fd=parent)
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
        return
    if kind != stat.S_IFREG:
        os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=parent)
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        os.chmod(name, mode, dir_fd=parent)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
        return
    opened = os.open(proc_path(source), os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            copy_content(opened, target, status.st_size)
            # In this order: chown(2) takes set-id bits and capabilities away.
            os.fchown(target, *owner)
            os.fchmod(target, mode)
            capability = read_xattrs(opened).get(_CAPABILITY)
            if capability is not None:
                set_xattr(target, _CAPABILITY, capability)
            os.utime(target, ns=times)
        finally:
            os.close(target)
    finally:
        os.close(opened)


def archive_stream(source: BinaryIO, limits: Limits) -> io.BufferedReader | None:
    """Return the plain stream of a tar archive, compressed or not; None for any other file.

    :param source: at its beginning; can be read again from there.
    """
    try:
        plain, _ = open_stream(source, limits)
        head = plain.read(BLOCK)
    except InvalidRequest:  # begins like something compressed, and is not
        return None
    if len(head) < BLOCK or not head.strip(b"\0") or not checksum_ok(head, head[148:156]):
        return None
    source.seek(0)
    return open_stream(source, limits)[0]


def as_stream(descriptor: int) -> BinaryIO:
    """Return a descriptor that can be read as a file, which closes it."""
    return cast("BinaryIO", open(descriptor, "rb"))
