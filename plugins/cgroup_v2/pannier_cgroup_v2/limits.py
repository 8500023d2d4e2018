"""From the contract's limits to the files of a group (``admin-guide/cgroup-v2.rst``)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier_cgroup_v2.group import Write

if TYPE_CHECKING:
    from pannier.drivers.resources import DeviceLimit, Limits
    from pannier_cgroup_v2.group import Group

__all__ = ["weight_of_shares", "writes"]

MAX: Final = "max"
_LOWEST_SHARES, _HIGHEST_SHARES = 2, 262144
_LOWEST_BLOCK_WEIGHT, _HIGHEST_BLOCK_WEIGHT = 10, 1000
_HIGHEST_WEIGHT = 10000

_THROTTLES: Final = (
    ("read_bps", "rbps", "the bytes read per second"),
    ("write_bps", "wbps", "the bytes written per second"),
    ("read_iops", "riops", "the reads per second"),
    ("write_iops", "wiops", "the writes per second"),
)

_V1_ONLY: Final = (
    ("swappiness", "the swappiness of one group"),
    ("oom_kill_disable", "keeping the OOM killer away"),
    ("cpu_realtime_period", "a realtime period"),
    ("cpu_realtime_runtime", "a realtime runtime"),
)


def writes(limits: Limits, group: Group) -> list[Write]:
    """Return the writes for *limits*; *group* may exist already, with other limits.

    :raises UnsupportedOperation: a limit that only cgroup v1 has.
    :raises InvalidRequest: limits that contradict each other.
    """
    for field, what in _V1_ONLY:
        # False, as "do not keep the OOM killer away", asks for nothing.
        value = getattr(limits, field)
        if value is not None and value is not False:
            raise UnsupportedOperation(
                f"cgroup v2 does not offer {what}", hint="leave the option away on this host"
            )
    return [
        *_memory(limits, group),
        *_cpu(limits, group),
        *_cpuset(limits),
        *_pids(limits),
        *_io(limits, group),
        *_hugetlb(limits),
    ]


def _amount(value: int) -> str:
    return MAX if value < 0 else str(value)


def _memory(limits: Limits, group: Group) -> list[Write]:
    found = []
    if limits.memory is not None:
        found.append(Write("memory.max", _amount(limits.memory), "the memory limit"))
    swap = _swap(limits, group)
    if swap is not None:
        found.append(Write("memory.swap.max", swap, "the swap limit"))
    if limits.memory_reservation is not None:
        # Protection from reclaim: "none" is 0 here, where the others have "max".
        value = str(max(limits.memory_reservation, 0))
        found.append(Write("memory.low", value, "the memory reservation"))
    return found


def _swap(limits: Limits, group: Group) -> str | None:
    """Return the swap alone: the contract, as v1, counts memory and swap together."""
    together = limits.memory_swap
    if together is None and limits.memory == -1:
        together = -1
    if together is None:
        return None
    if together < 0:
        # Where swap is not counted it has no limit.
        return MAX if "memory.swap.max" in group.files else None
    memory = group.number("memory.max") if limits.memory is None else limits.memory
    if memory <= 0:
        raise InvalidRequest(
            f"a limit of {together} bytes of memory and swap together needs one of memory",
            hint="set the memory limit too",
        )
    if together < memory:
        raise InvalidRequest(
            f"memory and swap together ({together} bytes) are less than memory alone ({memory})",
            hint="the swap limit counts both: make it at least as large as the memory limit",
        )
    return str(together - memory)


def _cpu(limits: Limits, group: Group) -> list[Write]:
    found = []
    if limits.cpu_shares:
        weight = str(weight_of_shares(limits.cpu_shares))
        found.append(Write("cpu.weight", weight, "the CPU weight"))
    if limits.cpu_quota is not None or limits.cpu_period is not None:
        present = (group.read("cpu.max") or MAX).split()
        quota = present[0] if limits.cpu_quota is None else _quota(limits.cpu_quota)
        period = "" if limits.cpu_period is None else f" {limits.cpu_period}"
        found.append(Write("cpu.max", quota + period, "the CPU quota"))
    return found


def _quota(value: int) -> str:
    return MAX if value <= 0 else str(value)


def weight_of_shares(shares: int) -> int:
    """Convert v1's shares (2 to 262144) to a weight (1 to 10000); both defaults correspond.

    A parabola through the ends and the defaults (1024, 100) on logarithmic scales, as current
    runtimes use it; a straight line would make the default a weight of 39.
    """
    if shares <= _LOWEST_SHARES:
        return 1
    if shares >= _HIGHEST_SHARES:
        return _HIGHEST_WEIGHT
    power = math.log2(shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def _cpuset(limits: Limits) -> list[Write]:
    found = []
    if limits.cpuset_cpus:
        found.append(Write("cpuset.cpus", limits.cpuset_cpus, "the set of CPUs"))
    if limits.cpuset_mems:
        found.append(Write("cpuset.mems", limits.cpuset_mems, "the set of memory nodes"))
    return found


def _pids(limits: Limits) -> list[Write]:
    if limits.pids is None:
        return []
    return [Write("pids.max", _amount(limits.pids), "the limit of processes")]


def _io(limits: Limits, group: Group) -> list[Write]:
    found = []
    if limits.block_weight is not None:
        found.append(_weight(group, "default", limits.block_weight))
    found += [_weight(group, _device(one), one.value) for one in limits.block_weight_device]
    for field, key, purpose in _THROTTLES:
        for device in getattr(limits, field):
            # The contract, as v1, has 0 for no limit.
            value = f"{_device(device)} {key}={device.value or MAX}"
            found.append(Write("io.max", value, purpose))
    return found


def _device(device: DeviceLimit) -> str:
    return f"{device.major}:{device.minor}"


def _weight(group: Group, subject: str, weight: int) -> Write:
    purpose = "the block I/O weight"
    if not _LOWEST_BLOCK_WEIGHT <= weight <= _HIGHEST_BLOCK_WEIGHT:
        raise InvalidRequest(
            f"{purpose} cannot be {weight}",
            hint=f"give a number from {_LOWEST_BLOCK_WEIGHT} to {_HIGHEST_BLOCK_WEIGHT}",
        )
    if "io.bfq.weight" in group.files:
        return Write("io.bfq.weight", f"{subject} {weight}", purpose)
    # 10 to 1000 become 1 to 10000.
    span = _HIGHEST_BLOCK_WEIGHT - _LOWEST_BLOCK_WEIGHT
    scaled = 1 + (weight - _LOWEST_BLOCK_WEIGHT) * (_HIGHEST_WEIGHT - 1) // span
    return Write("io.weight", f"{subject} {scaled}", purpose)


def _hugetlb(limits: Limits) -> list[Write]:
    return [
        Write(f"hugetlb.{size}.max", _amount(value), f"the {size} page limit")
        for size, value in limits.hugetlb.items()
    ]
