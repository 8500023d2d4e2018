"""A root put together from outside: filesystems, binds and masks in it, before it is entered.

Mounts are made detached, their destinations opened inside the root, and the one moved onto the
other by descriptors: no path of the container's is ever given to mount(2), so nothing can be
swapped in between, and no symbolic link leads out of the root.

Imported by the small processes that become containers, where each import costs memory.
"""

from __future__ import annotations

import os
import stat
from errno import EINVAL, ENOENT, ENOTDIR

from pannier.linux import mounts
from pannier.linux.filesystems import DEVPTS, PROC, filesystem_type
from pannier.linux.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    open_in_root,
    openat2,
)
from pannier.linux.rootpath import make_directory, make_file, open_plain_directory
from pannier.linux.terminal import number, open_master, open_slave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "attach",
    "attach_filesystem",
    "enter_root",
    "hide",
    "new_filesystem",
    "open_console",
    "protect",
    "set_parameter",
]

_NULL = os.makedev(1, 3)
_HARDENED = (
    mounts.MOUNT_ATTR_RDONLY
    | mounts.MOUNT_ATTR_NOSUID
    | mounts.MOUNT_ATTR_NODEV
    | mounts.MOUNT_ATTR_NOEXEC
)


def new_filesystem(
    kind: str,
    source: str | bytes,
    attributes: int = 0,
    options: Iterable[tuple[str, str | bytes | None]] = (),
) -> int:
    """Return a descriptor of a new, detached instance of a filesystem.

    :param attributes: of the mount: ``MOUNT_ATTR_RDONLY`` and the like.
    :param options: the filesystem's own; None for one without a value.
    """
    context = mounts.fsopen(kind)
    try:
        try:  # noqa: SIM105 - contextlib would cost memory
            mounts.fsconfig_set(context, "source", source)
        except OSError:
            pass  # some have none
        for key, value in options:
            if value is None:
                mounts.fsconfig_flag(context, key)
            else:
                mounts.fsconfig_set(context, key, value)
        mounts.fsconfig_create(context)
        return mounts.fsmount(context, attributes)
    finally:
        os.close(context)


def attach_filesystem(root: int, destination: bytes, kind: str, mount: int) -> None:
    """Attach a detached filesystem at a folder inside the root, which is made where missing.

    No link may lead a procfs or sysfs elsewhere: what is written to them must reach them.
    """
    opener = open_plain_directory if kind in ("proc", "sysfs") else make_directory
    target = opener(root, destination)
    try:
        mounts.move_mount(mount, dir_fd=target)
    finally:
        os.close(target)


def attach(root: int, destination: bytes, mount: int) -> None:
    """Attach a detached mount of a folder or file inside the root; its place is made if missing."""
    make = make_directory if stat.S_ISDIR(os.fstat(mount).st_mode) else make_file
    target = make(root, destination)
    try:
        mounts.move_mount(mount, dir_fd=target)
    finally:
        os.close(target)


def open_console(root: int) -> tuple[int, int]:
    """Open a terminal of the root's own devpts, shown as /dev/console; return master and slave."""
    master = open_master(root)
    slave = open_slave(master)
    seen = open_in_root(root, f"dev/pts/{number(master)}")
    try:
        if filesystem_type(seen) != DEVPTS or os.fstat(seen).st_rdev != os.fstat(slave).st_rdev:
            raise OSError(EINVAL, "something else has taken the terminal's place")
        copy = mounts.clone_tree("", dir_fd=seen)
    finally:
        os.close(seen)
    try:
        attach(root, b"dev/console", copy)
    finally:
        os.close(copy)
    return master, slave


def hide(root: int, path: bytes, null: str = os.devnull) -> None:
    """Hide a file behind the null device, a folder behind an empty one; nothing where neither is.

    :param null: a null device to bind where the root has none.
    """
    target = _existing(root, path)
    if target < 0:
        return
    try:
        if stat.S_ISDIR(os.fstat(target).st_mode):
            options = (("nr_blocks", b"1"), ("ro", None))
            cover = new_filesystem("tmpfs", b"tmpfs", _HARDENED, options)
        else:
            cover = _null(root, null)
        try:
            mounts.move_mount(cover, dir_fd=target)
        finally:
            os.close(cover)
    finally:
        os.close(target)


def _existing(root: int, path: bytes) -> int:
    try:
        return open_in_root(root, path)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return -1
        raise


def _null(root: int, null: str) -> int:
    # The container's own, where it really is one: a mask must not be a file of the image's.
    found = _existing(root, b"dev/null")
    if found >= 0:
        try:
            status = os.fstat(found)
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL:
                return mounts.clone_tree("", dir_fd=found)
        finally:
            os.close(found)
    ours = mounts.clone_tree(null)
    mounts.mount_setattr(ours, set=mounts.MOUNT_ATTR_RDONLY)
    return ours


def protect(root: int, path: bytes) -> None:
    """Let nobody write below a path; nothing where it is missing."""
    target = _existing(root, path)
    if target < 0:
        return
    try:
        copy = mounts.clone_tree("", dir_fd=target, recursive=True)
        try:
            mounts.mount_setattr(copy, set=mounts.MOUNT_ATTR_RDONLY, recursive=True)
            mounts.move_mount(copy, dir_fd=target)
        finally:
            os.close(copy)
    finally:
        os.close(target)


def set_parameter(proc: int, path: bytes, value: bytes) -> None:
    """Set a kernel parameter of this process's namespaces.

    :param proc: a procfs that is surely one, because this process has mounted it.
    :param path: below ``/proc/sys``.
    """
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
    parameter = openat2(proc, b"sys/" + path, os.O_WRONLY, resolve=resolve)
    try:
        if filesystem_type(parameter) != PROC:
            raise OSError(EINVAL, "not a file of procfs", path)
        os.write(parameter, value)
    finally:
        os.close(parameter)


def enter_root(root: int) -> None:
    """Make an attached mount the root, and let go of everything else: pivot_root(2)."""
    os.fchdir(root)
    mounts.pivot_root(".", ".")
    # Now the host's tree lies on top of ours, at this very place.
    mounts.umount(".", mounts.MNT_DETACH)
    os.chdir("/")
