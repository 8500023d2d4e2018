"""Device programs decide as the rules read; the kernel's verifier takes them."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.linux.bpf import DeviceMatch, assemble_device_program, load_device_program

if TYPE_CHECKING:
    from collections.abc import Sequence

TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}


def run(program: bytes, type: str, major: int, minor: int, access: str) -> bool:
    """Execute an eBPF program's few operations as the kernel would."""
    word = sum(ACCESS[letter] for letter in access) << 16 | TYPES[type]
    context = struct.pack("<III", word, major, minor)
    code = list(struct.iter_unpack("<BBhi", program))
    registers = [0] * 11
    at = 0
    while True:
        operation, both, offset, constant = code[at]
        target, source = both & 15, both >> 4
        at += 1
        if operation == 0x61:
            (registers[target],) = struct.unpack_from("<I", context, offset)
        elif operation == 0xB7:
            registers[target] = constant
        elif operation == 0xBF:
            registers[target] = registers[source]
        elif operation == 0x57:
            registers[target] &= constant
        elif operation == 0x77:
            registers[target] >>= constant
        elif operation == 0x95:
            return bool(registers[0])
        else:
            jumps = {
                0x05: True,
                0x15: registers[target] == constant,
                0x55: registers[target] != constant,
                0x45: bool(registers[target] & constant),
            }
            at += offset if jumps[operation] else 0


def naive(rules: Sequence[DeviceMatch], type: str, major: int, minor: int, access: str) -> bool:
    """Decide each access by the last rule that names it."""

    def one(letter: str) -> bool:
        for rule in reversed(rules):
            if (
                rule.type in {"a", type}
                and rule.major in {None, major}
                and rule.minor in {None, minor}
                and letter in rule.access
            ):
                return rule.allow
        return True

    return all(one(letter) for letter in access)


numbers = st.integers(0, 3)
accesses = st.sets(st.sampled_from("rwm"), min_size=1).map(lambda letters: "".join(sorted(letters)))
matches = st.builds(
    DeviceMatch,
    allow=st.booleans(),
    type=st.sampled_from("abc"),
    major=st.none() | numbers,
    minor=st.none() | numbers,
    access=accesses,
)


@given(rules=st.lists(matches, max_size=12), data=st.data())
def test_the_program_decides_as_the_rules_read(
    rules: list[DeviceMatch], data: st.DataObject
) -> None:
    """For any rules and request the program and the naive reading agree."""
    program = assemble_device_program(rules)
    for _ in range(10):
        type, access = data.draw(st.sampled_from("bc")), data.draw(accesses)
        major, minor = data.draw(numbers), data.draw(numbers)
        expected = naive(rules, type, major, minor, access)
        assert run(program, type, major, minor, access) is expected


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (DeviceMatch(allow=True, type="x"), "type 'x'"),
        (DeviceMatch(allow=True, access="rx"), "access 'rx'"),
        (DeviceMatch(allow=True, access=""), "access ''"),
    ],
)
def test_a_malformed_rule_is_refused(rule: DeviceMatch, message: str) -> None:
    """An unknown letter is a ValueError that shows it."""
    with pytest.raises(ValueError, match=message):
        assemble_device_program([rule])


@pytest.mark.root
@pytest.mark.parametrize(
    "rules",
    [
        [],
        [DeviceMatch(allow=False)],
        [DeviceMatch(allow=False), DeviceMatch(allow=True, type="c", major=1, minor=3)],
        [DeviceMatch(allow=True), DeviceMatch(allow=False, type="b", access="w")],
        [DeviceMatch(allow=True, type="c", major=m, access="rm") for m in range(300)],
    ],
)
def test_the_verifier_takes_the_program(rules: list[DeviceMatch]) -> None:
    """The kernel loads what was assembled, short or long."""
    os.close(load_device_program(assemble_device_program(rules)))


@pytest.mark.root
def test_a_refused_program_says_why() -> None:
    """The verifier's own words are in the error."""
    endless = struct.pack("=BBhi", 0x05, 0, -1, 0)
    with pytest.raises(OSError, match=r"Invalid argument .+"):
        load_device_program(endless)
