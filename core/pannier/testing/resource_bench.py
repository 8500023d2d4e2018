"""What the resource driver's tests share: groups, and Python programs that run in them."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.drivers.resources import (
    DeviceLimit,
    DeviceRule,
    GroupRequest,
    Limits,
    ResourceCapability,
    ResourceDriver,
)
from pannier.testing.leaks import groups_below, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.drivers.operations import Plan
    from pannier.testing.base import Opened

__all__ = ["BUSY", "CHAIN", "MIB", "NOTHING", "SAMPLES", "WAITING", "ResourceBench"]

MIB: Final = 1 << 20

NOTHING: Final = DeviceRule(allow=False)
"""The device rule that allows none."""

SAMPLES: Final[Mapping[ResourceCapability, Limits]] = {
    ResourceCapability.MEMORY: Limits(memory=64 * MIB),
    ResourceCapability.SWAP: Limits(memory=64 * MIB, memory_swap=128 * MIB),
    ResourceCapability.CPU: Limits(cpu_quota=5_000, cpu_period=100_000),
    ResourceCapability.CPUSET: Limits(cpuset_cpus="0"),
    ResourceCapability.PIDS: Limits(pids=50),
    ResourceCapability.BLOCK_WEIGHT: Limits(block_weight=500),
    ResourceCapability.BLOCK_THROTTLE: Limits(read_bps=(DeviceLimit(7, 0, MIB),)),
    ResourceCapability.HUGETLB: Limits(hugetlb={"2MB": 4 * MIB}),
}
"""A limit of each capability that has one, for asking whether it is refused."""

WAITING: Final = "print('ready', flush=True)\ninput()"
BUSY: Final = "print('ready', flush=True)\nwhile True: pass"
CHAIN: Final = """
import time
end = time.monotonic() + 60  # should nobody manage to kill it
for _ in range(4):
    if not os.fork():
        break
print('ready', flush=True)
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
"""
"""Processes that end as soon as they have forked, so that a list of them is old at once."""

_ENTER = "import os, sys\nfor path in sys.argv[1].split('\\n'): open(path, 'w').write('0')\n"
_PATIENCE = 120.0


@dataclass
class ResourceBench:
    """The driver, the groups that it was asked for, and the programs that run in them."""

    opened: Opened[ResourceDriver]
    asked: dict[tuple[str, str], tuple[Path, ...]] = field(default_factory=dict)
    programs: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # The driver's own group, in each hierarchy: the one that containers' groups are in.
        self._parents = {file.parent.parent for file in self.driver.procs("box")}
        self._first = frozenset(groups_below(*self._parents))

    @property
    def driver(self) -> ResourceDriver:
        """The instance that is open now."""
        return self.opened.driver

    def has(self, *capabilities: ResourceCapability) -> bool:
        """Whether the driver offers all of these on this host."""
        return set(capabilities) <= self.driver.available()

    def plan(
        self, limits: Limits | None = None, *devices: DeviceRule, id: str = "box", parent: str = ""
    ) -> Plan[None]:
        """Plan a group; it is deleted after the test."""
        self.remember(id, parent)
        request = GroupRequest(id, parent, limits or Limits(), devices)
        return self.driver.plan_create(request)

    def create(
        self, limits: Limits | None = None, *devices: DeviceRule, id: str = "box", parent: str = ""
    ) -> None:
        """Create a group; it is deleted after the test."""
        self.opened.run(self.plan(limits, *devices, id=id, parent=parent))

    def remember(self, id: str, parent: str = "") -> None:
        """Have a group deleted after the test, and looked for."""
        self.asked[id, parent] = tuple(path.parent for path in self.driver.procs(id, parent))

    def groups_left(self) -> list[str]:
        """Return the groups beyond the first ones in which nobody is.

        Others may be a running daemon's; in one of the test's a process would be left, too.
        """
        return sorted(
            path
            for path in set(groups_below(*self._parents)) - self._first
            if not any(map(_has_processes, (path, *groups_below(Path(path)))))
        )

    def there(self, id: str = "box", parent: str = "") -> list[Path]:
        """Return which of a group's folders exist."""
        return [folder for folder in self.asked[id, parent] if folder.exists()]

    def start(
        self, code: str, *, id: str = "box", parent: str = "", ready: bool = True
    ) -> subprocess.Popen[str]:
        """Start a Python program inside a group.

        :param ready: wait until it says so.
        """
        files = "\n".join(str(path) for path in self.driver.procs(id, parent))
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _ENTER + code, files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.programs.append(process)
        assert process.stdout is not None
        if ready:
            assert select.select([process.stdout], [], [], _PATIENCE)[0], "it does not start"
            if process.stdout.readline() != "ready\n":
                raise AssertionError(f"the program did not start: {process.communicate()}")
        return process

    def run(self, code: str, *, id: str = "box", parent: str = "") -> tuple[int, str]:
        """Run a Python program in a group; return its status and what it prints."""
        process = self.start(code, id=id, parent=parent, ready=False)
        out, err = process.communicate(timeout=_PATIENCE)
        return process.returncode, out + err

    def ended(self, process: subprocess.Popen[str]) -> int:
        """Wait until a program has ended; return its status."""
        process.communicate(timeout=_PATIENCE)
        return process.returncode

    def sweep(self, driver: ResourceDriver) -> None:
        """Delete every group, each twice; of none a folder may be left."""
        # The innermost first: a parent is a group as well.
        for id, parent in reversed(self.asked):
            for _ in range(2):
                driver.delete(id, parent)
        for process in self.programs:
            self.ended(process)
        left = [folder for folders in self.asked.values() for folder in folders if folder.exists()]
        assert left == [], "deleted groups are still there"
        assert wait_until(lambda: not set(driver.groups()) & {id for id, _ in self.asked})

    def give_up(self) -> None:
        """Kill what still runs, after a failed test."""
        for process in self.programs:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_PATIENCE)


def _has_processes(group: str) -> bool:
    try:
        return bool(Path(group, "cgroup.procs").read_text(encoding="ascii"))
    except FileNotFoundError:
        return False  # it has just gone
