"""What differs between two whole trees: a container's, and that of its image. A help for drivers.

For storage drivers that keep a container as a whole copy (a folder, a snapshot, a volume) and not
as a difference: it works with any two folders.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from pannier.drivers.storage import Change, ChangeKind
from pannier.linux.trees import DIRECTORY, Folders, list_names, walk_tree
from pannier.linux.xattrs import proc_path, read_xattrs

if TYPE_CHECKING:
    from collections.abc import Collection

    from pannier.linux.trees import Found

__all__ = ["list_changes"]

_PIECE: Final = 1 << 20
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def list_changes(new: int, old: int, since: int, places: Collection[str] = ()) -> list[Change]:
    """Compare two trees, sorted by path.

    Files differ by kind, mode, owner, extended attributes, size, device, link or modification
    time. Where all of these are the same, the content is compared only if the file was touched
    since it was copied, which its change time tells: nobody can set that one back.

    :param new: a descriptor of the container's tree.
    :param old: a descriptor of the image's.
    :param since: when the one was copied from the other, in nanoseconds since the epoch.
    :param places: what was made in the container's tree to mount on: no change while it is empty.
    """
    with contextlib.closing(Folders(old)) as before:
        return _Comparison(before, since, places).run(new)


class _Comparison:
    def __init__(self, before: Folders, since: int, places: Collection[str]) -> None:
        self._before = before
        self._since = since
        self._places = {os.fsencode(path)[1:] for path in places}
        self._changes: dict[bytes, ChangeKind] = {}
        # Folders that are no change, and what they are if something in them is.
        self._pending: list[tuple[bytes, ChangeKind]] = []

    def run(self, new: int) -> list[Change]:
        self._note_deleted(new, b"")
        for found in walk_tree(new):
            if not stat.S_ISSOCK(found.status.st_mode):
                self._compare(found)
        return sorted(Change("/" + os.fsdecode(path), kind) for path, kind in self._changes.items())

    def _compare(self, found: Found) -> None:
        was = self._stat(found.path)
        if was is None:
            self._added(found)
            return
        folders = stat.S_ISDIR(found.status.st_mode) and stat.S_ISDIR(was.st_mode)
        if self._differs(found, was):
            self._note(found.path, ChangeKind.MODIFIED)
        elif folders:
            # What has changed in it, if anything, follows in the walk.
            self._pending.append((found.path, ChangeKind.MODIFIED))
        if folders:
            inner = os.open(found.name, DIRECTORY, dir_fd=found.dir_fd)
            try:
                self._note_deleted(inner, found.path)
            finally:
                os.close(inner)

    def _added(self, found: Found) -> None:
        if found.path in self._places:
            if stat.S_ISDIR(found.status.st_mode):
                self._pending.append((found.path, ChangeKind.ADDED))
                return
            if stat.S_ISREG(found.status.st_mode) and not found.status.st_size:
                return
        self._note(found.path, ChangeKind.ADDED)

    def _note(self, path: bytes, kind: ChangeKind) -> None:
        while self._pending:
            folder, change = self._pending.pop()
            if path.startswith(folder + b"/"):
                self._changes[folder] = change
        self._changes[path] = kind

    def _note_deleted(self, folder: int, path: bytes) -> None:
        old = os.open(b".", DIRECTORY, dir_fd=self._before.open(path))
        try:
            gone = set(list_names(old)) - set(list_names(folder))
        finally:
            os.close(old)
        for name in gone:
            self._note(path + b"/" + name if path else name, ChangeKind.DELETED)

    def _stat(self, path: bytes) -> os.stat_result | None:
        head, _, name = path.rpartition(b"/")
        try:
            return os.stat(name, dir_fd=self._before.open(head), follow_symlinks=False)
        except OSError:  # nothing there; or on the way a file, or a link, instead of a folder
            return None

    def _differs(self, found: Found, was: os.stat_result) -> bool:
        status, name, new = found.status, found.name, found.dir_fd
        head = found.path.rpartition(b"/")[0]
        old = self._before.open(head)
        mode = status.st_mode
        if (mode, status.st_uid, status.st_gid, status.st_mtime_ns) != (
            was.st_mode,
            was.st_uid,
            was.st_gid,
            was.st_mtime_ns,
        ):
            return True
        if read_xattrs(proc_path(new, name)) != read_xattrs(proc_path(old, name)):
            return True
        if stat.S_ISDIR(mode):
            return False
        if stat.S_ISLNK(mode):
            return os.readlink(name, dir_fd=new) != os.readlink(name, dir_fd=old)
        if not stat.S_ISREG(mode):
            return status.st_rdev != was.st_rdev
        return status.st_size != was.st_size or (
            status.st_ctime_ns >= self._since and not _same_content(new, old, name)
        )


def _same_content(new: int, old: int, name: bytes) -> bool:
    with contextlib.ExitStack() as opened:
        files = []
        for folder in (new, old):
            descriptor = os.open(name, _FILE, dir_fd=folder)
            opened.callback(os.close, descriptor)
            files.append(descriptor)
        while True:
            one, other = (os.read(descriptor, _PIECE) for descriptor in files)
            if one != other:
                return False
            if not one:
                return True
