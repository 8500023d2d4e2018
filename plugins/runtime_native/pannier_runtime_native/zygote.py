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

from pannier.linux import mounts
from pannier.linux.namespaces import CLONE_NEWCGROUP, CLONE_PARENT, unshare
from pannier.linux.process import clone, die_with_parent
from pannier.runtimes.channel import receive_descriptors
from pannier.stdio.small import signal
from pannier_runtime_native import midwife, shim
from pannier_runtime_native.assembly import PLACEHOLDER
from pannier_runtime_native.creation import USUAL_NAMESPACES, prepare
from pannier_runtime_native.departure import become_helper, leave_host
from pannier_runtime_native.rehearsal import rehearse

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
        become_helper("pannier-zygote")
        leave_host()
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
