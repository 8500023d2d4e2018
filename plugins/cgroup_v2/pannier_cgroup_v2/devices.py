"""Device nodes: an eBPF program on the group decides."""

from __future__ import annotations

import os
from functools import cache, partial
from typing import TYPE_CHECKING

from pannier.drivers.operations import Action, Step
from pannier.errors import DriverError, InvalidRequest, NotFound, UnsupportedOperation
from pannier.linux.bpf import (
    DeviceMatch,
    assemble_device_program,
    load_device_program,
    set_device_program,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.resources import DeviceRule
    from pannier_cgroup_v2.group import Group

__all__ = ["available", "operation"]


@cache
def available() -> bool:
    """Whether the kernel takes a device filter from us: tried once."""
    try:
        os.close(load_device_program(assemble_device_program([])))
    except OSError:
        return False
    return True


def operation(group: Group, rules: Sequence[DeviceRule]) -> Action:
    """Return the operation that makes *rules* the group's device filter.

    :raises InvalidRequest: a rule's type or access is unknown.
    """
    matches = [
        DeviceMatch(rule.allow, rule.type, rule.major, rule.minor, rule.access) for rule in rules
    ]
    try:
        program = assemble_device_program(matches)
    except ValueError as error:
        raise InvalidRequest(
            f"a device rule is malformed: {error}",
            hint="the type is a, b or c; the access is made of r, w and m",
        ) from error
    detail = "; ".join(_describe(rule) for rule in rules)
    return Action(Step("attach device filter", group.path, detail), partial(_set, group, program))


def _describe(rule: DeviceRule) -> str:
    major = "*" if rule.major is None else rule.major
    minor = "*" if rule.minor is None else rule.minor
    return f"{'allow' if rule.allow else 'deny'} {rule.type} {major}:{minor} {rule.access}"


def _set(group: Group, code: bytes) -> None:
    try:
        program = load_device_program(code)
    except OSError as error:
        raise UnsupportedOperation(
            f"devices cannot be restricted: the kernel takes no device filter: {error.strerror}",
            hint="it needs CONFIG_CGROUP_BPF and the capability CAP_SYS_ADMIN or CAP_BPF",
        ) from error
    try:
        folder = os.open(group.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            set_device_program(folder, program)
        finally:
            os.close(folder)
    except FileNotFoundError:
        raise NotFound(f"there is no group {group.path}") from None
    except OSError as error:
        raise DriverError(
            f"the device filter cannot be attached to {group.path}: {error.strerror}"
        ) from error
    finally:
        os.close(program)
