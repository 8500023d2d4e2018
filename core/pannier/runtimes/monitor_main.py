"""A monitor's process: from its start by the driver to its end."""

from __future__ import annotations

import _socket
import os
import sys

from pannier.linux.process import set_child_subreaper, set_dumpable, set_name
from pannier.runtimes.channel import receive
from pannier.runtimes.monitor import Monitor, answer
from pannier.stdio.small import signal, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.runtimes.jobs import Reply

__all__ = ["main"]

_MOST_DESCRIPTORS = 1 << 20


def _settle(number: int) -> None:
    """Be a process that is nobody's child and has none of its parent's signals or descriptors."""
    if os.fork():
        os._exit(0)
    os.closerange(3, number)
    os.closerange(number + 1, _MOST_DESCRIPTORS)
    os.set_inheritable(number, False)
    os.setsid()
    set_dumpable(False)  # a container that it enters must not look into it
    set_name("pannier-monitor")
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):  # two belong to the C library
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Handlers and not SIG_IGN, because execve takes handlers back by itself.
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signum, lambda *_: None)
    set_child_subreaper()
    os.umask(0o022)


def main(number: int) -> None:
    """Be a monitor: take a container's job from the socket *number*, and serve it to its end."""
    _settle(number)
    driver = _socket.socket(fileno=number)
    message = receive(driver)
    if message is None:
        return
    job, descriptors = message
    os.chdir(descriptors[job["folder"]])
    module, _, name = job["mechanism"].partition(":")
    __import__(module)
    mechanism = getattr(sys.modules[module], name)(job["id"], job["job"], descriptors)
    monitor = Monitor(job, descriptors, mechanism)
    reply: Reply = {"error": "refused", "text": "the monitor has failed"}
    try:
        reply = monitor.begin(descriptors)
        if "error" not in reply:
            answer(driver, reply)
            monitor.serve()
    finally:
        monitor.end()
        if "error" in reply:
            # Only now: whoever is told takes the folder away.
            answer(driver, reply)
