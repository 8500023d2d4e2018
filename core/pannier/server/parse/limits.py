"""Resource limits: the part of ``HostConfig`` that ``update`` takes, too."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.drivers.resources import DeviceLimit, Limits
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pannier.server.parse.fields import Fields

__all__ = ["CPU_PERIOD", "asks_cpus", "parse_limits"]

CPU_PERIOD: Final = 100_000
"""Microseconds: the period that ``--cpus`` is counted in."""

_MINIMUM_MEMORY: Final = 6 << 20
_NANO: Final = 10**9
_PROCESSORS: Final = "/sys/devices/system/cpu/online"
_NODES: Final = "/sys/devices/system/node/online"
_CPU_LIST: Final = re.compile(r"\d{1,5}(?:-\d{1,5})?(?:,\d{1,5}(?:-\d{1,5})?)*")


def asks_cpus(fields: Fields) -> bool:
    """Whether the CPU quota is asked for as a number of CPUs."""
    return fields.integer("NanoCpus") != 0


def parse_limits(fields: Fields, *, update: bool = False) -> Limits:
    """Read limits; 0 leaves a thing as it is, as everywhere in this part of the API.

    :param update: the container may have those that others go with.
    """
    memory, swap = _memory(fields, update=update)
    quota, period = _cpu(fields)
    return Limits(
        memory=memory,
        memory_reservation=_reservation(fields, memory),
        memory_swap=swap,
        swappiness=_swappiness(fields.optional_integer("MemorySwappiness")),
        oom_kill_disable=fields.boolean("OomKillDisable") or None,
        cpu_quota=quota,
        cpu_period=period,
        cpu_shares=_shares(fields.integer("CpuShares")),
        cpu_realtime_period=fields.integer("CpuRealtimePeriod") or None,
        cpu_realtime_runtime=fields.integer("CpuRealtimeRuntime") or None,
        cpuset_cpus=_available(fields, "CpusetCpus", "CPUs", _PROCESSORS),
        cpuset_mems=_available(fields, "CpusetMems", "memory nodes", _NODES),
        pids=_pids(fields.optional_integer("PidsLimit")),
        block_weight=_weight(fields.integer("BlkioWeight")),
        block_weight_device=_device_limits(fields, "BlkioWeightDevice", "Weight"),
        read_bps=_device_limits(fields, "BlkioDeviceReadBps", "Rate"),
        write_bps=_device_limits(fields, "BlkioDeviceWriteBps", "Rate"),
        read_iops=_device_limits(fields, "BlkioDeviceReadIOps", "Rate"),
        write_iops=_device_limits(fields, "BlkioDeviceWriteIOps", "Rate"),
    )


def _memory(fields: Fields, *, update: bool) -> tuple[int | None, int | None]:
    memory, swap = fields.integer("Memory"), fields.integer("MemorySwap")
    if memory and memory < _MINIMUM_MEMORY:
        raise InvalidRequest("Minimum memory limit allowed is 6MB")
    if swap < -1:
        raise InvalidRequest(f"Invalid memory swap limit: {swap}", hint="-1 is for no limit")
    if memory and 0 < swap < memory:
        raise InvalidRequest(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if not memory and swap > 0 and not update:
        raise InvalidRequest(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    return memory or None, swap or None


def _reservation(fields: Fields, memory: int | None) -> int | None:
    reservation = fields.integer("MemoryReservation")
    if reservation and reservation < _MINIMUM_MEMORY:
        raise InvalidRequest("Minimum memory reservation allowed is 6MB")
    if memory and reservation > memory:
        raise InvalidRequest(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    return reservation or None


def _swappiness(value: int | None) -> int | None:
    if value is None or value == -1:
        return None
    if not 0 <= value <= 100:
        raise InvalidRequest(f"Invalid value: {value}, valid memory swappiness range is 0-100")
    return value


def _cpu(fields: Fields) -> tuple[int | None, int | None]:
    nano = fields.integer("NanoCpus")
    quota, period = fields.integer("CpuQuota"), fields.integer("CpuPeriod")
    if nano:
        for name, value in (("Period", period), ("Quota", quota)):
            if value:
                raise InvalidRequest(
                    f"Conflicting options: Nano CPUs and CPU {name} cannot both be set"
                )
        cpus = os.cpu_count() or 1
        if not _NANO // 100 <= nano <= cpus * _NANO:
            raise InvalidRequest(
                f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            )
        return nano * CPU_PERIOD // _NANO, CPU_PERIOD
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidRequest(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < quota < 1000:
        raise InvalidRequest("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    return (-1 if quota < 0 else quota) or None, period or None


def _shares(value: int) -> int | None:
    if value < 0:
        raise InvalidRequest(f"invalid CPU shares ({value}): value must be a positive integer")
    return value or None


def _cpu_list(fields: Fields, name: str, words: str) -> str | None:
    text = fields.text(name)
    if not text:
        return None
    if _CPU_LIST.fullmatch(text) is None:
        raise InvalidRequest(f"Invalid value {text} for {words}: invalid format: {text}")
    for part in text.split(","):
        low, _, high = part.partition("-")
        if high and int(high) < int(low):
            raise InvalidRequest(f"Invalid value {text} for {words}: invalid format: {text}")
    return text


def _numbers(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return found


def _available(fields: Fields, name: str, words: str, online: str) -> str | None:
    """Read a list of processors or memory nodes, all of which the host must have."""
    text = _cpu_list(fields, name, f"cpuset {name[-4:].lower()}")
    try:
        known = Path(online).read_text().strip()
    except OSError:  # a kernel without memory nodes: the control group says what it takes
        return text
    if text is not None and not _numbers(text) <= _numbers(known):
        raise InvalidRequest(
            f"Requested {words} are not available - requested {text}, available: {known}"
        )
    return text


def _pids(value: int | None) -> int | None:
    return None if value is None else (value if value > 0 else -1)


def _weight(value: int) -> int | None:
    if value and not 10 <= value <= 1000:
        raise InvalidRequest("Range of blkio weight is from 10 to 1000")
    return value or None


def _device_limits(fields: Fields, name: str, unit: str) -> tuple[DeviceLimit, ...]:
    limits = []
    for entry in fields.objects(name):
        path, value = entry.text("Path"), entry.integer(unit)
        if value < 0 or (unit == "Weight" and not 10 <= value <= 1000):
            raise InvalidRequest(f"Invalid {unit.lower()} of {path}: {value}")
        try:
            status = Path(path).stat()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a path"
            raise InvalidRequest(f"cannot limit the device {path}: {reason}") from None
        if not stat.S_ISBLK(status.st_mode):
            raise InvalidRequest(f"cannot limit the device {path}: it is not a block device")
        limits.append(DeviceLimit(os.major(status.st_rdev), os.minor(status.st_rdev), value))
    return tuple(limits)
