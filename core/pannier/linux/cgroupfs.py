"""Control group filesystems: where they are mounted, their files, and emptying a group.

Serves cgroup v1 and v2 alike. Sources: cgroups(7), the kernel's ``admin-guide/cgroup-v1`` and
``cgroup-v2.rst``, proc_pid_mountinfo(5).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CgroupMount",
    "CounterWatch",
    "cgroup_mounts",
    "discard_group",
    "flat_keyed",
    "kill_processes",
    "make_group",
    "nested_keyed",
    "processes",
    "read_file",
    "remove_group",
    "subgroups",
    "wait_for_event",
    "write_file",
]

_CONTROLLERS: Final = frozenset(
    "cpuset cpu cpuacct blkio memory devices freezer net_cls perf_event net_prio hugetlb pids rdma "  # noqa: SIM905 - a list of words reads best so
    "misc".split()
)
_PIECE = 1 << 16
_BATCH = 256
_SHORTEST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """A mounted hierarchy.

    :param version: 1 or 2.
    :param controllers: those bound to a v1 hierarchy, and its ``name=…``; empty for v2.
    :param root: which group of the hierarchy the mount shows as its root.
    """

    path: Path
    version: int
    controllers: tuple[str, ...]
    root: str
    read_only: bool


def cgroup_mounts(mountinfo: str | Path = "/proc/self/mountinfo") -> list[CgroupMount]:
    """Return the hierarchies that are mounted here, each once: where it was mounted first."""
    found: dict[tuple[int, tuple[str, ...]], CgroupMount] = {}
    for line in Path(mountinfo).read_text().splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, *rest) = left.split(" "), right.split(" ")
        if kind not in {"cgroup", "cgroup2"}:
            continue
        root, path, options = (_unescape(field) for field in fields[3:6])
        if root.startswith("/.."):
            continue  # lies outside of this process's cgroup namespace
        version = 1 if kind == "cgroup" else 2
        given = rest[-1].split(",")
        controllers = tuple(
            name
            for name in given
            if version == 1 and (name in _CONTROLLERS or name.startswith("name="))
        )
        read_only = "ro" in options.split(",") or "ro" in given
        mount = CgroupMount(Path(path), version, controllers, root, read_only)
        found.setdefault((version, controllers), mount)
    return list(found.values())


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def read_file(path: str | Path) -> str:
    """Return a file's content without the last newline.

    :raises OSError: as open(2) and read(2) do.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b""
        while piece := os.read(descriptor, _PIECE):
            text += piece
    finally:
        os.close(descriptor)
    return text.decode().rstrip("\n")


def write_file(path: str | Path, value: str) -> None:
    """Write a value with one write(2), as these files demand; the error names the file.

    :raises OSError: as open(2) and write(2) do.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        os.close(descriptor)


def flat_keyed(text: str) -> dict[str, int]:
    """Read lines of a name and a number (``memory.stat``, ``cpu.stat``)."""
    values = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.lstrip("-").isdigit():
            values[name] = int(value)
    return values


def nested_keyed(text: str) -> dict[str, dict[str, str]]:
    """Read lines of a name and ``key=value`` pairs (``io.stat``, ``cpu.pressure``)."""
    lines = (line.split() for line in text.splitlines() if line)
    return {
        name: dict(pair.split("=", 1) for pair in pairs if "=" in pair) for name, *pairs in lines
    }


def make_group(path: str | Path) -> bool:
    """Make one group; return whether it is new. Its parent must exist."""
    try:
        os.mkdir(path)  # noqa: PTH102 - a Path object would double the time of a hot line
    except FileExistsError:
        return False
    return True


def discard_group(path: str | Path) -> bool:
    """Remove one group where neither processes nor groups are in it; return whether it was.

    :raises OSError: as rmdir(2) does, but not because something is in it or it has gone.
    """
    try:
        os.rmdir(path)  # noqa: PTH106 - as in make_group
    except OSError as error:
        if error.errno not in {errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT}:
            raise
        return False
    return True


def subgroups(path: str | Path) -> Iterator[str]:
    """Yield the groups directly below; none where the group has gone."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield entry.path
    except FileNotFoundError:
        return


