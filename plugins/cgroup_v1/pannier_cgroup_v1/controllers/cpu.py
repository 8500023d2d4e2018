"""CPU time: ``scheduler/sched-bwc.rst`` and ``sched-design-CFS.rst``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.linux.cgroupfs import flat_keyed
from pannier_cgroup_v1.group import Write

if TYPE_CHECKING:
    from typing import Any

    from pannier.drivers.resources import Limits
    from pannier_cgroup_v1.group import Group

__all__ = ["measure", "writes"]

QUOTA = "cpu.cfs_quota_us"
PERIOD = "cpu.cfs_period_us"


def writes(limits: Limits, group: Group) -> list[Write]:
    """Return the writes for *limits*.

    A share of quota to period above the parent's is refused even in between: the value that
    lowers the share goes first.
    """
    bandwidth = []
    if limits.cpu_period is not None:
        bandwidth.append(_write(PERIOD, limits.cpu_period, "period"))
    if limits.cpu_quota is not None:
        bandwidth.append(_write(QUOTA, limits.cpu_quota, "quota"))
    if limits.cpu_period is not None and limits.cpu_period < group.number("cpu", PERIOD):
        bandwidth.reverse()
    found = []
    if limits.cpu_shares:
        found.append(_write("cpu.shares", limits.cpu_shares, "shares"))
    found += bandwidth
    if limits.cpu_realtime_period is not None:
        found.append(_write("cpu.rt_period_us", limits.cpu_realtime_period, "realtime period"))
    if limits.cpu_realtime_runtime is not None:
        found.append(_write("cpu.rt_runtime_us", limits.cpu_realtime_runtime, "realtime runtime"))
    return found


def _write(file: str, value: int, what: str) -> Write:
    return Write("cpu", file, str(value), f"the CPU {what}")


def measure(group: Group) -> dict[str, Any]:
    """Return how often and how long the group was held back."""
    statistics = flat_keyed(group.read("cpu", "cpu.stat") or "")
    return {
        "periods": statistics.get("nr_periods", 0),
        "throttled_periods": statistics.get("nr_throttled", 0),
        "throttled_time": statistics.get("throttled_time", 0),
    }
