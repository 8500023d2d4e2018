"""The compiler of seccomp filters: from an OCI seccomp object to a classic BPF program.

The program first looks at the audit architecture, and kills the process on one that the profile
does not list (the machine's own is always listed). It then finds the system call's number by a
balanced search over *intervals* of numbers with the same outcome, some seven comparisons deep for
a profile of four hundred calls, and last compares arguments where a rule asks for it.

A number above every call that the profile names is answered ENOSYS, not by the default action,
unless that one is permissive: C libraries try newer calls first and fall back on ENOSYS only.

Sources: the kernel's ``Documentation/userspace-api/seccomp_filter.rst``; OCI runtime
specification, config-linux.md, "Seccomp".
"""

from __future__ import annotations

import json
import platform
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from pannier.linux.seccomp_rules import ACTIONS, ERRNO, Condition, Filter, ProfileError, parse
from pannier.linux.syscall_tables import X32_BIT, numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_INSTRUCTIONS",
    "ProfileError",
    "compile_filter",
    "filter_flags",
    "known_architectures",
    "known_flags",
]

MAX_INSTRUCTIONS: Final = 4096
"""The kernel takes no longer program (``BPF_MAXINSNS``)."""

Code: TypeAlias = "list[tuple[int, int, int, int]]"
"""Instructions as (operation, jump if true, jump if false, constant); all jumps are relative and
forward, so that pieces can be strung together."""

Outcome: TypeAlias = "tuple[tuple[tuple[Condition, ...], int], ...]"
"""Conditions and the action where they hold, tried in order; the last has no conditions."""

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP = 0x05  # BPF_JMP | BPF_JA
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_GREATER = 0x25  # BPF_JMP | BPF_JGT | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_LONGEST_BRANCH = 255

# Offsets in struct seccomp_data; each argument is 64 bits, its low half first.
_NUMBER_AT = 0
_ARCHITECTURE_AT = 4
_ARGUMENTS_AT = 16

_ENOSYS = ERRNO | 38
_KILL_PROCESS = ACTIONS["SCMP_ACT_KILL_PROCESS"]
_PERMISSIVE = {ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_LOG"]}
_LOW_HALF = 0xFFFFFFFF

_AUDIT: Final = {
    "x86_64": 0xC000003E,
    "i386": 0x40000003,
    "aarch64": 0xC00000B7,
    "arm": 0x40000028,
}
"""``AUDIT_ARCH_*``; x32 has x86-64's."""

_FAMILIES: Final = {
    "x86_64": {"SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_X86": "i386", "SCMP_ARCH_X32": "x32"},
    "aarch64": {"SCMP_ARCH_AARCH64": "aarch64", "SCMP_ARCH_ARM": "arm"},
}
"""What can run on a machine, by the specification's names."""

_FOREIGN_NAMES = (
    "MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC "
    "PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
)
_FOREIGN: Final = frozenset(f"SCMP_ARCH_{name}" for name in _FOREIGN_NAMES.split())

_FLAGS: Final = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}


def compile_filter(profile: Mapping[str, object], arch: str | None = None) -> bytes:
    """Compile an OCI seccomp object to an array of ``struct sock_filter``.

    The first rule that matches a call decides. Calls that an architecture does not have are
    ignored there. The same profile is compiled once and remembered.

    :param arch: the machine, as ``uname -m`` has it; by default this one.
    :raises ProfileError: the profile is malformed, asks for something that is not supported, or is
        too long for the kernel; the message names the field.
    """
    # A canonical text is the key: dictionaries have no hash.
    return _compile(json.dumps(profile, sort_keys=True), arch or platform.machine())


def filter_flags(profile: Mapping[str, object]) -> int:
    """Return the flags for seccomp(2) that an OCI seccomp object asks for.

    :raises ProfileError: an unknown flag.
    """
    flags = 0
    names = profile.get("flags") or []
    if not isinstance(names, list):
        raise ProfileError("seccomp: flags: a list is expected")
    for name in names:
        if name not in _FLAGS:
            raise ProfileError(f"seccomp: flags: {name!r} is none of {', '.join(sorted(_FLAGS))}")
        flags |= _FLAGS[name]
    return flags


def known_flags() -> frozenset[str]:
    """Return the names of the flags that a profile may ask for."""
    return frozenset(_FLAGS)


def known_architectures() -> frozenset[str]:
    """Return the names of the architectures that a filter can be compiled for."""
    return frozenset(name for family in _FAMILIES.values() for name in family)


@lru_cache(maxsize=64)
def _compile(profile: str, machine: str) -> bytes:
    filter = parse(json.loads(profile))
    if machine not in _FAMILIES:
        raise ProfileError(f"seccomp: no system call tables for the machine {machine!r}")
    code = [(_LOAD, 0, 0, _ARCHITECTURE_AT)]
    abis = _abis(filter.architectures, machine)
    for abi in abis:
        if abi == "x32":
            continue
        block = _search(filter, (abi, "x32") if abi == "x86_64" and "x32" in abis else (abi,))
        code += [(_EQUAL, 1, 0, _AUDIT[abi]), (_JUMP, 0, 0, len(block)), *block]
    code.append((_RETURN, 0, 0, _KILL_PROCESS))
    if len(code) > MAX_INSTRUCTIONS:
        raise ProfileError(
            f"seccomp: the profile compiles to {len(code)} instructions, and the kernel takes "
            f"{MAX_INSTRUCTIONS}"
        )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _abis(architectures: tuple[str, ...], machine: str) -> list[str]:
    family = _FAMILIES[machine]
    abis = [machine]
    for name in architectures:
        if name in family:
            if family[name] not in abis:
                abis.append(family[name])
        elif name not in _FOREIGN and not any(name in other for other in _FAMILIES.values()):
            raise ProfileError(f"seccomp: architectures: {name!r} is unknown")
    return abis


