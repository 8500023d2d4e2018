"""Unpacks OCI layers: :func:`unpack_layer`, the one function of this room that drivers use.

A layer is a tar archive in which ``.wh.NAME`` deletes NAME of the layers below, and
``.wh..wh..opq`` everything that they have in its folder (OCI image specification, layer.md). An
archive comes from strangers: nothing in it can reach outside the root, whatever it holds, and what
breaks the rules is refused with :class:`~pannier.errors.ImageInvalid`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from pannier.errors import ImageInvalid
from pannier.images.tar_reader import TarEntry, TarReader
from pannier.images.unpack_rules import clean_name, explain, set_layer_xattrs
from pannier.images.unpack_tree import Tree, Whiteouts
from pannier.linux.copying import copy_node
from pannier.linux.paths import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from pannier.linux.trees import DIRECTORY, measure_tree
from pannier.linux.xattrs import proc_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["UnpackLimits", "UnpackedUsage", "Whiteouts", "unpack_layer"]

_PREFIX: Final = b".wh."
_META_PREFIX: Final = b".wh..wh."
_OPAQUE_MARKER: Final = b".wh..wh..opq"
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN_MODE: Final = 0o755
"""Bits that a new file may have at once; set-id bits and others' writing wait for its owner."""
_MAX_ID: Final = 0xFFFFFFFE
_MAX_MAJOR: Final = 0xFFF
_MAX_MINOR: Final = 0xFFFFF


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """Bounds on what an archive may make of itself; the defaults only stop runaway ones.

    :param entries: how many members.
    :param total_bytes: length of the uncompressed archive, and the sum of its files' sizes.
    :param file_bytes: size of one file, holes included.
    """

    entries: int = 8_000_000
    total_bytes: int = 1 << 40
    file_bytes: int = 1 << 40


@dataclass(frozen=True, slots=True)
class UnpackedUsage:
    """What a layer came to.

    :param size: apparent bytes of its regular files and symbolic links, hard links once.
    :param inodes: how many files it has, of any type.
    :param opaque: whether the layer hides everything below, its root being marked opaque. With
        ``overlay`` whiteouts the driver must see to that: overlayfs ignores the mark on a root.
    """

    size: int
    inodes: int
    opaque: bool = False


def unpack_layer(
    stream: BinaryIO,
    root: int | Path,
    *,
    whiteouts: Whiteouts,
    limits: UnpackLimits | None = None,
    lower: Callable[[], int | None] | None = None,
) -> UnpackedUsage:
    """Unpack an uncompressed OCI layer below *root*, as root, streaming.

    Owners, modes (set-id bits too), modification times in nanoseconds, extended attributes
    (file capabilities too; overlayfs' own are left out), devices, fifos, symbolic and hard links
    and holes are kept. Of entries of one name the last wins. A parent folder that is missing is
    made; one that is a symbolic link is followed inside the root. A hard link's target is looked
    up inside the root, or in *lower*, from where the file is then copied.

    :param stream: read to its end, also past the archive's end marker; need not be seekable.
    :param root: the folder, or a descriptor of it that can be read (it stays open). For
        ``overlay`` an empty one. On an error it is left as it then is.
    :param whiteouts: ``overlay`` turns whiteouts into overlayfs' own form, device 0/0 and the
        attribute ``trusted.overlay.opaque``; ``apply`` deletes at once what they name; ``none``
        takes them for the plain files that they are in an archive that is no layer.
    :param lower: with ``overlay``, gives a descriptor of the merged layers below, which becomes
        the unpacker's; called at most once, and only if needed. What parent folders are like that
        the archive itself leaves out is then looked up there.
    :raises ImageInvalid: the archive is broken, truncated, hostile or beyond the limits.
    :raises DriverError: the filesystem failed (it is full, say).
    :raises UnsupportedOperation: the filesystem cannot hold what the archive has.
    """
    descriptor = root if isinstance(root, int) else os.open(root, DIRECTORY)
    unpacker = _Unpacker(stream, descriptor, whiteouts, limits or UnpackLimits(), lower)
    try:
        return unpacker.run()
    finally:
        unpacker.tree.close()
        if not isinstance(root, int):
            os.close(descriptor)


