"""A process that is killed in the middle of a driver's work, as the daemon may be."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["killed_after"]


def killed_after(work: Callable[[], object]) -> None:
    """Do some work in a forked process that then kills itself with SIGKILL: nothing is tidied up.

    What the process made in the kernel stays, its descriptors are closed, its threads are gone.

    :raises AssertionError: the work itself failed; what it raised is shown on stderr.
    """
    with warnings.catch_warnings():
        # The child uses none of the locks that other threads of ours may hold at this moment.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _work_and_die(work)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the work failed before the process was to be killed"


def _work_and_die(work: Callable[[], object]) -> None:
    try:
        work()
    except BaseException:  # noqa: BLE001 - nothing may return into the test's own code
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os.kill(os.getpid(), signal.SIGKILL)