def _search(filter: Filter, abis: tuple[str, ...]) -> Code:
    """Return the part of the program for one audit architecture."""
    intervals: list[tuple[int, Outcome]] = []
    for abi in abis:
        intervals += _intervals(filter, abi)
    if abis == ("x86_64",):
        # The kernel of a host without x32 would say the same.
        intervals.append((X32_BIT, (((), _ENOSYS),)))
    merged = intervals[:1]
    for interval in intervals[1:]:
        if interval[1] != merged[-1][1]:
            merged.append(interval)
    return [(_LOAD, 0, 0, _NUMBER_AT), *_tree(merged)]


def _intervals(filter: Filter, abi: str) -> list[tuple[int, Outcome]]:
    """Return the first number of each run of calls, with what happens on them, ascending."""
    outcomes = _outcomes(filter, numbers(abi))
    fallback: Outcome = (((), filter.default),)
    unknown: Outcome = fallback if filter.default in _PERMISSIVE else (((), _ENOSYS),)
    found: list[tuple[int, Outcome]] = []
    expected = X32_BIT if abi == "x32" else 0
    for number in sorted(outcomes):
        if number > expected:
            found.append((expected, fallback))
        found.append((number, outcomes[number]))
        expected = number + 1
    return [*found, (expected, unknown)]


def _outcomes(filter: Filter, table: Mapping[str, int]) -> dict[int, Outcome]:
    """Return what happens on each call that the profile names, by number."""
    outcomes: dict[int, list[tuple[tuple[Condition, ...], int]]] = {}
    decided = set()
    for rule in filter.rules:
        for name in rule.names:
            number = table.get(name)
            if number is None or number in decided:
                continue
            outcomes.setdefault(number, []).append((rule.conditions, rule.action))
            if not rule.conditions:
                decided.add(number)
    for number, alternatives in outcomes.items():
        if number not in decided:
            alternatives.append(((), filter.default))
    return {number: tuple(alternatives) for number, alternatives in outcomes.items()}


def _tree(intervals: list[tuple[int, Outcome]]) -> Code:
    if len(intervals) == 1:
        return _leaf(intervals[0][1])
    middle = len(intervals) // 2
    lower, upper = _tree(intervals[:middle]), _tree(intervals[middle:])
    first = intervals[middle][0]
    if len(lower) <= _LONGEST_BRANCH:
        return [(_AT_LEAST, len(lower), 0, first), *lower, *upper]
    # A conditional jump has 8 bits: where they do not reach, it skips over a long one.
    return [(_AT_LEAST, 0, 1, first), (_JUMP, 0, 0, len(lower)), *lower, *upper]


def _leaf(outcome: Outcome) -> Code:
    code: Code = []
    for conditions, action in outcome:
        piece: Code = [(_RETURN, 0, 0, action)]
        for condition in reversed(conditions):
            piece = _comparison(condition, len(piece)) + piece
        code += piece
    return code


def _comparison(condition: Condition, otherwise: int) -> Code:
    """Compare 64 bits in halves: go on where it holds, else skip *otherwise* more instructions."""
    low_at = _ARGUMENTS_AT + 8 * condition.index
    low = (_LOAD, 0, 0, low_at)
    high = (_LOAD, 0, 0, low_at + 4)
    value_low, value_high = condition.value & _LOW_HALF, condition.value >> 32
    operator = condition.operator.removeprefix("SCMP_CMP_")
    if operator == "MASKED_EQ":
        return [
            high,
            (_AND, 0, 0, condition.mask >> 32),
            (_EQUAL, 0, 3 + otherwise, value_high),
            low,
            (_AND, 0, 0, condition.mask & _LOW_HALF),
            (_EQUAL, 0, otherwise, value_low),
        ]
    if operator == "EQ":
        return [
            high,
            (_EQUAL, 0, 2 + otherwise, value_high),
            low,
            (_EQUAL, 0, otherwise, value_low),
        ]
    if operator == "NE":
        return [high, (_EQUAL, 0, 2, value_high), low, (_EQUAL, otherwise, 0, value_low)]
    last = _GREATER if operator in {"GT", "LE"} else _AT_LEAST
    if operator in {"GT", "GE"}:
        return [
            high,
            (_GREATER, 3, 0, value_high),
            (_EQUAL, 0, 2 + otherwise, value_high),
            low,
            (last, 0, otherwise, value_low),
        ]
    return [
        high,
        (_GREATER, 3 + otherwise, 0, value_high),
        (_EQUAL, 0, 2, value_high),
        low,
        (last, otherwise, 0, value_low),
    ]