def processes(path: str | Path) -> list[int]:
    """List the processes in a group and in those below; empty where the group has gone."""
    found: set[int] = set()
    pending = [os.fspath(path)]
    while pending:
        group = pending.pop()
        # ENODEV: removed between open and read. EOPNOTSUPP: a threaded group of v2, whose
        # processes are listed by the group above.
        with contextlib.suppress(FileNotFoundError):
            pending += subgroups(group)
            try:
                found.update(int(line) for line in read_file(f"{group}/cgroup.procs").split())
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}:
                    raise
    # 0 stands for processes outside of this pid namespace.
    return sorted(found - {0})


def kill_processes(path: str | Path, timeout: float) -> None:
    """Send SIGKILL to a batch of a group's processes, and wait until those have ended.

    Each process is held by a descriptor first and looked for again before the signal is sent, so
    that a number that was given to a stranger meanwhile kills nobody.

    :param timeout: seconds to wait at most.
    """
    held: dict[int, int] = {}
    try:
        for pid in processes(path)[:_BATCH]:
            with contextlib.suppress(ProcessLookupError):
                held[pid] = os.pidfd_open(pid)
        poller = select.poll()
        waiting = set()
        for pid in held.keys() & set(processes(path)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(held[pid], signal.SIGKILL)
                poller.register(held[pid], select.POLLIN)
                waiting.add(held[pid])
        deadline = time.monotonic() + timeout
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(left * 1000):
                poller.unregister(descriptor)
                waiting.discard(descriptor)
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def wait_for_event(path: str | Path, key: str, value: int, timeout: float) -> bool:
    """Wait until a v2 group's ``cgroup.events`` says *key value*; return whether it does in time.

    A group that has gone is neither populated nor frozen.
    """
    deadline = time.monotonic() + timeout
    try:
        descriptor = os.open(f"{os.fspath(path)}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return value == 0
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLPRI)
        while True:
            try:
                text = os.pread(descriptor, _PIECE, 0).decode()
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return value == 0
                raise
            if flat_keyed(text).get(key) == value:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # The file polls as changed until it is read again.
            poller.poll(left * 1000)
    finally:
        os.close(descriptor)


class CounterWatch:
    """Watches a counter in one of a v2 group's files that tell of their changes.

    :param path: ``memory.events``, ``cgroup.events`` and the like.
    :raises OSError: ENOENT where there is none.
    """

    def __init__(self, path: str | Path, key: str) -> None:
        self._key = key
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._poller = None
        try:
            # The file itself polls readable at all times; that it has changed is POLLPRI.
            self._poller = select.epoll()
            self._poller.register(self._file, select.EPOLLPRI)
            self._count = self._present()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return a descriptor that polls readable when the file has changed since it was read."""
        assert self._poller is not None
        return self._poller.fileno()

    def read(self) -> int:
        """Return by how much the counter grew since the last call; 0 where the group has gone."""
        before, self._count = self._count, self._present()
        return max(self._count - before, 0)

    def _present(self) -> int:
        try:
            text = os.pread(self._file, _PIECE, 0).decode()
        except OSError as error:
            if error.errno == errno.ENODEV:
                return 0
            raise
        return flat_keyed(text).get(self._key, 0)

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._poller is not None:
            self._poller.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def remove_group(path: str | Path, timeout: float) -> None:
    """Remove a group and all below it, deepest first. Idempotent.

    A process leaves its group a moment after it can be waited for, and nothing tells when: the
    attempt is repeated for a while, with growing pauses.

    :param timeout: seconds to try.
    :raises OSError: EBUSY: there are processes in it still.
    """
    name = os.fspath(path)
    deadline = time.monotonic() + timeout
    pause = _SHORTEST_PAUSE
    while True:
        try:
            os.rmdir(name)  # noqa: PTH106 - a Path object would double the time of a hot line
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in {errno.EBUSY, errno.ENOTEMPTY}:
                raise
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            below = list(subgroups(name))
            for group in below:
                remove_group(group, left)
            if not below:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            return
