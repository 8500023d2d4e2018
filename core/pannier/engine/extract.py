"""Unpacking an archive into a folder of a container, as ``docker cp`` does.

Unlike a layer, such an archive has no whiteouts, may replace what is there, and its paths run
through the container's own links. Each name's folder is found as a process in the container would
find it, and the name itself is never followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from pannier.engine.folders import ensure_folder
from pannier.errors import DriverError, ImageInvalid, InvalidRequest
from pannier.images.compression import open_stream
from pannier.images.tar_reader import TarReader
from pannier.linux.paths import open_in_root
from pannier.linux.trees import remove_tree
from pannier.linux.xattrs import proc_path

if TYPE_CHECKING:
    from typing import BinaryIO

    from pannier.drivers.base import IdMap
    from pannier.images.tar_reader import TarEntry

__all__ = ["Extraction"]

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LARGEST: Final = 1 << 40
_ATTRIBUTES: Final = (b"user.", b"security.capability")


class Extraction:
    """One archive on its way into a container.

    :param root: a descriptor of the container's root.
    :param place: the folder to unpack in, a path inside the root without links.
    :param idmap: the container's user namespace.
    :param owner: uid and gid inside, in place of those in the archive; None keeps those.
    :param keep_types: a folder does not replace a file, nor a file a folder.
    """

    def __init__(
        self,
        root: int,
        place: str,
        idmap: IdMap | None,
        owner: tuple[int, int] | None,
        *,
        keep_types: bool,
    ) -> None:
        self._root = root
        self._place = os.fsencode(place)
        self._idmap = idmap
        self._owner = owner
        self._keep_types = keep_types
        self._times: dict[bytes, int] = {}

    def run(self, stream: BinaryIO) -> None:
        """Unpack *stream*, which may be compressed.

        :raises ImageInvalid: it is no archive, or a hostile one.
        :raises InvalidRequest: something in the way may not be replaced.
        :raises DriverError: the filesystem failed.
        """
        plain, _ = open_stream(stream)
        reader = TarReader(plain, max_bytes=_LARGEST)
        while (entry := reader.next()) is not None:
            path = _clean(entry.name)
            if not path:
                continue  # the folder itself is as it is
            head, _, name = path.rpartition(b"/")
            try:
                parent = self._folder(head)
                try:
                    self._place_entry(reader, entry, parent, name)
                finally:
                    os.close(parent)
            except OSError as error:
                raise DriverError(
                    f"cannot copy {os.fsdecode(path)!r} into the container: {error.strerror}"
                ) from error
            if entry.type == b"5":
                self._times[path] = entry.mtime
        reader.drain()
        self._set_times()

    def _folder(self, path: bytes) -> int:
        """Return a descriptor of a folder below the place, made where it is missing."""
        where = self._place + b"/" + path if path else self._place
        flags = os.O_PATH | os.O_DIRECTORY
        try:
            return open_in_root(self._root, where, flags)
        except FileNotFoundError:
            ensure_folder(self._root, os.fsdecode(where), self._idmap)
            return open_in_root(self._root, where, flags)

    def _place_entry(self, reader: TarReader, entry: TarEntry, parent: int, name: bytes) -> None:
        self._make_way(entry, parent, name)
        if entry.type == b"5":
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
        elif entry.type == b"0":
            descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
            try:
                if entry.size or entry.sparse is not None:
                    reader.copy_to(descriptor, entry)
            finally:
                os.close(descriptor)
        elif entry.type == b"1":
            self._link(entry, parent, name)
            return
        elif entry.type == b"2":
            os.symlink(entry.link, name, dir_fd=parent)
        else:
            kinds = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}
            device = 0 if entry.type == b"6" else os.makedev(entry.major, entry.minor)
            os.mknod(name, kinds[entry.type] | 0o600, device, dir_fd=parent)
        self._finish(entry, parent, name)

    def _make_way(self, entry: TarEntry, parent: int, name: bytes) -> None:
        """Remove what is there, except a folder for a folder."""
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        was_folder, is_folder = stat.S_ISDIR(found.st_mode), entry.type == b"5"
        if was_folder and is_folder:
            return
        if self._keep_types and was_folder != is_folder:
            kinds = {True: "directory", False: "non-directory"}
            raise InvalidRequest(
                f"cannot overwrite {kinds[was_folder]} "
                f'"{os.fsdecode(self._place + b"/" + entry.name)}" with {kinds[is_folder]} '
                f'"{os.fsdecode(self._place)}"'
            )
        if was_folder:
            remove_tree(name, parent)
        else:
            os.unlink(name, dir_fd=parent)

    def _link(self, entry: TarEntry, parent: int, name: bytes) -> None:
        target = _clean(entry.link.lstrip(b"/"))
        head, _, old = target.rpartition(b"/")
        folder = self._folder(head)
        try:
            os.link(old, name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(folder)

    def _finish(self, entry: TarEntry, parent: int, name: bytes) -> None:
        uid, gid = self._owner or (entry.uid, entry.gid)
        owner = self._host_ids(uid, gid) or (uid, gid)
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        if entry.type == b"2":
            os.utime(name, ns=(entry.mtime,) * 2, dir_fd=parent, follow_symlinks=False)
            return
        # Opened without following, since links in the container can be changed at any moment.
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            path = proc_path(descriptor)
            os.chmod(path, entry.mode)  # noqa: PTH101 - the path is bytes
            for key, value in entry.xattrs.items():
                if key.startswith(_ATTRIBUTES):
                    with contextlib.suppress(OSError):  # not every filesystem has them
                        os.setxattr(path, key, value)
            os.utime(path, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(descriptor)

    def _host_ids(self, uid: int, gid: int) -> tuple[int, int] | None:
        if self._idmap is None:
            return None
        try:
            return self._idmap.host_uid(uid), self._idmap.host_gid(gid)
        except ValueError as error:
            raise InvalidRequest(f"the archive's owner {uid}:{gid} is not mapped") from error

    def _set_times(self) -> None:
        for path, mtime in self._times.items():
            with contextlib.suppress(OSError):  # replaced by a later entry
                descriptor = open_in_root(self._root, self._place + b"/" + path)
                try:
                    os.utime(proc_path(descriptor), ns=(mtime, mtime))
                finally:
                    os.close(descriptor)


def _clean(name: bytes) -> bytes:
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ImageInvalid(f"the archive's entry {name[:200]!r} leads out of its folder")
    return b"/".join(parts)
