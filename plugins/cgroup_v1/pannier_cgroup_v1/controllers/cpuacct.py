"""CPU accounting: ``admin-guide/cgroup-v1/cpuacct.rst``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pannier.linux.cgroupfs import flat_keyed

if TYPE_CHECKING:
    from typing import Any

    from pannier_cgroup_v1.group import Group

__all__ = ["measure"]

_NANOSECONDS = 1_000_000_000


def measure(group: Group) -> dict[str, Any]:
    """Return the CPU time used, in nanoseconds."""
    user = group.read("cpuacct", "cpuacct.usage_user")
    system = group.read("cpuacct", "cpuacct.usage_sys")
    if user is None or system is None:
        # Older kernels count the two in ticks of the clock only.
        tick = _NANOSECONDS // os.sysconf("SC_CLK_TCK")
        ticks = flat_keyed(group.read("cpuacct", "cpuacct.stat") or "")
        times = ticks.get("user", 0) * tick, ticks.get("system", 0) * tick
    else:
        times = int(user), int(system)
    cores = (group.read("cpuacct", "cpuacct.usage_percpu") or "").split()
    return {
        "cpu_total": group.number("cpuacct", "cpuacct.usage"),
        "cpu_user": times[0],
        "cpu_system": times[1],
        "cpu_per_core": tuple(int(core) for core in cores),
    }
