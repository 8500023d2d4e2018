"""Mounting a union with overlayfs, as a detached mount (kernel: filesystems/overlayfs.rst).

There are two ways. The descriptor-based interface takes one lower layer a call (``lowerdir+``,
Linux 6.7), and never touches the host's mount table. Where the kernel lacks it, or does not take
detached mounts as layers (before 6.15, which matters to id maps), mount(2) is used in a mount
namespace that lasts for one thread: its options must fit one page, which they do since the layers
get one-digit names there; and nothing mounted in it is seen outside, or outlives the thread.
Which way works is found by trying.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pannier.errors import DriverError, PannierError, UnsupportedOperation
from pannier.linux.mounts import (
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    clone_tree,
    fsconfig_create,
    fsconfig_flag,
    fsconfig_set,
    fsmount,
    fsopen,
    mount,
    mount_setattr,
    move_mount,
)
from pannier.linux.namespaces import CLONE_NEWNS, unshare

__all__ = ["MAX_LOWERS", "OPTIONS", "Mounter", "Union"]

MAX_LOWERS: Final = 500
"""The kernel's own bound (OVL_MAX_STACK)."""

_STRING_LIMIT: Final = 255
_REFUSALS: Final = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)

OPTIONS: Final = {
    # No redirects, made or followed: a folder is renamed by copying (the kernel answers EXDEV, and
    # mv copies), so that the upper folder alone tells what changed; and no archive or folder of
    # the host can lead a lookup elsewhere.
    "redirect_dir": "nofollow",
    # Whole files are copied up, so that the upper folder alone has what a diff must hold.
    "metacopy": "off",
    # An index would tie the upper folder to its lower layers by file handles, and refuse it over
    # restored or copied ones.
    "index": "off",
}


@dataclass(frozen=True, slots=True)
class Union:
    """What to unite.

    :param lowers: folders, top first; at least one.
    :param upper: the writable folder; with None the union is read-only.
    :param work: overlayfs' own folder beside it, on the same filesystem.
    :param userns: a descriptor of the user namespace that the lower layers' ids are mapped with.
    :param volatile: leave out every sync to the disk, also those that programs ask for.
    :param scratch: an empty folder to mount things on, where only this process sees it.
    """

    lowers: tuple[str, ...]
    scratch: str
    upper: str | None = None
    work: str | None = None
    userns: int | None = None
    volatile: bool = False


class Mounter:
    """Mounts unions, by the way that works on this host.

    Which way that is, is remembered for as long as the mounter lives: a way that the kernel refuses
    makes it complain in its log each time.
    """

    def __init__(self) -> None:
        self._in_thread: set[bool] = set()

    def mount(self, union: Union) -> int:
        """Return a descriptor of a detached mount of the union; the caller closes it.

        :raises UnsupportedOperation: over 500 lower layers, or no id-mapped mounts here.
        :raises DriverError: the kernel refused, with what it said.
        """
        if len(union.lowers) > MAX_LOWERS:
            raise UnsupportedOperation(
                f"the image has {len(union.lowers)} layers; overlayfs unites at most {MAX_LOWERS}",
                hint='squash the image, or set [drivers] storage = "vfs"',
            )
        with contextlib.ExitStack() as opened:
            mapped = _map_lowers(union, opened)
            if union.upper is None and len(union.lowers) == 1:
                descriptor = os.dup(mapped[0]) if mapped else clone_tree(union.lowers[0])
                return _read_only(descriptor)
            said: list[str] = []
            if bool(mapped) not in self._in_thread:
                try:
                    return _mount_by_descriptors(union, mapped, said)
                except OSError as error:
                    if error.errno not in _REFUSALS:
                        raise _explain(error, said) from error
            descriptor = _mount_in_thread(union, mapped, said)
            self._in_thread.add(bool(mapped))
            return descriptor


def _read_only(descriptor: int) -> int:
    try:
        mount_setattr(descriptor, set=MOUNT_ATTR_RDONLY)
    except OSError as error:
        os.close(descriptor)
        raise DriverError(f"cannot make a mount read-only: {error.strerror}") from error
    return descriptor


