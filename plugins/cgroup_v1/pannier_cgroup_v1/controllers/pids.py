"""The number of processes and threads: ``admin-guide/cgroup-v1/pids.rst``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier_cgroup_v1.group import Write

if TYPE_CHECKING:
    from typing import Any

    from pannier.drivers.resources import Limits
    from pannier_cgroup_v1.group import Group

__all__ = ["measure", "writes"]


def writes(limits: Limits) -> list[Write]:
    """Return the writes for *limits*."""
    if limits.pids is None:
        return []
    # The kernel refuses negative numbers; "max" is its word for no limit.
    value = "max" if limits.pids < 0 else str(limits.pids)
    return [Write("pids", "pids.max", value, "the limit of processes")]


def measure(group: Group) -> dict[str, Any]:
    """Return how many there are; a limit of 0 stands for none."""
    return {
        "pids": group.number("pids", "pids.current"),
        "pids_limit": group.number("pids", "pids.max"),
    }
