"""Faults to be injected: a disk that is full, and a process that is killed between two steps.

A process that is killed is a child of this one. It opens the driver for itself, works, and kills
itself with SIGKILL at the point that the test chose, so that nothing of it is tidied up; then the
driver is opened again here, as the daemon's next start does.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pannier.drivers.base import Driver
from pannier.linux.mounts import mount, umount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from pannier.drivers.operations import Plan
    from pannier.testing.base import Opened

__all__ = [
    "count_lines",
    "die",
    "fill",
    "free_bytes",
    "kill_after_operations",
    "kill_at_line",
    "killed",
    "small_filesystem",
    "spread",
]

D = TypeVar("D", bound=Driver)

_PATIENCE: Final = 120.0
"""Seconds after which a child that neither ends nor dies is killed, and the test fails."""

_PIECE: Final = 1 << 20


# A full disk.


@contextlib.contextmanager
def small_filesystem(folder: Path, size: int = 16 << 20) -> Iterator[Path]:
    """Mount a small tmpfs on a new folder, and unmount it at the end.

    :param size: bytes.
    """
    folder.mkdir()
    mount("tmpfs", folder, "tmpfs", 0, f"size={size},mode=0755")
    try:
        yield folder
    finally:
        umount(folder)


def free_bytes(folder: Path) -> int:
    """Return how many bytes can still be written to a folder's filesystem."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


@contextlib.contextmanager
def fill(folder: Path) -> Iterator[None]:
    """Leave no byte free on a folder's filesystem, for a while."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        # Not zeros, which a filesystem may compress.
        piece = os.urandom(_PIECE)
        while piece:
            try:
                file.write(piece)
            except OSError:
                piece = piece[: len(piece) // 2]
    try:
        yield
    finally:
        ballast.unlink()


# A killed process.


def killed(opened: Opened[D], work: Callable[[D], object]) -> bool:
    """Have *work* done with the driver in a child process; whether it killed itself meanwhile.

    The driver is closed before, and open again afterwards.

    :raises AssertionError: the work raised an exception.
    """
    opened.driver.close()
    try:
        return _in_child(lambda: work(opened.another()))
    finally:
        opened.resume()


def die() -> None:
    """Kill the calling process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after_operations(opened: Opened[D], plan: Callable[[D], Plan[Any]], count: int) -> bool:
    """Have a child execute the first *count* operations of a plan, and be killed then.

    Call it with 0, 1, 2, … until it returns False: the plan had fewer operations, and was executed
    whole, its result taken.
    """

    def work(driver: D) -> None:
        made = plan(driver)
        for number, operation in enumerate(made.operations):
            if number == count:
                die()
            operation.execute()
        if count == len(made.operations):
            die()
        made.result()

    return killed(opened, work)


def count_lines(opened: Opened[D], work: Callable[[D], object]) -> int:
    """Return how many lines of the driver's code *work* executes; it is done in a child."""
    reader, writer = os.pipe()
    try:

        def counted(driver: D) -> None:
            trace = _Trace(driver, -1)
            trace.run(lambda: work(driver))
            os.write(writer, str(trace.count).encode())

        assert not killed(opened, counted)
        return int(os.read(reader, 32))
    finally:
        os.close(reader)
        os.close(writer)


def kill_at_line(opened: Opened[D], work: Callable[[D], object], line: int) -> bool:
    """Have *work* done in a child that is killed before the given line that it executes.

    :param line: counted from 0, as :func:`count_lines` counts.
    """
    return killed(opened, lambda driver: _Trace(driver, line).run(lambda: work(driver)))


def spread(count: int, most: int) -> list[int]:
    """Return at most *most* of the numbers below *count*, evenly spread, the ends among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(number * (count - 1) / (most - 1)) for number in range(most)})


class _Trace:
    """Counts the lines executed in a driver's own package and in Pannier, but not in this kit."""

    def __init__(self, driver: Driver, line: int) -> None:
        self._packages = {type(driver).__module__.partition(".")[0], "pannier"}
        self._line = line
        self.count = 0

    def run(self, work: Callable[[], object]) -> None:
        sys.settrace(self._enter)
        try:
            work()
        finally:
            sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        del event, argument
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith("pannier.testing") or name.partition(".")[0] not in self._packages:
            return None
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        del frame, argument
        if event == "line":
            if self.count == self._line:
                die()
            self.count += 1
        return self._step


def _in_child(work: Callable[[], object]) -> bool:
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # That other threads exist is a matter of the host's test runner; the driver's have ended.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _child(work, writer)
    os.close(writer)
    try:
        complaint = _read_all(reader, pid)
    finally:
        os.close(reader)
        _, status = os.waitpid(pid, 0)
    assert not complaint, f"in the child process:\n{complaint}"
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"the child was ended by {status}"
        return True
    assert os.WEXITSTATUS(status) == 0, f"the child ended with the status {status}"
    return False


def _child(work: Callable[[], object], writer: int) -> None:
    """Do the work, tell what was raised, and end without any of the parent's clean-up."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - told to the parent, which raises it
        os.write(writer, traceback.format_exc()[-4000:].encode())
    finally:
        os._exit(status)


def _read_all(reader: int, pid: int) -> str:
    """Read what the child says until it has ended; kill it if it does not."""
    text = b""
    while True:
        ready, _, _ = select.select([reader], [], [], _PATIENCE)
        if not ready:
            os.kill(pid, signal.SIGKILL)
            return f"it did not end within {_PATIENCE} s; {text.decode(errors='replace')}"
        piece = os.read(reader, 4096)
        if not piece:
            return text.decode(errors="replace")
        text += piece
