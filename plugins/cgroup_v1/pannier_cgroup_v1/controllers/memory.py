"""Memory and swap: ``admin-guide/cgroup-v1/memory.rst``.

Kernel memory has no limit of its own: that control is gone from current kernels, and what it
counted is part of the limit anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.linux.cgroupfs import flat_keyed, subgroups
from pannier_cgroup_v1.group import Write

if TYPE_CHECKING:
    from typing import Any

    from pannier.drivers.resources import Limits
    from pannier_cgroup_v1.group import Group

__all__ = ["limit_writes", "measure", "oom_kills", "writes"]

LIMIT = "memory.limit_in_bytes"
SWAP_LIMIT = "memory.memsw.limit_in_bytes"

# The kernel rounds "no limit" down to whole pages of a signed 64-bit counter.
_UNLIMITED = (1 << 63) - (1 << 20)


def writes(limits: Limits, group: Group) -> list[Write]:
    """Return the writes for *limits*; *group* may exist already, with other limits."""
    found = limit_writes(limits, group)
    if limits.memory_reservation is not None:
        found.append(_write("memory.soft_limit_in_bytes", limits.memory_reservation, "reservation"))
    if limits.swappiness is not None:
        found.append(_write("memory.swappiness", limits.swappiness, "swappiness"))
    if limits.oom_kill_disable is not None:
        found.append(_write("memory.oom_control", int(limits.oom_kill_disable), "OOM control"))
    return found


def limit_writes(limits: Limits, group: Group) -> list[Write]:
    """Return the writes for the limit and the limit with swap, in the order that is allowed.

    The kernel keeps memory below memory and swap together at every moment. So the larger one moves
    first when both grow, and the smaller one when both shrink.
    """
    memory, swap = limits.memory, limits.memory_swap
    counts_swap = SWAP_LIMIT in group.files
    if memory == -1 and swap is None and counts_swap:
        swap = -1
    if swap == -1 and not counts_swap:
        swap = None  # where swap is not counted it has no limit
    found = []
    if memory is not None:
        found.append(_write(LIMIT, memory, "limit"))
    if swap is not None:
        found.append(_write(SWAP_LIMIT, swap, "and swap limit"))
    if memory is not None and swap is not None:
        present = group.number("memory", SWAP_LIMIT)
        if present and (swap == -1 or swap > present):
            found.reverse()
    return found


def _write(file: str, value: int, what: str) -> Write:
    return Write("memory", file, str(value), f"the memory {what}")


def measure(group: Group) -> dict[str, Any]:
    """Return what the group uses."""
    limit = group.number("memory", LIMIT)
    return {
        "memory": group.number("memory", "memory.usage_in_bytes"),
        "memory_peak": group.number("memory", "memory.max_usage_in_bytes"),
        "memory_limit": 0 if limit >= _UNLIMITED else limit,
        "memory_failures": group.number("memory", "memory.failcnt"),
        "memory_stat": flat_keyed(group.read("memory", "memory.stat") or ""),
    }


def oom_kills(group: Group) -> int:
    """Return how many processes the kernel has killed for want of memory.

    v1 counts them where they lived: the groups that the container made itself are added.
    """
    text = group.read("memory", "memory.oom_control")
    if text is None:
        return 0
    below = sum(
        oom_kills(group.below(path.rpartition("/")[2]))
        for path in subgroups(group.path("memory") or "")
    )
    return flat_keyed(text).get("oom_kill", 0) + below
