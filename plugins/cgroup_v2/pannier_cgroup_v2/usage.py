"""What a group has used, from its counters (``admin-guide/cgroup-v2.rst``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pannier.drivers.resources import BlockUsage, Pressure, ResourceEvents, ResourceUsage
from pannier.linux.cgroupfs import flat_keyed, nested_keyed

if TYPE_CHECKING:
    from pannier_cgroup_v2.group import Group

__all__ = ["events", "measure"]

_MICROSECOND: Final = 1000


def measure(group: Group) -> ResourceUsage:
    """Read every controller's counters."""
    cpu = flat_keyed(group.read("cpu.stat") or "")
    return ResourceUsage(
        cpu_total=cpu.get("usage_usec", 0) * _MICROSECOND,
        cpu_user=cpu.get("user_usec", 0) * _MICROSECOND,
        cpu_system=cpu.get("system_usec", 0) * _MICROSECOND,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_time=cpu.get("throttled_usec", 0) * _MICROSECOND,
        memory=group.number("memory.current"),
        memory_peak=group.number("memory.peak"),
        memory_limit=group.number("memory.max"),
        memory_failures=flat_keyed(group.read("memory.events") or "").get("max", 0),
        memory_stat=flat_keyed(group.read("memory.stat") or ""),
        pids=group.number("pids.current"),
        pids_limit=group.number("pids.max"),
        blocks=_blocks(group),
        pressure=_pressure(group),
    )


def _blocks(group: Group) -> tuple[BlockUsage, ...]:
    found = []
    for device, counters in nested_keyed(group.read("io.stat") or "").items():
        major, _, minor = device.partition(":")
        counts = (int(counters.get(key, 0)) for key in ("rbytes", "wbytes", "rios", "wios"))
        found.append(BlockUsage(int(major), int(minor), *counts))
    return tuple(sorted(found, key=lambda block: (block.major, block.minor)))


def _pressure(group: Group) -> dict[str, Pressure]:
    found = {}
    for resource in ("cpu", "memory", "io"):
        some = nested_keyed(group.read(f"{resource}.pressure") or "").get("some")
        if some is not None:
            found[resource] = Pressure(float(some["avg10"]), int(some["total"]))
    return found


def events(group: Group) -> ResourceEvents:
    """Count what happened for want of memory, in the groups below too."""
    counted = flat_keyed(group.read("memory.events") or "")
    return ResourceEvents(oom=counted.get("oom", 0), oom_kill=counted.get("oom_kill", 0))
