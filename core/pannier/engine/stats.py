"""What containers use, and which processes they have."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.drivers.resources import ResourceUsage
from pannier.engine.results import InterfaceCounters, Statistics
from pannier.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.driverset import DriverSet
    from pannier.engine.model import Container
    from pannier.engine.registry import Live
    from pannier.engine.workers import Workers

__all__ = ["Measuring", "interfaces", "system_cpu_ns"]


@dataclass(slots=True)
class Measuring:
    """Reads what containers use."""

    drivers: DriverSet
    workers: Workers

    async def statistics(self, live: Live) -> Statistics:
        """Take one reading; of a stopped container it is empty."""
        container = live.container
        if not container.state.running:
            return Statistics(time.time_ns(), ResourceUsage())
        return await self.workers.run(self._read, container)

    def _read(self, container: Container) -> Statistics:
        try:
            usage = self.drivers.resources.usage(container.id, container.host.cgroup_parent)
        except NotFound:
            usage = ResourceUsage()
        return Statistics(
            read_ns=time.time_ns(),
            usage=usage,
            networks=interfaces(_text(f"/proc/{container.state.pid}/net/dev")),
            online_cpus=len(os.sched_getaffinity(0)),
            system_cpu_ns=system_cpu_ns(_text("/proc/stat")),
        )


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # the process has gone
        return ""


def interfaces(text: str) -> Mapping[str, InterfaceCounters]:
    """Return the counters in the text of /proc/PID/net/dev, without the loopback: proc(5)."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        name, values = name.strip(), [int(item) for item in rest.split()]
        if name != "lo" and len(values) >= 12:
            # Both directions have eight columns each, of which the first four are ours.
            found[name] = InterfaceCounters(*values[0:4], *values[8:12])
    return found


def system_cpu_ns(text: str) -> int:
    """Return the CPU time of all cores in the text of /proc/stat, the idle time included."""
    fields = text.partition("\n")[0].split()
    if not fields or fields[0] != "cpu":
        return 0
    # As far as "softirq": what follows is counted in user time already, or is not the host's.
    ticks = sum(int(item) for item in fields[1:8])
    return ticks * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
