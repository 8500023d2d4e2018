"""From ``linux.resources`` of a configuration to what the resource drivers take.

Every field is passed on or refused by its name. Source: OCI runtime specification,
config-linux.md, "Control groups".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pannier.drivers.resources import DeviceLimit, DeviceRule, Limits
from pannier.errors import InvalidRequest, UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["device_rules", "limits_of"]

_PART = {
    "memory": {
        "limit": "memory",
        "reservation": "memory_reservation",
        "swap": "memory_swap",
        "swappiness": "swappiness",
        "disableOOMKiller": "oom_kill_disable",
    },
    "cpu": {
        "shares": "cpu_shares",
        "quota": "cpu_quota",
        "period": "cpu_period",
        "realtimePeriod": "cpu_realtime_period",
        "realtimeRuntime": "cpu_realtime_runtime",
        "cpus": "cpuset_cpus",
        "mems": "cpuset_mems",
    },
    "pids": {"limit": "pids"},
    "blockIO": {"weight": "block_weight"},
}
_THROTTLES = {
    "throttleReadBpsDevice": "read_bps",
    "throttleWriteBpsDevice": "write_bps",
    "throttleReadIOPSDevice": "read_iops",
    "throttleWriteIOPSDevice": "write_iops",
}
_HARMLESS = {
    ("memory", "useHierarchy"): True,
    ("memory", "kernel"): -1,
    ("memory", "kernelTCP"): -1,
}
"""What asks for nothing that is not so anyway."""

_ALWAYS = (
    DeviceRule(allow=True, type="c", access="m"),
    DeviceRule(allow=True, type="b", access="m"),
    *(
        DeviceRule(allow=True, type="c", major=major, minor=minor)
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None))
    ),
)
"""The devices that the specification wants in every container, as other runtimes allow them."""


def limits_of(resources: Mapping[str, Any]) -> Limits:
    """Return the limits, without the device rules.

    :raises UnsupportedOperation: a field is not offered.
    """
    values: dict[str, Any] = {}
    refused = [name for name in ("network", "rdma", "unified") if resources.get(name)]
    for part, fields in _PART.items():
        for name, value in (resources.get(part) or {}).items():
            if value is None or _HARMLESS.get((part, name)) == value:
                continue
            if name in fields:
                values[fields[name]] = value
            elif part == "blockIO" and name == "weightDevice":
                values["block_weight_device"] = tuple(_weights(value))
            elif part == "blockIO" and name in _THROTTLES:
                values[_THROTTLES[name]] = tuple(_rates(value))
            elif value:
                refused.append(f"{part}.{name}")
    if refused:
        names = ", ".join(f"linux.resources.{name}" for name in refused)
        raise UnsupportedOperation(f"{names}: not offered by the resource drivers")
    if pages := resources.get("hugepageLimits"):
        values["hugetlb"] = {page["pageSize"]: page["limit"] for page in pages}
    return Limits(**_unset_zeros(values))


def _unset_zeros(values: dict[str, Any]) -> dict[str, Any]:
    """Take 0 and "" for *as it is*: engines write them for that, and the kernel takes none."""
    meant = ("swappiness", "cpu_realtime_runtime")
    return {name: value for name, value in values.items() if value or name in meant}


def _weights(entries: Sequence[Mapping[str, Any]]) -> Iterator[DeviceLimit]:
    for entry in entries:
        if entry.get("leafWeight"):
            raise UnsupportedOperation(
                "linux.resources.blockIO.weightDevice.leafWeight: not offered"
            )
        if "weight" not in entry:
            raise InvalidRequest("linux.resources.blockIO.weightDevice: weight is missing")
        yield DeviceLimit(entry["major"], entry["minor"], entry["weight"])


def _rates(entries: Sequence[Mapping[str, Any]]) -> Iterator[DeviceLimit]:
    for entry in entries:
        yield DeviceLimit(entry["major"], entry["minor"], entry["rate"])


def device_rules(linux: Mapping[str, Any]) -> tuple[DeviceRule, ...]:
    """Return the device rules in order, and behind them those for what every container has.

    :raises InvalidRequest: one is malformed.
    """
    entries = (linux.get("resources") or {}).get("devices") or ()
    rules = []
    for entry in entries:
        kind, access = entry.get("type") or "a", entry.get("access") or "rwm"
        if kind not in {"a", "b", "c"} or set(access) - set("rwm"):
            raise InvalidRequest(f"linux.resources.devices: malformed rule {entry}")
        rules.append(
            DeviceRule(
                entry.get("allow", False),
                kind,
                _number(entry.get("major")),
                _number(entry.get("minor")),
                access,
            )
        )
    if not rules:
        return ()
    return (*rules, *_ALWAYS)


def _number(value: int | None) -> int | None:
    return None if value is None or value < 0 else value
