"""Removing subvolumes, also those that have others inside them."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, Final

from pannier.linux.trees import DIRECTORY, Folders, remove_tree, walk_tree

from pannier_storage_btrfs import ioctls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pannier_storage_btrfs.quota_groups import QuotaGroups

__all__ = ["TREE", "Remover"]

TREE: Final = b"tree"
"""The name of the subvolume in the folder of a layer or container."""

_FULL: Final = 0.1
"""The share of the filesystem that is free, below which the space is wanted back at once."""

_PATIENCE: Final = 1.0
_PAUSE: Final = 0.01
"""Seconds."""


class Remover:
    """Removes subvolumes, and in the end their quota groups."""

    def __init__(self, groups: QuotaGroups) -> None:
        self._groups = groups

    def folder(self, name: bytes, dir_fd: int, *, between: Callable[[], None]) -> None:
        """Remove the folder of a layer or container, or what is left of one; for the store."""
        between()
        try:
            folder = os.open(name, DIRECTORY, dir_fd=dir_fd)
        except FileNotFoundError:
            return
        try:
            number = self.subvolume(TREE, folder)
        finally:
            os.close(folder)
        remove_tree(name, dir_fd, between=between)
        if number and _is_nearly_full(dir_fd):
            _clean_up(number, dir_fd)
        self._groups.sweep_now_and_then()

    def subvolume(self, name: bytes, dir_fd: int) -> int:
        """Remove a subvolume with all that is in it; return its number.

        Idempotent. What is none is left alone, and the answer 0.
        """
        try:
            subvolume = os.open(name, DIRECTORY, dir_fd=dir_fd)
        except FileNotFoundError:
            return 0
        try:
            if not ioctls.is_subvolume(os.fstat(subvolume)):
                return 0
            number = ioctls.subvolume_id(subvolume)
            self._groups.note(number)
            try:
                ioctls.destroy_subvolume(dir_fd, name)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                self._inner(subvolume)
                ioctls.destroy_subvolume(dir_fd, name)
        finally:
            os.close(subvolume)
        return number

    def _inner(self, subvolume: int) -> None:
        """Remove the subvolumes in one: whoever may make a folder may make a subvolume, too."""
        _make_writable(subvolume)
        inner = [found.path for found in walk_tree(subvolume) if ioctls.is_subvolume(found.status)]
        with contextlib.closing(Folders(subvolume)) as folders:
            for path in inner:
                with _opened(folders.open(path)) as descriptor:
                    _make_writable(descriptor)
            for path in reversed(inner):  # those inside others first
                head, _, name = path.rpartition(b"/")
                with _opened(folders.open(head)) as folder:
                    self.subvolume(name, folder)


def _make_writable(subvolume: int) -> None:
    if ioctls.is_read_only(subvolume):
        ioctls.set_read_only(subvolume, read_only=False)


@contextlib.contextmanager
def _opened(named: int) -> Iterator[int]:
    """Open what a descriptor only names (O_PATH)."""
    descriptor = os.open(b".", DIRECTORY, dir_fd=named)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _clean_up(number: int, descriptor: int) -> None:
    """Have the space of a destroyed subvolume back soon, for which somebody may be waiting."""
    deadline = time.monotonic() + _PATIENCE
    ioctls.clean_up_soon(descriptor)
    while not ioctls.is_cleaned_up(descriptor, number):
        if time.monotonic() > deadline:
            return
        time.sleep(_PAUSE)  # nothing tells, before Linux 6.13
    ioctls.clean_up_soon(descriptor)  # with this commit it is free


def _is_nearly_full(descriptor: int) -> bool:
    found = os.fstatvfs(descriptor)
    return found.f_bavail < found.f_blocks * _FULL
