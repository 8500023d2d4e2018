"""Reading an OCI runtime configuration's seccomp object: checked, and in the kernel's terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ACTIONS", "ERRNO", "OPERATORS", "Condition", "Filter", "ProfileError", "Rule", "parse"]

KILL_PROCESS: Final = 0x80000000
ERRNO: Final = 0x00050000
ACTIONS: Final = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
"""The kernel's return values (``SECCOMP_RET_*``) by the specification's names."""

OPERATORS: Final = frozenset(
    f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
)

_EPERM = 1
_MAX_ERRNO = 4095
_MAX_DATA = 0xFFFF
_MAX_VALUE = (1 << 64) - 1
_MAX_INDEX = 5


class ProfileError(ValueError):
    """A seccomp profile is malformed, or asks for something that is not supported."""


@dataclass(frozen=True, slots=True)
class Condition:
    """``argument[index] operator value``; for MASKED_EQ *mask* is applied to the argument first."""

    index: int
    operator: str
    value: int
    mask: int = _MAX_VALUE


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens on the system calls *names* where all *conditions* hold."""

    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """A whole filter. The first rule that matches decides; where none does, *default*.

    :param architectures: the specification's names, as given.
    """

    default: int
    rules: tuple[Rule, ...]
    architectures: tuple[str, ...]


def parse(profile: Mapping[str, object]) -> Filter:
    """Check an OCI seccomp object, and return it in the kernel's terms.

    :raises ProfileError: it is malformed, or asks for something that is not supported; the message
        names the field.
    """
    if "defaultAction" not in profile:
        raise ProfileError("seccomp: defaultAction is missing")
    default = _action(
        profile["defaultAction"], profile.get("defaultErrnoRet"), "defaultAction", "defaultErrnoRet"
    )
    rules: list[Rule] = []
    for number, entry in enumerate(_list(profile.get("syscalls"), "syscalls")):
        rules += _rules(entry, f"syscalls[{number}]")
    architectures = _strings(profile.get("architectures"), "architectures")
    return Filter(default, tuple(rules), architectures)


def _rules(entry: object, where: str) -> list[Rule]:
    if not isinstance(entry, dict):
        raise ProfileError(f"seccomp: {where}: an object is expected")
    names = _strings(entry.get("names"), f"{where}.names")
    if not names:
        raise ProfileError(f"seccomp: {where}.names: at least one system call is expected")
    action = _action(
        entry.get("action"), entry.get("errnoRet"), f"{where}.action", f"{where}.errnoRet"
    )
    conditions = tuple(
        _condition(item, f"{where}.args[{number}]")
        for number, item in enumerate(_list(entry.get("args"), f"{where}.args"))
    )
    if len({condition.index for condition in conditions}) < len(conditions):
        # Several conditions on one argument have always meant alternatives, since the library that
        # other runtimes use takes only one for each: profiles in the wild rely on it.
        return [Rule(names, action, (condition,)) for condition in conditions]
    return [Rule(names, action, conditions)]


def _condition(item: object, where: str) -> Condition:
    if not isinstance(item, dict):
        raise ProfileError(f"seccomp: {where}: an object is expected")
    operator = item.get("op")
    if operator not in OPERATORS:
        known = ", ".join(sorted(OPERATORS))
        raise ProfileError(f"seccomp: {where}.op: {operator!r} is none of {known}")
    index = _integer(item.get("index"), f"{where}.index", _MAX_INDEX)
    value = _integer(item.get("value"), f"{where}.value", _MAX_VALUE)
    if operator == "SCMP_CMP_MASKED_EQ":
        wanted = _integer(item.get("valueTwo", 0), f"{where}.valueTwo", _MAX_VALUE)
        return Condition(index, operator, wanted, mask=value)
    return Condition(index, cast("str", operator), value)


def _action(name: object, data: object, where: str, where_data: str) -> int:
    if name == "SCMP_ACT_NOTIFY":
        raise ProfileError(f"seccomp: {where}: SCMP_ACT_NOTIFY needs a listener: not supported")
    if not isinstance(name, str) or name not in ACTIONS:
        known = ", ".join(sorted(ACTIONS))
        raise ProfileError(f"seccomp: {where}: {name!r} is none of {known}")
    if name == "SCMP_ACT_ERRNO":
        return ERRNO | (_EPERM if data is None else _integer(data, where_data, _MAX_ERRNO))
    if name == "SCMP_ACT_TRACE":
        return ACTIONS[name] | (_EPERM if data is None else _integer(data, where_data, _MAX_DATA))
    if data is not None:
        raise ProfileError(f"seccomp: {where_data}: {name} takes no number")
    return ACTIONS[name]


def _integer(value: object, where: str, highest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise ProfileError(f"seccomp: {where}: {value!r} is no number from 0 to {highest}")
    return value


def _list(value: object, where: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ProfileError(f"seccomp: {where}: a list is expected")
    return value


def _strings(value: object, where: str) -> tuple[str, ...]:
    items = _list(value, where)
    for item in items:
        if not isinstance(item, str):
            raise ProfileError(f"seccomp: {where}: {item!r} is no string")
    return tuple(cast("list[str]", items))
