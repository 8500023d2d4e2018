"""What a container's layer changes, read from its upper folder in overlayfs' form."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from pannier.drivers.storage import Change, ChangeKind
from pannier.linux.trees import DIRECTORY, Folders, list_names, walk_tree
from pannier.linux.xattrs import get_xattr, proc_path, read_xattrs

if TYPE_CHECKING:
    from pannier.drivers.base import IdMap
    from pannier.linux.trees import Found

__all__ = ["list_changes"]

_OPAQUE = b"trusted.overlay.opaque"


def list_changes(upper: int, lower: int, idmap: IdMap | None) -> list[Change]:
    """Compare an upper folder with what the layers below it show, sorted by path.

    :param upper: a descriptor of the upper folder.
    :param lower: a descriptor of the merged lower layers.
    :param idmap: what the upper folder's owners are mapped with, and the lower ones' are not.
    """
    with contextlib.closing(Folders(lower)) as below:
        return _Comparison(below, idmap).run(upper)


class _Comparison:
    def __init__(self, below: Folders, idmap: IdMap | None) -> None:
        self._below = below
        self._idmap = idmap
        self._changes: dict[bytes, ChangeKind] = {}
        self._unchanged: list[bytes] = []
        self._opaque: list[bytes] = []

    def run(self, upper: int) -> list[Change]:
        for found in walk_tree(upper):
            self._compare(found)
        return sorted(Change("/" + os.fsdecode(path), kind) for path, kind in self._changes.items())

    def _compare(self, found: Found) -> None:
        path, status = found.path, found.status
        old = self._stat(path)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            if old is not None:
                self._note(path, ChangeKind.DELETED)
            return
        if old is None:
            self._note(path, ChangeKind.ADDED)
            return
        if not (stat.S_ISDIR(status.st_mode) and stat.S_ISDIR(old.st_mode)):
            self._note(path, ChangeKind.MODIFIED)
            return
        if self._same_folder(found, old):
            # Was only copied up; what is changed in it, if anything, follows in the walk.
            self._unchanged.append(path)
        else:
            self._note(path, ChangeKind.MODIFIED)
        if self._is_opaque(found):
            self._opaque.append(path)
            self._note_hidden(found)

    def _note(self, path: bytes, kind: ChangeKind) -> None:
        while self._unchanged:
            folder = self._unchanged.pop()
            if path.startswith(folder + b"/"):
                self._changes[folder] = ChangeKind.MODIFIED
        self._changes[path] = kind

    def _stat(self, path: bytes) -> os.stat_result | None:
        head, _, name = path.rpartition(b"/")
        try:
            return os.stat(name, dir_fd=self._below.open(head), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # ELOOP: a link is in the place of a folder on the way
            return None

    def _is_opaque(self, found: Found) -> bool:
        """Whether the folder hides what is below: it is marked so, or is in one that is."""
        while self._opaque and not found.path.startswith(self._opaque[-1] + b"/"):
            self._opaque.pop()
        return bool(self._opaque) or get_xattr(proc_path(found.dir_fd, found.name), _OPAQUE) == b"y"

    def _note_hidden(self, found: Found) -> None:
        """Note as deleted what the layers below have in a folder that hides it."""
        present = os.open(found.name, DIRECTORY, dir_fd=found.dir_fd)
        try:
            names = list_names(present)
        finally:
            os.close(present)
        below = os.open(b".", DIRECTORY, dir_fd=self._below.open(found.path))
        try:
            hidden = set(list_names(below)).difference(names)
        finally:
            os.close(below)
        for name in hidden:
            self._note(found.path + b"/" + name, ChangeKind.DELETED)

    def _same_folder(self, found: Found, old: os.stat_result) -> bool:
        new = found.status
        uid, gid = old.st_uid, old.st_gid
        if self._idmap is not None:
            try:
                uid, gid = self._idmap.host_uid(uid), self._idmap.host_gid(gid)
            except ValueError:
                return False
        if (new.st_mode, new.st_uid, new.st_gid, new.st_mtime_ns) != (
            old.st_mode,
            uid,
            gid,
            old.st_mtime_ns,
        ):
            return False
        return _attributes(found.dir_fd, found.name) == _attributes(
            self._below.open(found.path), b"."
        )


def _attributes(dir_fd: int, name: bytes) -> dict[bytes, bytes]:
    found = read_xattrs(proc_path(dir_fd, name))
    return {key: value for key, value in found.items() if not key.startswith(b"trusted.overlay.")}