class _Unpacker:
    def __init__(
        self,
        stream: BinaryIO,
        root: int,
        whiteouts: Whiteouts,
        limits: UnpackLimits,
        lower: Callable[[], int | None] | None,
    ) -> None:
        self._reader = TarReader(stream, max_bytes=limits.total_bytes, unended=whiteouts != "none")
        self._limits = limits
        self._root = root
        self._overlay = whiteouts == "overlay"
        self._plain = whiteouts == "none"
        self._size = 0
        self._inodes = 0
        self._opaque = False
        self._times: dict[bytes, int] = {}
        self.tree = Tree(root, whiteouts, lower)
        self._makers = {
            b"0": self._file,
            b"1": self._hard_link,
            b"2": self._symlink,
            b"3": self._node,
            b"4": self._node,
            b"5": self._folder,
            b"6": self._node,
        }

    def run(self) -> UnpackedUsage:
        reader, tree = self._reader, self.tree
        remaining = self._limits.entries
        while (entry := reader.next()) is not None:
            remaining -= 1
            if remaining < 0:
                raise ImageInvalid(f"the archive has over {self._limits.entries} entries")
            try:
                self._place(entry)
            except OSError as error:
                raise explain(error, entry) from error
            tree.begin_entry()
        self._set_folder_times()
        reader.drain()
        if self._overlay and tree.replaced:
            # What was unpacked and then replaced counts no more.
            self._size, self._inodes = measure_tree(self._root)
        else:
            self._inodes += tree.implied
        return UnpackedUsage(self._size, self._inodes, self._opaque)

    def _place(self, entry: TarEntry) -> None:
        path = clean_name(entry.name)
        kind = entry.type
        if not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
            raise ImageInvalid(f"the owner {entry.uid}:{entry.gid} of {entry.name!r} is no id")
        if not path:
            if kind != b"5":
                raise ImageInvalid(f"the archive's entry {entry.name!r} has no name")
            self._finish_folder(os.dup(self._root), path, entry)
            return
        head, _, name = path.rpartition(b"/")
        if not self._plain and (path.startswith(_PREFIX) or b"/" + _PREFIX in path):
            self._whiteout(head, name)
            return
        parent = self.tree.folder(head)
        self._makers[kind](parent, name, path, entry)
        self.tree.note(parent, name)

    def _whiteout(self, head: bytes, name: bytes) -> None:
        if name != _OPAQUE_MARKER and any(
            part.startswith(_META_PREFIX) for part in (*head.split(b"/"), name)
        ):
            return  # the bookkeeping of aufs, from images of long ago
        if head.startswith(_PREFIX) or b"/" + _PREFIX in head:
            raise ImageInvalid(f"{head!r} names a whiteout, and cannot be a folder")
        if name == _OPAQUE_MARKER:
            if head:
                self.tree.opaque(self.tree.folder(head))
                return
            self._opaque = True
            if not self._overlay:
                self.tree.opaque(self.tree.folder(head))
            return
        hidden = name[len(_PREFIX) :]
        if hidden in (b"", b".", b".."):
            raise ImageInvalid(f"the whiteout {name!r} names no file")
        self.tree.whiteout(self.tree.folder(head), hidden)

    # One kind of file each.

    def _file(self, parent: int, name: bytes, _path: bytes, entry: TarEntry) -> None:
        if entry.size > self._limits.file_bytes:
            raise ImageInvalid(
                f"{entry.name!r} has {entry.size} bytes; the limit for a file is"
                f" {self._limits.file_bytes}"
            )
        self._inodes += 1
        self._size += entry.size
        if self._size > self._limits.total_bytes:
            raise ImageInvalid(
                f"the archive's files exceed the limit of {self._limits.total_bytes} bytes"
            )
        plain = entry.mode & _PLAIN_MODE
        try:
            descriptor = os.open(name, _NEW_FILE, plain, dir_fd=parent)
        except FileExistsError:
            self.tree.discard(parent, name)
            descriptor = os.open(name, _NEW_FILE, plain, dir_fd=parent)
        try:
            if entry.size or entry.sparse is not None:
                self._reader.copy_to(descriptor, entry)
            # Most files are root's, with a mode that the umask leaves alone. Asking is cheap, and
            # each change that is none would still be written to the filesystem's journal.
            made = os.fstat(descriptor)
            # In this order: writing clears file capabilities, and chown set-id bits as well.
            chowned = (made.st_uid, made.st_gid) != (entry.uid, entry.gid)
            if chowned:
                os.fchown(descriptor, entry.uid, entry.gid)
            if chowned or stat.S_IMODE(made.st_mode) != entry.mode:
                os.fchmod(descriptor, entry.mode)
            if entry.xattrs:
                set_layer_xattrs(descriptor, entry.xattrs, user=True)
            os.utime(descriptor, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(descriptor)

    def _folder(self, parent: int, name: bytes, path: bytes, entry: TarEntry) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            self._inodes += 1
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                self.tree.discard(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
                self.tree.hide_below(parent, name)
        self._finish_folder(os.open(name, DIRECTORY, dir_fd=parent), path, entry)

    def _finish_folder(self, descriptor: int, path: bytes, entry: TarEntry) -> None:
        self.tree.remember(path, descriptor)
        os.fchown(descriptor, entry.uid, entry.gid)
        os.fchmod(descriptor, entry.mode)
        if entry.xattrs:
            set_layer_xattrs(descriptor, entry.xattrs, user=True)
        deep = b"/" in path
        self._times[self._real_path(descriptor, path) if deep else path] = entry.mtime

    def _real_path(self, folder: int, path: bytes) -> bytes:
        """Return a folder's path without links, which may be ones of the layers below."""
        try:
            full = os.readlink(proc_path(folder))  # noqa: PTH115 - names are bytes
            root = os.readlink(proc_path(self._root))  # noqa: PTH115 - as above
        except OSError:  # longer than a page
            return path
        return full[len(root) :].lstrip(b"/")

    def _symlink(self, parent: int, name: bytes, _path: bytes, entry: TarEntry) -> None:
        if not entry.link or b"\0" in entry.link:
            raise ImageInvalid(f"the symbolic link {entry.name!r} leads nowhere")
        try:
            os.symlink(entry.link, name, dir_fd=parent)
        except FileExistsError:
            self.tree.discard(parent, name)
            os.symlink(entry.link, name, dir_fd=parent)
        self._size += len(entry.link)
        self._finish(parent, name, entry)

    def _node(self, parent: int, name: bytes, _path: bytes, entry: TarEntry) -> None:
        device = 0
        if entry.type == b"6":
            mode = stat.S_IFIFO
        else:
            mode = stat.S_IFCHR if entry.type == b"3" else stat.S_IFBLK
            if not (0 <= entry.major <= _MAX_MAJOR and 0 <= entry.minor <= _MAX_MINOR):
                raise ImageInvalid(f"the device {entry.name!r} has impossible numbers")
            if mode == stat.S_IFCHR and not entry.major and not entry.minor:
                raise ImageInvalid(
                    f"the device {entry.name!r} has the numbers 0/0, which stand for a deletion"
                )
            device = os.makedev(entry.major, entry.minor)
        try:
            os.mknod(name, mode | 0o600, device, dir_fd=parent)
        except FileExistsError:
            self.tree.discard(parent, name)
            os.mknod(name, mode | 0o600, device, dir_fd=parent)
        self._finish(parent, name, entry)

    def _finish(self, parent: int, name: bytes, entry: TarEntry) -> None:
        self._inodes += 1
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.type != b"2":
            os.chmod(name, entry.mode, dir_fd=parent)  # was just made, and is no link
        if entry.xattrs:
            set_layer_xattrs(proc_path(parent, name), entry.xattrs, user=False)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _hard_link(self, parent: int, name: bytes, _path: bytes, entry: TarEntry) -> None:
        # Some builders write the target with a leading slash; it means the root's.
        target = clean_name(entry.link.lstrip(b"/"))
        head, _, old = target.rpartition(b"/")
        if not old:
            raise ImageInvalid(f"the hard link {entry.name!r} leads to a folder")
        folder = self.tree.folder(head)
        self._fetch_target(folder, head, old, entry)
        self.tree.note(folder, old)
        found = os.stat(old, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            raise ImageInvalid(f"the hard link {entry.name!r} leads to a folder")
        if stat.S_ISCHR(found.st_mode) and not found.st_rdev:
            raise ImageInvalid(f"the hard link {entry.name!r} leads to a deleted file")
        try:
            os.link(old, name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            present = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if (present.st_dev, present.st_ino) == (found.st_dev, found.st_ino):
                return
            self.tree.discard(parent, name)
            os.link(old, name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)

    def _fetch_target(self, folder: int, head: bytes, old: bytes, entry: TarEntry) -> None:
        """See that a hard link's target is here; copied from the layers below, if they have it."""
        with contextlib.suppress(FileNotFoundError):
            os.stat(old, dir_fd=folder, follow_symlinks=False)
            return
        path = self._real_path(folder, head)
        below = None
        if not self.tree.hides_below(path):
            below = self.tree.open_below(path + b"/" + old if path else old)
        if below is None:
            raise ImageInvalid(
                f"the hard link {entry.name!r} leads to {entry.link!r}, which is not there"
            )
        try:
            if stat.S_ISDIR(os.fstat(below).st_mode):
                raise ImageInvalid(f"the hard link {entry.name!r} leads to a folder")
            self._size += copy_node(below, folder, old)
            self._inodes += 1
        finally:
            os.close(below)

    def _set_folder_times(self) -> None:
        """Set the times of folders, now that nothing more is put into them."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        times = self.tree.implied_times | self._times
        for path, mtime in times.items():
            try:
                descriptor = openat2(
                    self._root,
                    path or b".",
                    flags,
                    resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
                )
            except OSError:
                continue  # was replaced by a later entry
            try:
                os.utime(descriptor, ns=(mtime, mtime))
            finally:
                os.close(descriptor)
