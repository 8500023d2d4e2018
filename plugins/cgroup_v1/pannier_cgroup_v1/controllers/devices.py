"""Device nodes: ``admin-guide/cgroup-v1/devices.rst``.

The kernel keeps a default (all or nothing) and a list of exceptions to it, in which the accesses of
equal devices add up. A rule *for* the default takes its accesses from an exception, but only from
one for an equal device: taking ``c 1:3`` away from an allowed ``c *:*`` does nothing, and says
nothing. Such rules are refused here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest, UnsupportedOperation
from pannier_cgroup_v1.group import Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.resources import DeviceRule

__all__ = ["writes"]


def writes(rules: Sequence[DeviceRule]) -> list[Write]:
    """Return the writes for *rules*, in their order.

    :raises InvalidRequest: a rule's type or access is unknown.
    :raises UnsupportedOperation: the kernel's list cannot express the rules.
    """
    _check(rules)
    return [
        Write(
            "devices",
            "devices.allow" if rule.allow else "devices.deny",
            "a" if rule.type == "a" else f"{_device(rule)} {rule.access}",
            "a device rule",
        )
        for rule in rules
    ]


def _device(rule: DeviceRule) -> str:
    major = "*" if rule.major is None else rule.major
    minor = "*" if rule.minor is None else rule.minor
    return f"{rule.type} {major}:{minor}"


def _check(rules: Sequence[DeviceRule]) -> None:
    allowed = True
    exceptions: dict[tuple[str, int | None, int | None], set[str]] = {}
    for rule in rules:
        if rule.type not in {"a", "b", "c"} or not rule.access or set(rule.access) - set("rwm"):
            raise InvalidRequest(
                f"the device rule {_device(rule)} {rule.access} is malformed",
                hint="the type is a, b or c; the access is made of r, w and m",
            )
        if rule.type == "a":
            if rule.major is not None or rule.minor is not None or set(rule.access) != set("rwm"):
                raise UnsupportedOperation(
                    "a device rule for all types can only be for all devices and accesses on "
                    "cgroup v1",
                    hint="write one rule for type c and one for type b",
                )
            allowed, exceptions = rule.allow, {}
            continue
        key, access = (rule.type, rule.major, rule.minor), set(rule.access)
        if rule.allow != allowed:
            exceptions.setdefault(key, set()).update(access)
            continue
        exceptions.get(key, set()).difference_update(access)
        for (type_, major, minor), excepted in exceptions.items():
            other = replace(rule, type=type_, major=major, minor=minor)
            if excepted & access and _overlap(other, rule):
                verb = "allow" if rule.allow else "deny"
                raise UnsupportedOperation(
                    f"cgroup v1 cannot {verb} {_device(rule)} after the rule for {_device(other)}",
                    hint="order the rules from the particular to the general, or name single ones",
                )


def _overlap(one: DeviceRule, other: DeviceRule) -> bool:
    return (
        one.type == other.type
        and (one.major is None or other.major is None or one.major == other.major)
        and (one.minor is None or other.minor is None or one.minor == other.minor)
    )
