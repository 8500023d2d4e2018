"""The seccomp compiler agrees with a naive reading of the profile, and with the kernel."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.linux.seccomp import MAX_INSTRUCTIONS, compile_filter, filter_flags
from pannier.linux.syscall_tables import ARCHITECTURES, X32_BIT, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
ABI = {"SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_X86": "i386", "SCMP_ARCH_X32": "x32"}
RETURN = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x30000,
    "SCMP_ACT_ERRNO": 0x50000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
ENOSYS = 0x50000 | 38
MASK = (1 << 64) - 1

COMPARE: dict[str, Callable[[int, dict[str, Any]], bool]] = {
    "SCMP_CMP_EQ": lambda actual, argument: actual == argument["value"],
    "SCMP_CMP_NE": lambda actual, argument: actual != argument["value"],
    "SCMP_CMP_LT": lambda actual, argument: actual < argument["value"],
    "SCMP_CMP_LE": lambda actual, argument: actual <= argument["value"],
    "SCMP_CMP_GT": lambda actual, argument: actual > argument["value"],
    "SCMP_CMP_GE": lambda actual, argument: actual >= argument["value"],
    "SCMP_CMP_MASKED_EQ": lambda actual, argument: (
        actual & argument["value"] == argument.get("valueTwo", 0)
    ),
}


def run(program: bytes, audit: int, number: int, arguments: Sequence[int] = ()) -> int:
    """Execute a classic BPF program as the kernel would, and return its answer."""
    values = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, audit, 0, *values)
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        operation, true, false, constant = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif operation == 0x54:
            accumulator &= constant
        elif operation == 0x05:
            at += constant
        elif operation == 0x06:
            return int(constant)
        else:
            test = {
                0x15: accumulator == constant,
                0x25: accumulator > constant,
                0x35: accumulator >= constant,
            }
            at += true if test[operation] else false


def naive(profile: Mapping[str, Any], abi: str, number: int, arguments: Sequence[int]) -> object:
    """Read the profile from the top, as its author would."""
    table = numbers(abi)
    names = {name for name, value in table.items() if value == number}
    for rule in profile["syscalls"]:
        conditions = rule.get("args", [])
        holds = [COMPARE[one["op"]](arguments[one["index"]], one) for one in conditions]
        repeated = len({one["index"] for one in conditions}) < len(conditions)
        if names & set(rule["names"]) and (any(holds) if repeated else all(holds)):
            return RETURN[rule["action"]] | rule.get("errnoRet", 1) * (
                rule["action"] == "SCMP_ACT_ERRNO"
            )
    named = {name for rule in profile["syscalls"] for name in rule["names"]}
    last = max((table[name] for name in named if name in table), default=-1)
    if number > last and profile["defaultAction"] not in {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG"}:
        return ENOSYS
    return RETURN[profile["defaultAction"]] | (profile["defaultAction"] == "SCMP_ACT_ERRNO")


values = st.sampled_from((0, 1, 2, 7, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, MASK)) | st.integers(
    0, MASK
)
calls = st.sampled_from(sorted(set(numbers("x86_64")) | set(numbers("i386"))))


@st.composite
def argument(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a condition."""
    made = {
        "index": draw(st.integers(0, 5)),
        "op": draw(st.sampled_from(sorted(COMPARE))),
        "value": draw(values),
    }
    if made["op"] == "SCMP_CMP_MASKED_EQ" and draw(st.booleans()):
        made["valueTwo"] = draw(values)
    return made


