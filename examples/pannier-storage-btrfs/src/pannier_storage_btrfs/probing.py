"""Trying whether the driver can work in a folder."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from pannier.errors import DriverUnavailable
from pannier.linux.mounts import clone_tree
from pannier.linux.trees import DIRECTORY

from pannier_storage_btrfs import ioctls
from pannier_storage_btrfs.quota_groups import QuotaGroups
from pannier_storage_btrfs.removing import Remover

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["probe_btrfs"]

_OTHER: Final = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL})
"""What other filesystems say of ioctls that they do not know."""


def probe_btrfs(folder: Path) -> None:
    """Make a subvolume and a snapshot of it in a folder, open it, and remove both again.

    :raises DriverUnavailable: something of it does not work there.
    """
    if not folder.is_absolute():
        raise DriverUnavailable(
            f"{str(folder)!r} is no absolute path",
            hint='give one in the table [storage.btrfs]: folder = "/srv/pannier"',
        )
    try:
        descriptor = os.open(folder, DIRECTORY)
    except OSError as error:
        raise DriverUnavailable(
            f"the folder {folder} cannot be opened: {error.strerror}",
            hint="mount the btrfs filesystem, and make the folder (mode 0700) on it",
        ) from error
    try:
        _try(folder, descriptor)
    finally:
        os.close(descriptor)


def _try(folder: Path, descriptor: int) -> None:
    token = os.urandom(6).hex()
    names = [f".probe-{token}-{part}".encode() for part in ("base", "snapshot")]
    try:
        ioctls.create_subvolume(descriptor, names[0])
        base = os.open(names[0], DIRECTORY, dir_fd=descriptor)
        try:
            ioctls.snapshot(base, descriptor, names[1])
        finally:
            os.close(base)
        os.close(clone_tree(os.fsdecode(names[1]), dir_fd=descriptor))
    except OSError as error:
        if error.errno in _OTHER:
            raise DriverUnavailable(
                f"{folder} does not lie on btrfs",
                hint="set folder in the table [storage.btrfs] to a folder on btrfs, or put the"
                " engine's root on one",
            ) from error
        raise DriverUnavailable(
            f"cannot make a subvolume in {folder}: {error.strerror}",
            hint="this needs Linux 5.2, root, and a filesystem that can be written to",
        ) from error
    finally:
        remover = Remover(QuotaGroups(folder))
        for name in reversed(names):
            remover.subvolume(name, descriptor)
