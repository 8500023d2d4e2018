"""Statistics, in the shape from which clients compute percentages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pannier.server.views.times import ZERO_TIME, rfc3339

if TYPE_CHECKING:
    from pannier.drivers.resources import ResourceUsage
    from pannier.engine.model import Container
    from pannier.engine.results import Statistics

__all__ = ["stats_view"]

_UINT64_MAX = (1 << 64) - 1
_BLOCK_LISTS = (
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)


def stats_view(
    container: Container, now: Statistics, before: Statistics | None, memory_total: int
) -> dict[str, Any]:
    """Return a ``ContainerStatsResponse``.

    :param before: the reading before, which the share of the CPU is counted from.
    :param memory_total: of the host, in bytes: the limit of what has none.
    """
    usage = now.usage
    view: dict[str, Any] = {
        "name": f"/{container.name}",
        "id": container.id,
        "read": rfc3339(now.read_ns) if container.state.running else ZERO_TIME,
        "preread": ZERO_TIME if before is None else rfc3339(before.read_ns),
        "num_procs": 0,
        "pids_stats": _pids(usage),
        "blkio_stats": _blocks(usage),
        "storage_stats": {},
        "cpu_stats": _cpu(now),
        "precpu_stats": _no_cpu() if before is None else _cpu(before),
        "memory_stats": _memory(usage, memory_total) if container.state.running else {},
    }
    if now.networks:
        view["networks"] = {
            name: {
                "rx_bytes": counters.rx_bytes,
                "rx_packets": counters.rx_packets,
                "rx_errors": counters.rx_errors,
                "rx_dropped": counters.rx_dropped,
                "tx_bytes": counters.tx_bytes,
                "tx_packets": counters.tx_packets,
                "tx_errors": counters.tx_errors,
                "tx_dropped": counters.tx_dropped,
            }
            for name, counters in now.networks.items()
        }
    return view


def _pids(usage: ResourceUsage) -> dict[str, int]:
    if not usage.pids:
        return {}
    # Docker's clients take the largest unsigned number for no limit.
    return {"current": usage.pids, "limit": usage.pids_limit or _UINT64_MAX}


def _cpu(statistics: Statistics) -> dict[str, Any]:
    usage = statistics.usage
    cpu: dict[str, Any] = {
        "total_usage": usage.cpu_total,
        "usage_in_kernelmode": usage.cpu_system,
        "usage_in_usermode": usage.cpu_user,
    }
    if usage.cpu_per_core:
        cpu["percpu_usage"] = list(usage.cpu_per_core)
    return {
        "cpu_usage": cpu,
        "system_cpu_usage": statistics.system_cpu_ns,
        "online_cpus": statistics.online_cpus,
        "throttling_data": {
            "periods": usage.periods,
            "throttled_periods": usage.throttled_periods,
            "throttled_time": usage.throttled_time,
        },
    }


def _no_cpu() -> dict[str, Any]:
    return {
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def _memory(usage: ResourceUsage, total: int) -> dict[str, Any]:
    limit = usage.memory_limit
    view: dict[str, Any] = {
        "usage": usage.memory,
        "stats": dict(usage.memory_stat),
        "limit": total if not limit or (total and limit > total) else limit,
    }
    if usage.memory_peak:
        view["max_usage"] = usage.memory_peak
    if usage.memory_failures:
        view["failcnt"] = usage.memory_failures
    return view


def _blocks(usage: ResourceUsage) -> dict[str, list[dict[str, Any]] | None]:
    octets: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []
    for block in usage.blocks:
        device = {"major": block.major, "minor": block.minor}
        octets.append({**device, "op": "read", "value": block.read_bytes})
        octets.append({**device, "op": "write", "value": block.write_bytes})
        counts.append({**device, "op": "read", "value": block.read_operations})
        counts.append({**device, "op": "write", "value": block.write_operations})
    view: dict[str, list[dict[str, Any]] | None] = {
        "io_service_bytes_recursive": octets,
        "io_serviced_recursive": counts,
    }
    view.update(dict.fromkeys(_BLOCK_LISTS))
    return view