@st.composite
def rule(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a rule."""
    made: dict[str, Any] = {
        "names": draw(st.lists(calls, min_size=1, max_size=12)),
        "action": draw(st.sampled_from(sorted(RETURN))),
        "args": draw(st.lists(argument(), max_size=3)),
    }
    if made["action"] == "SCMP_ACT_ERRNO" and draw(st.booleans()):
        made["errnoRet"] = draw(st.integers(0, 4095))
    return made


profiles = st.fixed_dictionaries(
    {
        "defaultAction": st.sampled_from(sorted(RETURN)),
        "architectures": st.lists(st.sampled_from(sorted(ABI)), unique=True),
        "syscalls": st.lists(rule(), max_size=12),
    }
)


@given(profile=profiles, data=st.data())
def test_the_program_decides_as_the_profile_reads(
    profile: dict[str, Any], data: st.DataObject
) -> None:
    """For any profile, ABI, call and arguments: the program and the naive reading agree."""
    program = compile_filter(profile, "x86_64")
    named = [name for rule in profile["syscalls"] for name in rule["names"]]
    for _ in range(8):
        abi = data.draw(st.sampled_from(("x86_64", "i386", "x32")))
        table = numbers(abi)
        base = X32_BIT if abi == "x32" else 0
        known = [table[name] for name in named if name in table]
        number = data.draw(
            st.integers(base, base + 600) | (st.sampled_from(known) if known else st.nothing())
        )
        interesting = [one["value"] for rule in profile["syscalls"] for one in rule["args"]] or [0]
        arguments = data.draw(
            st.lists(values | st.sampled_from(interesting), min_size=6, max_size=6)
        )
        answer = run(program, AUDIT["i386" if abi == "i386" else "x86_64"], number, arguments)
        listed = {"x86_64", *(ABI[name] for name in profile["architectures"])}
        if abi == "i386" and abi not in listed:
            assert answer == RETURN["SCMP_ACT_KILL_PROCESS"]
        elif abi == "x32" and abi not in listed:
            assert answer == ENOSYS
        else:
            assert answer == naive(profile, abi, number, arguments)


def profile(*rules: dict[str, Any], default: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    """Make a profile."""
    return {"defaultAction": default, "syscalls": list(rules), **more}


def allow(*names: str, **more: Any) -> dict[str, Any]:
    """Make a rule that allows."""
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **more}


def test_a_foreign_architecture_kills() -> None:
    """A call through an ABI of another machine ends the process."""
    program = compile_filter(profile(allow("read")), "x86_64")
    assert run(program, AUDIT["aarch64"], 0) == RETURN["SCMP_ACT_KILL_PROCESS"]


def test_arm_profiles_compile_for_arm_machines() -> None:
    """On a 64-bit ARM machine both of its ABIs are served, each by its own numbers."""
    listed = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    program = compile_filter(profile(allow("read"), architectures=listed), "aarch64")
    assert run(program, AUDIT["aarch64"], 63) == RETURN["SCMP_ACT_ALLOW"]
    assert run(program, AUDIT["arm"], 3) == RETURN["SCMP_ACT_ALLOW"]
    assert run(program, AUDIT["aarch64"], 62) == RETURN["SCMP_ACT_ERRNO"] | 1


def test_a_deny_list_is_not_evaded_through_x32() -> None:
    """Where everything is allowed but a few calls, the x32 numbers of those are not a way in."""
    program = compile_filter(
        profile({"names": ["ptrace"], "action": "SCMP_ACT_ERRNO"}, default="SCMP_ACT_ALLOW"),
        "x86_64",
    )
    assert run(program, AUDIT["x86_64"], numbers("x32")["ptrace"]) == ENOSYS
    assert run(program, AUDIT["x86_64"], X32_BIT | numbers("x86_64")["ptrace"]) == ENOSYS


def test_numbers_beyond_the_known_are_enosys() -> None:
    """C libraries fall back to older calls on ENOSYS: newer calls than the profile's get that."""
    program = compile_filter(profile(allow("read", "statx")), "x86_64")
    assert run(program, AUDIT["x86_64"], numbers("x86_64")["statx"] + 1) == ENOSYS
    assert run(program, AUDIT["x86_64"], 0xFFFFFFFF) == ENOSYS
    assert run(program, AUDIT["x86_64"], 1) == RETURN["SCMP_ACT_ERRNO"] | 1


def test_unknown_calls_are_ignored() -> None:
    """A name that this machine does not have changes nothing."""
    plain = compile_filter(profile(allow("read")), "x86_64")
    assert compile_filter(profile(allow("read", "s390_pci_mmio_read")), "x86_64") == plain


def test_the_largest_profile_is_refused_by_name() -> None:
    """A program that the kernel would not take is an error here, not a strange EINVAL there."""
    conditions = [
        allow("read", args=[{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}])
        for value in range(MAX_INSTRUCTIONS // 5 + 1)
    ]
    with pytest.raises(ValueError, match="4096"):
        compile_filter(profile(*conditions), "x86_64")


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        ({}, "defaultAction"),
        (profile(default="SCMP_ACT_MAYBE"), "SCMP_ACT_MAYBE"),
        (profile(default="SCMP_ACT_NOTIFY"), "SCMP_ACT_NOTIFY"),
        (profile(default="SCMP_ACT_KILL", defaultErrnoRet=1), "defaultErrnoRet"),
        (profile({**allow("read"), "errnoRet": 1}), r"syscalls\[0\]\.errnoRet"),
        (profile({"names": [], "action": "SCMP_ACT_ALLOW"}), r"syscalls\[0\]\.names"),
        (profile({"names": "read", "action": "SCMP_ACT_ALLOW"}), r"syscalls\[0\]\.names"),
        (profile(allow("read"), {"names": ["write"]}), r"syscalls\[1\]\.action"),
        (profile(allow("read", args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])), "index"),
        (profile(allow("read", args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}])), "value"),
        (profile(allow("read", args=[{"index": 0, "value": 0, "op": "=="}])), r"args\[0\]\.op"),
        (profile(default="SCMP_ACT_ERRNO", defaultErrnoRet=5000), "defaultErrnoRet"),
        (profile(architectures=["SCMP_ARCH_Z80"]), "SCMP_ARCH_Z80"),
    ],
)
def test_a_malformed_profile_names_the_field(broken: dict[str, Any], where: str) -> None:
    """Every mistake is a ValueError that says where it is."""
    with pytest.raises(ValueError, match=where):
        compile_filter(broken, "x86_64")


