"""The zygote: a small process that is forked into the shim of every container.

It holds all that a shim needs loaded and frozen, so that a shim costs a fork and not the start of
an interpreter, and shares its memory. It lives in a mount namespace with nothing in it but a procfs
and a few empty folders: so a container's own namespace, which begins as a copy, is quickly made,
and no shim keeps a mount of the host's busy. It ends with the driver; shims do not.
"""

from __future__ import annotations

import _socket
import gc
import os
import select
import stat

from pannier.linux import mounts
from pannier.linux.namespaces import CLONE_NEWCGROUP, CLONE_NEWNS, CLONE_PARENT, setns, unshare
from pannier.linux.process import clone, die_with_parent, set_dumpable, set_name
from pannier_runtime_native import midwife, shim
from pannier_runtime_native.assembly import DEVICES, PLACEHOLDER
from pannier_runtime_native.channel import receive_descriptors
from pannier_runtime_native.creation import USUAL_NAMESPACES, prepare
from pannier_runtime_native.rehearsal import rehearse
from pannier_runtime_native.small import signal, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pannier_runtime_native.creation import Prepared

__all__ = ["FORK", "READY", "TRY", "main"]

FORK = b"f"
"""The driver sends this byte with a descriptor, to have a shim."""

TRY = b"t"
"""The driver sends this byte to have namespaces tried; :data:`READY` or a reason is the answer."""

READY = b"ready"

_TAKEN = b"t"
_END = b"e"
_REHEARSALS = 10
_MOST_DESCRIPTORS = 1 << 20
_NULL_MODE = stat.S_IFCHR | 0o666


def _leave_host() -> None:
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


def _prepare() -> None:
    set_dumpable(False)
    set_name("pannier-zygote")
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):  # two belong to the C library
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Handlers and not SIG_IGN, because execve takes handlers back by itself: so no child of ours
    # has to, and a shim's SIGCHLD wakes its loop.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    os.umask(0o022)


def _try_namespaces(driver: _socket.socket) -> None:
    """Tell whether a child of ours can be in namespaces of its own, and mount there."""
    try:
        if clone(USUAL_NAMESPACES):
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


def _close_all_but(number: int) -> None:
    os.closerange(3, number)
    os.closerange(number + 1, _MOST_DESCRIPTORS)


def _spare(driver: _socket.socket, zygote: int) -> NoReturn:
    """Be the spare shim; a child of ours waits for the job, and hands it over."""
    # Before the fork: what is ignored stays so over execve, and would be so in the container.
    signal.signal(signal.SIGCHLD, shim.woken)
    ours, theirs = _socket.socketpair()
    if os.fork():
        theirs.close()
        driver.close()
        os.close(zygote)
        shim.main(ours)
    ours.close()
    _await_job(driver, zygote, theirs)


def _await_job(driver: _socket.socket, zygote: int, heir: _socket.socket) -> NoReturn:
    """Wait for a container to make, with a first process for it at hand.

    :param zygote: the pipe on which the zygote is told how it went.
    """
    prepared: Prepared | None = None
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    try:
        die_with_parent()
        # Where somebody waits already, there is no time to prepare.
        if not poll.poll(0):
            prepared = prepare(CLONE_PARENT)
        while True:
            word, descriptors = receive_descriptors(driver, 1)
            if word == TRY:
                _try_namespaces(driver)
            elif descriptors:
                os.write(zygote, _TAKEN)
                os.close(zygote)
                driver.close()
                midwife.main(descriptors[0], prepared, heir, CLONE_PARENT)
            else:
                os.write(zygote, _END)
                break
    finally:
        os._exit(0)  # and with us the shim, and what we have prepared


def main(number: int) -> None:
    """Have a spare shim wait for each container that the driver asks for; end with the driver.

    The spare does the receiving, so that this process touches little of its memory between two
    forks: each page that it writes to is one that the shim no longer shares.

    :param number: the descriptor of the driver's socket.
    """
    _close_all_but(number)
    driver = _socket.socket(fileno=number)
    os.set_inheritable(number, False)
    try:
        _prepare()
        _leave_host()
        rehearse(_REHEARSALS)
    except OSError as error:
        driver.send(str(error).encode())
        return
    gc.collect()
    _close_all_but(number)
    # The kernel reaps the shims; a shim has a handler of its own again.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    driver.send(READY)
    gc.collect()
    gc.disable()
    gc.freeze()
    while True:
        told, telling = os.pipe()
        if not os.fork():
            os.close(told)
            _spare(driver, telling)
        os.close(telling)
        # Nothing at all: the spare was killed, and another takes its place.
        if os.read(told, 1) == _END:
            return
        os.close(told)
