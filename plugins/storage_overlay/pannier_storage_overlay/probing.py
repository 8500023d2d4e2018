"""Trying whether overlayfs works in a folder."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pannier.errors import DriverUnavailable, PannierError
from pannier.linux.trees import DIRECTORY, remove_tree
from pannier_storage_overlay.union import Mounter, Union

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["probe_overlay"]

_HINT = (
    "put [engine] root on ext4, xfs (ftype=1) or btrfs, and run as root;"
    ' or set [drivers] storage = "vfs"'
)


def probe_overlay(root: Path) -> None:
    """Mount an overlay below *root*, delete a file through it, and see that it left a whiteout.

    :raises DriverUnavailable: with what the kernel said.
    """
    name = f"probe-{os.getpid()}-{os.urandom(4).hex()}"
    base = root / name
    try:
        for folder in ("", "lower", "upper", "work", "scratch"):
            (base / folder).mkdir(mode=0o700)
        (base / "lower" / "file").touch()
        os.setxattr(base / "upper", "trusted.overlay.opaque", b"n")
        _try(base)
    except PannierError as error:
        raise DriverUnavailable(error.message, hint=error.hint) from error
    except OSError as error:
        raise DriverUnavailable(
            f"overlayfs does not work in {root}: {error.strerror}", hint=_HINT
        ) from error
    finally:
        parent = os.open(root, DIRECTORY)
        try:
            remove_tree(os.fsencode(name), parent)
        finally:
            os.close(parent)


def _try(base: Path) -> None:
    union = Union(
        lowers=(str(base / "lower"),),
        scratch=str(base / "scratch"),
        upper=str(base / "upper"),
        work=str(base / "work"),
        # Unmounting would otherwise wait for everything that anybody wrote to this filesystem.
        volatile=True,
    )
    merged = Mounter().mount(union)
    try:
        os.unlink("file", dir_fd=merged)
    finally:
        os.close(merged)
    left = (base / "upper" / "file").lstat()
    if not (stat.S_ISCHR(left.st_mode) and left.st_rdev == 0):
        raise DriverUnavailable("overlayfs here does not write whiteouts as devices", hint=_HINT)
