"""Running a hook: a program that is given the container's state on its stdin.

Used where hooks run: by the command line in the runtime's namespaces, and by the container's first
process in its own; hence few imports. Source: OCI runtime specification, config.md, "POSIX-platform
Hooks".
"""

from __future__ import annotations

import os
import select
import time

from pannier.linux.process import close_all_from
from pannier.runtimes.launch import StartError
from pannier.stdio.small import signal, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pannier_runtime_native.messages import HookJob

__all__ = ["HookError", "run_hook"]

_NOT_EXECUTED = 127
_MOST_OUTPUT = 1 << 14
_PIECE = 1 << 16


class HookError(StartError):
    """A hook could not be executed, failed, or took longer than it may."""


def run_hook(kind: str, hook: HookJob, state: bytes) -> None:
    """Run a hook to its end. Its output is kept for the error's message only.

    :param kind: the hook's name in the specification, for messages.
    :raises HookError: it failed; none of its process group is left then.
    """
    what = f"{kind} hook {os.fsdecode(hook['path'])}"
    reading, stdin = os.pipe2(os.O_CLOEXEC)
    output, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        _execute(hook, reading, writing)
    os.close(reading)
    os.close(writing)
    pidfd = os.pidfd_open(pid)
    try:
        ended, said = _attend(pidfd, stdin, output, state, hook["timeout"])
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise HookError(f"{what} did not end in {hook['timeout']} seconds")
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
        os.close(output)
    code = os.waitstatus_to_exitcode(status)
    if code:
        how = f"exit status {code}" if code > 0 else f"signal {-code}"
        words = said.decode(errors="replace").strip()
        raise HookError(f"{what} failed: {how}{': ' if words else ''}{words}")


def _attend(pidfd: int, stdin: int, output: int, state: bytes, timeout: int) -> tuple[bool, bytes]:
    """Feed the hook and read what it says; return whether it has ended in time."""
    os.set_blocking(stdin, False)
    os.set_blocking(output, False)
    deadline = time.monotonic() + timeout if timeout > 0 else None
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(output, select.POLLIN)
    poll.register(stdin, select.POLLOUT)
    said = b""
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = [descriptor for descriptor, _ in poll.poll(left)]
            if output in ready:
                with suppress(BlockingIOError):
                    piece = os.read(output, _PIECE)
                    said = (said + piece)[-_MOST_OUTPUT:]
                    if not piece:
                        poll.unregister(output)
            if pidfd in ready:
                # A child that it left behind may hold its output open: that is not waited for.
                return True, said
            if not ready and deadline is not None:
                return False, said
            if stdin in ready:
                try:
                    state = state[os.write(stdin, state) :]
                except BrokenPipeError:
                    state = b""
                if not state:
                    poll.unregister(stdin)
                    os.close(stdin)
                    stdin = -1
    finally:
        if stdin >= 0:
            os.close(stdin)


def _execute(hook: HookJob, stdin: int, output: int) -> NoReturn:
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        close_all_from(3)  # it may be found in an image
        environment = {}
        for entry in hook["env"]:
            name, equals, value = entry.partition(b"=")
            if equals:
                environment[name] = value
        os.execve(hook["path"], hook["args"], environment)  # noqa: S606 - what was asked for
    except OSError as error:
        os.write(2, os.fsencode(f"cannot be executed: {error.strerror}"))
    finally:
        os._exit(_NOT_EXECUTED)
