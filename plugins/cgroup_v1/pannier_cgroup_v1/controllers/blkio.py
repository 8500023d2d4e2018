"""Block devices: ``admin-guide/cgroup-v1/blkio-controller.rst``."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from pannier.drivers.resources import BlockUsage
from pannier_cgroup_v1.group import Write

if TYPE_CHECKING:
    from typing import Any

    from pannier.drivers.resources import Limits
    from pannier_cgroup_v1.group import Group

__all__ = ["WEIGHTS", "measure", "writes"]

WEIGHTS: Final = ("blkio.weight", "blkio.bfq.weight")
"""The file of the weight: an older kernel's CFQ scheduler, and BFQ."""

_THROTTLES: Final = (
    ("read_bps", "blkio.throttle.read_bps_device", "the bytes read per second"),
    ("write_bps", "blkio.throttle.write_bps_device", "the bytes written per second"),
    ("read_iops", "blkio.throttle.read_iops_device", "the reads per second"),
    ("write_iops", "blkio.throttle.write_iops_device", "the writes per second"),
)

# BFQ keeps its own counters for the devices that it schedules; the throttling layer sees all.
_BYTES: Final = ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes")
_OPERATIONS: Final = ("blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced")


def writes(limits: Limits, group: Group) -> list[Write]:
    """Return the writes for *limits*."""
    found = []
    weight = WEIGHTS[0] if WEIGHTS[0] in group.files else WEIGHTS[1]
    if limits.block_weight is not None:
        found.append(_write(weight, str(limits.block_weight), "the block I/O weight"))
    for device in limits.block_weight_device:
        value = f"{device.major}:{device.minor} {device.value}"
        found.append(_write(f"{weight}_device", value, "the block I/O weight of a device"))
    for field, file, purpose in _THROTTLES:
        for device in getattr(limits, field):
            value = f"{device.major}:{device.minor} {device.value}"
            found.append(_write(file, value, purpose))
    return found


def _write(file: str, value: str, purpose: str) -> Write:
    return Write("blkio", file, value, purpose)


def measure(group: Group) -> dict[str, Any]:
    """Return what was read and written, for each device."""
    transferred = _by_device(_first(group, _BYTES))
    operations = _by_device(_first(group, _OPERATIONS))
    return {
        "blocks": tuple(
            BlockUsage(
                major,
                minor,
                transferred[major, minor].get("Read", 0),
                transferred[major, minor].get("Write", 0),
                operations[major, minor].get("Read", 0),
                operations[major, minor].get("Write", 0),
            )
            for major, minor in sorted({*transferred, *operations})
        )
    }


def _first(group: Group, files: tuple[str, ...]) -> str:
    texts = (group.read("blkio", file) for file in files)
    return next((text for text in texts if text is not None), "")


def _by_device(text: str) -> defaultdict[tuple[int, int], dict[str, int]]:
    """Read lines such as ``254:0 Read 4096``; the line ``Total …`` names no device."""
    found: defaultdict[tuple[int, int], dict[str, int]] = defaultdict(dict)
    for line in text.splitlines():
        device, *rest = line.split()
        if ":" in device and len(rest) == len(("Read", "4096")):
            major, _, minor = device.partition(":")
            found[int(major), int(minor)][rest[0]] = int(rest[1])
    return found
