"""How a helper process leaves what it was started in: its signals, and the host's filesystem."""

from __future__ import annotations

import os
import stat

from pannier.linux import mounts
from pannier.linux.namespaces import CLONE_NEWNS, setns, unshare
from pannier.linux.process import set_dumpable, set_name
from pannier.stdio.small import signal, suppress
from pannier_runtime_native.assembly import DEVICES, PLACEHOLDER

__all__ = ["become_helper", "leave_host"]

_NULL_MODE = stat.S_IFCHR | 0o666


def become_helper(name: str) -> None:
    """Be a process of its own: not looked into, named, and with every signal at its default."""
    set_dumpable(False)
    set_name(name)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):  # two belong to the C library
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Handlers and not SIG_IGN, because execve takes handlers back by itself: so no child of ours
    # has to, and a shim's SIGCHLD wakes its loop.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    os.umask(0o022)


def leave_host() -> None:
    """Enter a mount namespace in which there is nothing of the host's."""
    unshare(CLONE_NEWNS)
    # To the root of the namespace: in a chroot it is another than ours, and would stay.
    itself = os.pidfd_open(os.getpid())
    setns(itself, CLONE_NEWNS)
    os.close(itself)
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
        # The kernel's first root (an initramfs) cannot be exchanged, only covered.
        os.chroot(".")
    os.chdir("/")
    os.close(root)
    null = os.open("/null", os.O_RDWR)
    for target in range(3):
        os.dup2(null, target)
    os.close(null)