def test_a_machine_without_a_table_is_refused() -> None:
    """Rather no filter, said aloud, than one with wrong numbers."""
    with pytest.raises(ValueError, match="riscv64"):
        compile_filter(profile(allow("read")), "riscv64")


def test_flags_are_translated() -> None:
    """The specification's flags become those of seccomp(2); an unknown one is refused."""
    assert filter_flags({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]}) == 3
    assert filter_flags({}) == 0
    with pytest.raises(ValueError, match="FLAG_FOO"):
        filter_flags({"flags": ["FLAG_FOO"]})


def test_the_search_is_shallow() -> None:
    """Four hundred scattered calls cost some ten comparisons each, not hundreds."""
    scattered = sorted(numbers("x86_64"), key=numbers("x86_64").get)[::2]  # type: ignore[arg-type] # every name has a number
    program = compile_filter(profile(allow(*scattered)), "x86_64")
    code = list(struct.iter_unpack("=HBBI", program))

    def depth(at: int) -> int:
        operation, true, false, constant = code[at]
        if operation == 0x06:
            return 1
        if operation == 0x05:
            return 1 + depth(at + 1 + constant)
        if operation == 0x20:
            return 1 + depth(at + 1)
        return 1 + max(depth(at + 1 + true), depth(at + 1 + false))

    assert depth(0) < 24


def test_every_architecture_has_a_table() -> None:
    """Landmarks of each ABI are where its headers have them."""
    expected = {"x86_64": 59, "i386": 11, "x32": X32_BIT + 520, "aarch64": 221, "arm": 11}
    assert {name: numbers(name)["execve"] for name in ARCHITECTURES} == expected
    with pytest.raises(ValueError, match="z80"):
        numbers("z80")