def _map_lowers(union: Union, opened: contextlib.ExitStack) -> list[int]:
    """Return id-mapped detached mounts of the lower layers; none without an id map."""
    mapped: list[int] = []
    if union.userns is None:
        return mapped
    for lower in union.lowers:
        descriptor = clone_tree(lower)
        opened.callback(os.close, descriptor)
        try:
            mount_setattr(descriptor, set=MOUNT_ATTR_IDMAP, userns_fd=union.userns)
        except OSError as error:
            raise UnsupportedOperation(
                f"cannot mount {lower} with mapped ids: {error.strerror}",
                hint="id-mapped mounts need Linux 5.12 and a filesystem that has them (ext4, xfs,"
                " btrfs); run the container with --userns=host",
            ) from error
        mapped.append(descriptor)
    return mapped


def _name(path: str, opened: contextlib.ExitStack) -> str:
    """Return a name for a folder that the kernel takes as an option's value."""
    if len(os.fsencode(path)) <= _STRING_LIMIT and "\\" not in path:
        return path
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    return f"/proc/self/fd/{descriptor}"


def _mount_by_descriptors(union: Union, mapped: list[int], said: list[str]) -> int:
    context = fsopen("overlay")
    try:
        with contextlib.ExitStack() as opened:
            fsconfig_set(context, "source", "overlay")
            if mapped:
                for descriptor in mapped:
                    fsconfig_set(context, "lowerdir+", f"/proc/self/fd/{descriptor}")
            else:
                for lower in union.lowers:
                    fsconfig_set(context, "lowerdir+", _name(lower, opened))
            if union.upper is not None and union.work is not None:
                fsconfig_set(context, "upperdir", _name(union.upper, opened))
                fsconfig_set(context, "workdir", _name(union.work, opened))
                if union.volatile:
                    fsconfig_flag(context, "volatile")
            for key, value in OPTIONS.items():
                fsconfig_set(context, key, value)
            fsconfig_create(context)
            return fsmount(context, 0 if union.upper is not None else MOUNT_ATTR_RDONLY)
    except OSError:
        said += _kernel_log(context)
        raise
    finally:
        os.close(context)


def _kernel_log(context: int) -> list[str]:
    """Return what the kernel left to say in a filesystem context, one message a read."""
    messages = []
    with contextlib.suppress(OSError):  # ENODATA: there is no more
        while message := os.read(context, 1024):
            messages.append(message.decode(errors="replace").strip())
    return messages


def _mount_in_thread(union: Union, mapped: list[int], said: list[str]) -> int:
    result: list[int] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(_mount_in_namespace(union, mapped))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            failure.append(error)

    # The thread leaves the process' mount namespace and working folder, and cannot come back.
    thread = threading.Thread(target=work, name="overlay-mount")
    thread.start()
    thread.join()
    if failure:
        if isinstance(failure[0], OSError):
            raise _explain(failure[0], said) from failure[0]
        raise failure[0]
    return result[0]


def _mount_in_namespace(union: Union, mapped: list[int]) -> int:
    unshare(CLONE_NEWNS)  # and CLONE_FS with it, for this thread
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", union.scratch, "tmpfs", 0, "mode=0700")
    os.chdir(union.scratch)
    for number, lower in enumerate(union.lowers):
        if mapped:
            Path(f"{number}").mkdir()
            move_mount(mapped[number], f"{number}")
        else:
            Path(f"{number}").symlink_to(lower)
    options = ["lowerdir=" + ":".join(str(number) for number in range(len(union.lowers)))]
    if union.upper is not None and union.work is not None:
        Path("u").symlink_to(union.upper)
        Path("w").symlink_to(union.work)
        options += ["upperdir=u", "workdir=w"]
        if union.volatile:
            options.append("volatile")
    options += [f"{key}={value}" for key, value in OPTIONS.items()]
    Path("m").mkdir()
    flags = 0 if union.upper is not None else MS_RDONLY
    mount("overlay", "m", "overlay", flags, ",".join(options))
    return clone_tree("m")


def _explain(error: OSError, said: list[str]) -> PannierError:
    words = "; ".join(said)
    message = f"cannot mount an overlay: {error.strerror}"
    if error.errno == errno.ENODEV:
        return DriverError("the kernel has no overlay filesystem", hint="run: modprobe overlay")
    return DriverError(
        f"{message} ({words})" if words else message,
        hint="[engine] root must be on a filesystem that overlayfs can write on (ext4, xfs, btrfs,"
        ' tmpfs), not on another overlay; or set [drivers] storage = "vfs"',
    )
