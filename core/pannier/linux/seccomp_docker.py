"""Profiles in Docker's own JSON format, as ``--security-opt seccomp=FILE`` takes them.

The OCI seccomp object, extended: ``archMap`` lists the architectures of every machine, and a rule
may name what it applies to (``includes``) or not (``excludes``): capabilities, machines, and a
least kernel. A plain OCI object is such a profile too.
"""

from __future__ import annotations

import json
import os
import platform
import re
from typing import TYPE_CHECKING, Any, Final, cast

from pannier.linux.seccomp_rules import ProfileError, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.linux.seccomp_types import Profile, Rule

__all__ = ["from_docker_profile"]

# The machine's name in the profile's conditions, and in its architectures.
_MACHINES: Final = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
}


def from_docker_profile(
    text: str,
    capabilities: Iterable[str],
    *,
    machine: str | None = None,
    kernel: str | None = None,
) -> Profile:
    """Return the OCI seccomp object that a profile means for a container on this host.

    :param text: the file's content.
    :param capabilities: those of the container's bounding set, with their ``CAP_``.
    :param machine: as ``uname -m`` has it; by default this one.
    :param kernel: as ``uname -r`` has it; by default this one.
    :raises ProfileError: (a ValueError) it is malformed; the message says where.
    """
    try:
        source = json.loads(text)
    except ValueError as error:
        raise ProfileError(f"seccomp: the profile is no JSON: {error}") from None
    if not isinstance(source, dict):
        raise ProfileError("seccomp: the profile: an object is expected")
    host = _Host(frozenset(capabilities), machine or platform.machine(), kernel)
    profile: dict[str, Any] = {
        key: source[key]
        for key in ("defaultAction", "defaultErrnoRet", "flags")
        if source.get(key) is not None
    }
    profile["architectures"] = _architectures(source, host)
    rules = source.get("syscalls") or []
    if not isinstance(rules, list):
        raise ProfileError("seccomp: syscalls: a list is expected")
    profile["syscalls"] = [
        rule for number, entry in enumerate(rules) for rule in host.rule(entry, number)
    ]
    parse(profile)
    return cast("Profile", profile)


def _architectures(source: dict[str, Any], host: _Host) -> list[str]:
    listed, mapped = source.get("architectures") or [], source.get("archMap") or []
    if listed and mapped:
        raise ProfileError("seccomp: architectures and archMap exclude each other")
    if not isinstance(mapped, list):
        raise ProfileError("seccomp: archMap: a list is expected")
    for entry in mapped:
        if not isinstance(entry, dict) or "architecture" not in entry:
            raise ProfileError("seccomp: archMap: an entry without an architecture")
        if entry["architecture"] == host.architecture:
            return [entry["architecture"], *(entry.get("subArchitectures") or [])]
    return cast("list[str]", listed)


class _Host:
    """What the conditions of a profile are asked about."""

    def __init__(self, capabilities: frozenset[str], machine: str, kernel: str | None) -> None:
        self.capabilities = capabilities
        self.name, self.architecture = _MACHINES.get(machine, (machine, ""))
        self.kernel = _version(kernel or os.uname().release, "the kernel's release", strict=False)

    def rule(self, entry: object, number: int) -> list[Rule]:
        """Return the rule without its conditions; nothing where they do not hold."""
        where = f"syscalls[{number}]"
        if not isinstance(entry, dict):
            raise ProfileError(f"seccomp: {where}: an object is expected")
        includes = self._filter(entry.get("includes"), f"{where}.includes")
        excludes = self._filter(entry.get("excludes"), f"{where}.excludes")
        # Every inclusion must hold, and no exclusion may; of capabilities any one excludes.
        if not all(all(facts) for facts in includes) or any(any(facts) for facts in excludes):
            return []
        rule = {
            key: entry[key]
            for key in ("names", "action", "errnoRet", "args")
            if entry.get(key) is not None
        }
        if entry.get("name"):
            if rule.get("names"):
                raise ProfileError(f"seccomp: {where}: name and names exclude each other")
            rule["names"] = [entry["name"]]
        return [cast("Rule", rule)]

    def _filter(self, conditions: object, where: str) -> list[list[bool]]:
        """Return, for each kind of condition that is given, which of them hold."""
        if conditions is None:
            return []
        if not isinstance(conditions, dict):
            raise ProfileError(f"seccomp: {where}: an object is expected")
        facts = []
        if names := conditions.get("caps"):
            facts.append([name in self.capabilities for name in names])
        if machines := conditions.get("arches"):
            facts.append([self.name in machines])
        if least := conditions.get("minKernel"):
            facts.append([self.kernel >= _version(least, f"{where}.minKernel", strict=True)])
        return facts


def _version(text: object, where: str, *, strict: bool) -> tuple[int, int]:
    pattern = r"(\d+)\.(\d+)" + ("$" if strict else "")
    match = re.match(pattern, text) if isinstance(text, str) else None
    if match is None:
        raise ProfileError(f"seccomp: {where}: {text!r} is no version such as 4.8")
    return int(match[1]), int(match[2])
