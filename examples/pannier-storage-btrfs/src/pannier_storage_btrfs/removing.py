"""Removing subvolumes, also those that have others inside them."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from pannier.linux.trees import DIRECTORY, Folders, remove_tree, walk_tree

from pannier_storage_btrfs import ioctls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["TREE", "remove_folder", "remove_subvolume"]

TREE: Final = b"tree"
"""The name of the subvolume in the folder of a layer or container."""

_FULL: Final = 0.1
"""The share of the filesystem that is free, below which the space is wanted back at once."""


def remove_folder(name: bytes, dir_fd: int, *, between: Callable[[], None]) -> None:
    """Remove the folder of a layer or container, or what is left of one; for the layer store."""
    between()
    try:
        folder = os.open(name, DIRECTORY, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        remove_subvolume(TREE, folder)
    finally:
        os.close(folder)
    remove_tree(name, dir_fd, between=between)
    if _is_nearly_full(dir_fd):
        ioctls.clean_up_soon(dir_fd)


def remove_subvolume(name: bytes, dir_fd: int) -> None:
    """Remove a subvolume with all that is in it. Idempotent; what is none is left alone."""
    try:
        subvolume = os.open(name, DIRECTORY, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        if not ioctls.is_subvolume(os.fstat(subvolume)):
            return
        number = ioctls.subvolume_id(subvolume)
        try:
            ioctls.destroy_subvolume(dir_fd, name)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            _remove_inner(subvolume)
            ioctls.destroy_subvolume(dir_fd, name)
    finally:
        os.close(subvolume)
    with contextlib.suppress(OSError):  # none there, or the kernel's own business
        ioctls.forget_quota_group(dir_fd, number)


def _remove_inner(subvolume: int) -> None:
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
                remove_subvolume(name, folder)


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


def _is_nearly_full(descriptor: int) -> bool:
    found = os.fstatvfs(descriptor)
    return found.f_bavail < found.f_blocks * _FULL
