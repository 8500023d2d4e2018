"""The folder tree that a layer is unpacked into: where entries go, and what they replace.

Everything is done through descriptors of folders below the root, with names of one component that
are never followed; a folder is found with openat2(2) as a process whose root it is would find it.
So a link in the archive, in whatever order it comes, can lead nowhere outside.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from errno import ELOOP, ENOENT, ENOTDIR
from typing import TYPE_CHECKING, Final, Literal

from pannier.errors import ImageInvalid
from pannier.linux.paths import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)
from pannier.linux.trees import DIRECTORY, PATH, list_names, remove_tree
from pannier.linux.xattrs import get_xattr, proc_path, read_xattrs, set_xattr

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPAQUE", "Tree", "Whiteouts"]

Whiteouts = Literal["overlay", "apply", "none"]

OPAQUE: Final = b"trusted.overlay.opaque"
"""The attribute by which overlayfs hides what lies below a folder (kernel: overlayfs.rst)."""

_LINKS: Final = 40
_CACHED: Final = 64


@dataclass(frozen=True, slots=True)
class _Level:
    """A folder on the way: its own path, and whether what the layers below have there is hidden."""

    descriptor: int
    path: bytes
    hidden: bool


class Tree:
    """A root folder under construction.

    :param root: a descriptor of the root, readable; stays open.
    :param whiteouts: see :func:`pannier.images.unpack.unpack_layer`.
    :param lower: gives a descriptor of the merged layers below, asked for when first needed.
    """

    def __init__(
        self, root: int, whiteouts: Whiteouts, lower: Callable[[], int | None] | None
    ) -> None:
        self.root = root
        self.replaced = False
        self.implied_times: dict[bytes, int] = {}
        self.implied = 0
        self._overlay = whiteouts == "overlay"
        self._open_lower = lower
        self._lower: int | None = None
        self._folders: dict[bytes, int] = {}
        self._stale: list[int] = []
        self._made: set[tuple[int, bytes]] = set()

    def close(self) -> None:
        """Close every descriptor."""
        self._forget()
        self.begin_entry()
        if self._lower is not None:
            os.close(self._lower)
            self._lower = None

    def begin_entry(self) -> None:
        """Close the descriptors that the last entry may still have used."""
        while self._stale:
            os.close(self._stale.pop())

    def _forget(self) -> None:
        """Empty the cache of folders: something that a path in it runs through was replaced."""
        self._stale += self._folders.values()
        self._folders.clear()

    # Finding folders.

    def folder(self, path: bytes) -> int:
        """Return a descriptor of the folder *path*, made if it is missing.

        It may be used until the next :meth:`begin_entry`. Links on the way are followed inside the
        root, as Docker and containerd do. A missing folder gets the mode, owner and attributes
        that it has in the layers below; if it is in none it is root's, mode 0755.
        """
        descriptor = self._folders.get(path)
        if descriptor is not None:
            return descriptor
        if not path:
            return self.remember(path, os.dup(self.root))
        if self._overlay:
            try:
                return self.remember(path, self._open(path))
            except (FileNotFoundError, NotADirectoryError):
                pass
        # While applying, each folder on the way must be noted as this layer's.
        return self.remember(path, self._walk(path))

    def _open(self, path: bytes) -> int:
        flags = os.O_PATH | os.O_DIRECTORY
        return openat2(self.root, path, flags, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)

    def remember(self, path: bytes, descriptor: int) -> int:
        """Put a folder's descriptor, which becomes the tree's, into the cache; return it."""
        old = self._folders.pop(path, None)
        if old is not None:
            self._stale.append(old)
        while len(self._folders) >= _CACHED:
            self._stale.append(self._folders.pop(next(iter(self._folders))))
        self._folders[path] = descriptor
        return descriptor

    def _walk(self, path: bytes) -> int:
        names = path.split(b"/")[::-1]
        levels = [_Level(os.dup(self.root), b"", hidden=False)]
        links = 0
        try:
            while names:
                name = names.pop()
                if name in (b"", b"."):
                    continue
                if name == b"..":  # only out of a link; the root's parent is the root
                    if len(levels) > 1:
                        os.close(levels.pop().descriptor)
                    continue
                target = self._step(levels, name)
                if target is None:
                    continue
                links += 1
                if links > _LINKS:
                    raise ImageInvalid(f"the folder {path!r} runs through too many links")
                if target.startswith(b"/"):
                    while len(levels) > 1:
                        os.close(levels.pop().descriptor)
                names += target.split(b"/")[::-1]
            return levels.pop().descriptor
        finally:
            for level in levels:
                os.close(level.descriptor)

    def _step(self, levels: list[_Level], name: bytes) -> bytes | None:
        """Descend into *name*, made if it is missing; or return where the link there leads."""
        here = levels[-1]
        path = here.path + b"/" + name if here.path else name
        hidden = here.hidden
        try:
            found = os.stat(name, dir_fd=here.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            below = None if hidden else self.open_below(path)
            try:
                if below is not None and stat.S_ISLNK(os.fstat(below).st_mode):
                    return os.readlink(b"", dir_fd=below)
                self._make(here.descriptor, name, path, below)
            finally:
                if below is not None:
                    os.close(below)
        else:
            if stat.S_ISLNK(found.st_mode):
                return os.readlink(name, dir_fd=here.descriptor)
            if not stat.S_ISDIR(found.st_mode):
                self.discard(here.descriptor, name)
                self._make(here.descriptor, name, path, None)
                self.hide_below(here.descriptor, name)
            elif not self._overlay:
                self.implied_times.setdefault(path, found.st_mtime_ns)
        self.note(here.descriptor, name)
        descriptor = os.open(name, PATH | os.O_DIRECTORY, dir_fd=here.descriptor)
        if self._overlay and not hidden:
            hidden = get_xattr(proc_path(descriptor, b"."), OPAQUE) == b"y"
        levels.append(_Level(descriptor, path, hidden))
        return None

    def _make(self, here: int, name: bytes, path: bytes, below: int | None) -> None:
        os.mkdir(name, 0o755, dir_fd=here)
        self.implied += 1
        descriptor = os.open(name, DIRECTORY, dir_fd=here)
        try:
            status = None if below is None else os.fstat(below)
            if below is None or status is None or not stat.S_ISDIR(status.st_mode):
                os.fchown(descriptor, 0, 0)
                os.fchmod(descriptor, 0o755)
                return
            os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            for key, value in read_xattrs(proc_path(below, b".")).items():
                if not key.startswith(b"trusted.overlay."):
                    set_xattr(descriptor, key, value)
            self.implied_times[path] = status.st_mtime_ns
        finally:
            os.close(descriptor)

    def open_below(self, path: bytes) -> int | None:
        """Return a descriptor of what the layers below show at *path*, not followed.

        :param path: without links in its folders; a link of the layers below that is in a folder's
            place is one that this layer has replaced.
        """
        if self._open_lower is not None:
            self._lower = self._open_lower()
            self._open_lower = None
        if self._lower is None:
            return None
        try:
            return openat2(self._lower, path, PATH, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR, ELOOP):
                return None
            raise

    def hides_below(self, folder: bytes) -> bool:
        """Whether the folder, a path without links, shows nothing of the layers below."""
        end = 0
        while self._overlay and end != len(folder):
            end = folder.find(b"/", end + 1)
            end = len(folder) if end < 0 else end
            if get_xattr(proc_path(self.root, folder[:end]), OPAQUE) == b"y":
                return True
        return False

    # What was there before.

    def note(self, here: int, name: bytes) -> None:
        """Take note that the layer itself has *name*: its whiteouts are not about it."""
        if not self._overlay:
            self._made.add((os.fstat(here).st_ino, name))

    def discard(self, here: int, name: bytes) -> None:
        """Remove what was there before, with everything below it."""
        self.replaced = True
        self._forget()
        remove_tree(name, here, aside=self.root)

    def hide_below(self, here: int, name: bytes) -> None:
        """Have the folder *name* hide what the layers below have there."""
        if self._overlay:
            set_xattr(proc_path(here, name), OPAQUE, b"y")

    def whiteout(self, here: int, name: bytes) -> None:
        """Hide or remove what the layers below have as *name*; what the layer itself has stays."""
        try:
            found = os.stat(name, dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            if self._overlay and self._may_be_below(here, name):
                os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=here)
                os.chown(name, 0, 0, dir_fd=here, follow_symlinks=False)
            return
        folder = stat.S_ISDIR(found.st_mode)
        if self._overlay:
            if folder:
                self.hide_below(here, name)
            return
        if (os.fstat(here).st_ino, name) not in self._made:
            self.discard(here, name)
        elif folder:
            inner = os.open(name, DIRECTORY, dir_fd=here)
            try:
                self._purge(inner)
            finally:
                os.close(inner)

    def _may_be_below(self, here: int, name: bytes) -> bool:
        """Whether the layers below show something as *name*, as far as can be told.

        Overlayfs lists a folder that only one layer shows as it is, with the devices that stand
        for deletions: a whiteout must not be made where there is nothing to delete.
        """
        if self._open_lower is None and self._lower is None:
            return True
        path = self._path_of(here)
        if path is None:
            return True
        if self.hides_below(path):
            return False
        below = self.open_below(path + b"/" + name if path else name)
        if below is not None:
            os.close(below)
        return below is not None

    def _path_of(self, folder: int) -> bytes | None:
        """Return a folder's path in the layer, without links; None where it is too long to tell."""
        try:
            full, root = (
                os.readlink(proc_path(item))  # noqa: PTH115 - names are bytes
                for item in (folder, self.root)
            )
        except OSError:  # longer than a page
            return None
        return full[len(root) :].lstrip(b"/")

    def opaque(self, here: int) -> None:
        """Hide or remove everything that the layers below have in the folder *here*."""
        if self._overlay:
            set_xattr(proc_path(here, b"."), OPAQUE, b"y")
            self._drop_whiteouts(here)
            return
        inner = os.open(b".", DIRECTORY, dir_fd=here)
        try:
            self._purge(inner)
        finally:
            os.close(inner)

    def _drop_whiteouts(self, here: int) -> None:
        """Remove the whiteouts of a folder that hides all there is to delete."""
        inner = os.open(b".", DIRECTORY, dir_fd=here)
        try:
            for name in list_names(inner):
                found = os.stat(name, dir_fd=inner, follow_symlinks=False)
                if stat.S_ISCHR(found.st_mode) and not found.st_rdev:
                    os.unlink(name, dir_fd=inner)
        finally:
            os.close(inner)

    def _purge(self, here: int) -> None:
        for child in list_names(here):
            self.whiteout(here, child)
