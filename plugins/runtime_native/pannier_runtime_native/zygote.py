"""The zygote: a small process that is forked into the shim of every container.

It holds all that a shim needs loaded and frozen, so that a shim costs a fork and not the start of
an interpreter, and shares its memory. It lives in a mount namespace with nothing in it but a procfs
and a few empty folders: so a container's own namespace, which begins as a copy, is quickly made,
and no shim keeps a mount of the host's busy. It ends with the driver; shims do not.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import stat

from pannier.linux import mounts
from pannier.linux.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    unshare,
)
from pannier.linux.process import clone, set_dumpable, set_name
from pannier_runtime_native import shim
from pannier_runtime_native.assembly import DEVICES, PLACEHOLDER
from pannier_runtime_native.channel import receive_descriptors

__all__ = ["FORK", "READY", "TRY", "main"]

FORK = b"f"
"""The driver sends this byte with a descriptor, to have a shim."""

TRY = b"t"
"""The driver sends this byte to have namespaces tried; :data:`READY` or a reason is the answer."""

READY = b"ready"

_MOST_DESCRIPTORS = 1 << 20
_own_pid = os.getpid()
_NULL_MODE = stat.S_IFCHR | 0o666


def _leave_host() -> None:
    """Enter a mount namespace in which there is nothing of the host's."""
    unshare(CLONE_NEWNS)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    context = mounts.fsopen("tmpfs")
    mounts.fsconfig_set(context, "mode", "0755")
    mounts.fsconfig_create(context)
    root = mounts.fsmount(context, mounts.MOUNT_ATTR_NOSUID)
    os.close(context)
    # In a user namespace the kernel lets procfs and sysfs be mounted only where others are seen.
    visible = ("proc", "sysfs")
    for name in ("/proc", "/sysfs", PLACEHOLDER, DEVICES):
        os.mkdir(name[1:], 0o755, dir_fd=root)
    os.mknod("null", _NULL_MODE, os.makedev(1, 3), dir_fd=root)
    os.chmod("null", 0o666, dir_fd=root)  # noqa: S103 - as every /dev/null
    mounts.move_mount(root, "/")
    os.fchdir(root)
    for kind in visible:
        context = mounts.fsopen(kind)
        mounts.fsconfig_create(context)
        mounted = mounts.fsmount(context)
        os.close(context)
        mounts.move_mount(mounted, kind)
        os.close(mounted)
    try:
        mounts.pivot_root(".", ".")
        mounts.umount(".", mounts.MNT_DETACH)
    except OSError:
        # Where the host's root is no mount of its own (a chroot), its mounts stay out of sight.
        os.chroot(".")
    os.chdir("/")
    os.close(root)
    null = os.open("/null", os.O_RDWR)
    for target in range(3):
        os.dup2(null, target)
    os.close(null)


def _on_child(*_: object) -> None:
    # A shim awaits its own children; it knows them from its members.
    if os.getpid() == _own_pid:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _prepare() -> None:
    set_dumpable(False)
    set_name("pannier-zygote")
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):  # two belong to the C library
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Handlers and not SIG_IGN, because execve takes handlers back by itself: so no child of ours
    # has to, and a shim's SIGCHLD wakes its loop.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGCHLD, _on_child)
    os.umask(0o022)


def _try_namespaces(driver: socket.socket) -> None:
    """Tell whether a child of ours can be in namespaces of its own, and mount there."""
    try:
        if clone(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET):
            return
    except OSError as error:
        driver.send(f"creating namespaces: {error.strerror}".encode())
        return
    try:
        unshare(CLONE_NEWCGROUP)
        for kind in ("proc", "sysfs", "tmpfs", "devpts", "mqueue"):
            context = mounts.fsopen(kind)
            mounts.fsconfig_create(context)
            mounts.move_mount(mounts.fsmount(context), PLACEHOLDER)
        driver.send(READY)
    except OSError as error:
        driver.send(f"mounting in a new namespace: {error.strerror}".encode())
    finally:
        os._exit(0)


def main(number: int) -> None:
    """Fork a shim for every descriptor that the driver sends; end with the driver.

    :param number: the descriptor of the driver's socket.
    """
    os.closerange(3, number)
    os.closerange(number + 1, _MOST_DESCRIPTORS)
    driver = socket.socket(fileno=number)
    os.set_inheritable(number, False)
    try:
        _prepare()
        _leave_host()
    except OSError as error:
        driver.send(str(error).encode())
        return
    driver.send(READY)
    gc.collect()
    gc.disable()
    gc.freeze()
    while True:
        word, descriptors = receive_descriptors(driver, 1)
        if not word:
            return
        if word == TRY:
            _try_namespaces(driver)
        for descriptor in descriptors:
            try:
                pid = os.fork()
            except OSError:
                pid = -1  # the driver sees the end of its socket, and why is in its own limits
            if not pid:
                driver.close()
                shim.main(descriptor)
            os.close(descriptor)
