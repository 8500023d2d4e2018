"""Packs folder trees, and changes to them, into OCI layers and plain archives.

The same tree gives the same bytes. Owners are numeric; times are kept to the nanosecond; hard
links within what is packed stay links; sockets are left out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from typing import TYPE_CHECKING, BinaryIO, Final

from pannier.drivers.storage import Change, ChangeKind
from pannier.images.tar_writer import TarWriter, Written
from pannier.linux.trees import PATH, Folders, walk_tree
from pannier.linux.xattrs import proc_path, read_xattrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pannier.drivers.base import IdMap, IdMapping

__all__ = ["pack_changes", "pack_tree"]

_TYPES: Final = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
_NOBODY: Final = 65534
_ATTRIBUTES: Final = (b"user.", b"trusted.", b"system.posix_acl_", b"security.capability")
_CAPABILITY: Final = b"security.capability"
_ACL: Final = b"system.posix_acl_"
_ACL_USER: Final = 0x02
_ACL_GROUP: Final = 0x08


def pack_tree(
    root: int | Path,
    out: BinaryIO,
    *,
    prefix: str | bytes = b"",
    idmap: IdMap | None = None,
) -> None:
    """Write the tree below *root*, or the one file that it is, as an archive.

    :param root: a path whose last link is not followed, or a descriptor, which stays open and may
        be one that only names the file (O_PATH).
    :param prefix: what the root itself is called; with none the root has no entry of its own, and
        must be a folder.
    :param idmap: owners are written as the ids that they have inside this user namespace.
    """
    descriptor = os.dup(root) if isinstance(root, int) else os.open(root, PATH)
    name = os.fsencode(prefix).strip(b"/")
    packer = _Packer(out, idmap)
    try:
        status = os.fstat(descriptor)
        if name:
            packer.add_opened(descriptor, name, status)
        if stat.S_ISDIR(status.st_mode):
            for found in walk_tree(descriptor):
                path = name + b"/" + found.path if name else found.path
                packer.add(found.dir_fd, found.name, path, found.status)
        packer.finish()
    finally:
        os.close(descriptor)


def pack_changes(
    source: int,
    changes: Iterable[Change],
    out: BinaryIO,
    *,
    idmap: IdMap | None = None,
) -> None:
    """Write changes as an OCI layer.

    What was added or modified is written as it is, what was deleted as a whiteout; what has
    vanished meanwhile is left out.

    :param source: a descriptor of the folder in which the added and modified files are.
    :param changes: in any order.
    :param idmap: as for :func:`pack_tree`.
    """
    packer = _Packer(out, idmap)
    with contextlib.closing(Folders(source)) as folders:
        for change in sorted(changes):
            path = os.fsencode(change.path).strip(b"/")
            head, _, name = path.rpartition(b"/")
            if change.kind is ChangeKind.DELETED:
                packer.whiteout(head, name)
                continue
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                parent = folders.open(head)
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                packer.add(parent, name, path, status)
    packer.finish()


class _Packer:
    def __init__(self, out: BinaryIO, idmap: IdMap | None) -> None:
        self._writer = TarWriter(out)
        self._idmap = idmap
        self._linked: dict[tuple[int, int], bytes] = {}
        self.finish = self._writer.finish

    def whiteout(self, head: bytes, name: bytes) -> None:
        path = head + b"/.wh." + name if head else b".wh." + name
        self._writer.add(Written(name=path, type=b"0", mode=0, uid=0, gid=0, mtime=0))

    def add_opened(self, descriptor: int, path: bytes, status: os.stat_result) -> None:
        """Add the file that *descriptor* is, under the name *path*."""
        mode = status.st_mode
        if stat.S_ISREG(mode):
            opened = os.open(proc_path(descriptor), os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._writer.add_file(self._entry(path, status, read_xattrs(opened)), opened)
            finally:
                os.close(opened)
        elif stat.S_ISLNK(mode):
            link = os.readlink(b"", dir_fd=descriptor)
            self._writer.add(self._entry(path, status, {}, link))
        elif stat.S_ISDIR(mode):
            attributes = read_xattrs(proc_path(descriptor, b"."))
            self._writer.add(self._entry(path, status, attributes))
        elif not stat.S_ISSOCK(mode):
            self._writer.add(self._entry(path, status, {}))

    def add(self, dir_fd: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        """Add the file *name* in the folder *dir_fd*, under the name *path*."""
        mode = status.st_mode
        if stat.S_ISSOCK(mode):
            return
        if status.st_nlink > 1 and not stat.S_ISDIR(mode):
            first = self._linked.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                self._writer.add(self._entry(path, status, {}, first, type=b"1"))
                return
        if stat.S_ISREG(mode):
            self._add_file(dir_fd, name, path, status)
            return
        attributes = read_xattrs(proc_path(dir_fd, name))
        link = os.readlink(name, dir_fd=dir_fd) if stat.S_ISLNK(mode) else b""
        self._writer.add(self._entry(path, status, attributes, link))

    def _add_file(self, dir_fd: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        # Not blocking: a fifo may have taken the file's place meanwhile.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            opened = os.open(name, flags, dir_fd=dir_fd)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            self._linked.pop((status.st_dev, status.st_ino), None)
            return
        try:
            present = os.fstat(opened)
            if stat.S_ISREG(present.st_mode):
                entry = self._entry(path, present, read_xattrs(opened))
                self._writer.add_file(entry, opened)
        finally:
            os.close(opened)

    def _entry(
        self,
        path: bytes,
        status: os.stat_result,
        attributes: Mapping[bytes, bytes],
        link: bytes = b"",
        *,
        type: bytes | None = None,
    ) -> Written:
        kind = _TYPES[stat.S_IFMT(status.st_mode)] if type is None else type
        uid, gid = status.st_uid, status.st_gid
        kept = {
            key: value
            for key, value in attributes.items()
            if key.startswith(_ATTRIBUTES) and not key.startswith(b"trusted.overlay.")
        }
        if self._idmap is not None:
            uid = _inside(self._idmap.uids, uid)
            gid = _inside(self._idmap.gids, gid)
            kept = {key: _map_xattr(key, value, self._idmap) for key, value in kept.items()}
        return Written(
            name=path + b"/" if kind == b"5" else path,
            type=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=uid,
            gid=gid,
            mtime=status.st_mtime_ns,
            size=status.st_size if kind == b"0" else 0,
            link=link,
            major=os.major(status.st_rdev),
            minor=os.minor(status.st_rdev),
            xattrs=kept,
        )


def _inside(ranges: tuple[IdMapping, ...], number: int) -> int:
    """Return the container's id for a host's; the kernel's "nobody" where there is none."""
    for mapping in ranges:
        if mapping.host <= number < mapping.host + mapping.size:
            return mapping.container + number - mapping.host
    return _NOBODY


def _map_xattr(key: bytes, value: bytes, idmap: IdMap) -> bytes:
    """Translate the ids that attributes hold: of file capabilities, and of access lists."""
    if key == _CAPABILITY and len(value) == 24 and value[3] == 3:
        # In a user namespace the kernel adds the namespace's root to the capabilities (revision
        # 3, capabilities(7)); for the container itself that is plain revision 2.
        if _inside(idmap.uids, int.from_bytes(value[20:], "little")) == 0:
            return value[:3] + b"\x02" + value[4:20]
    elif key.startswith(_ACL):
        packed = bytearray(value)
        for start in range(4, len(packed) - 7, 8):
            tag, _, number = struct.unpack_from("<HHI", packed, start)
            if tag in (_ACL_USER, _ACL_GROUP):
                ranges = idmap.uids if tag == _ACL_USER else idmap.gids
                struct.pack_into("<I", packed, start + 4, _inside(ranges, number))
        return bytes(packed)
    return value
