"""Device filters of cgroup v2: eBPF programs, assembled and attached through bpf(2).

The kernel runs the program of a group, and of every group above it, when a process opens or makes
a device node; all must allow. Sources: bpf(2), ``uapi/linux/bpf.h`` (``bpf_cgroup_dev_ctx``),
``admin-guide/cgroup-v2.rst``, "Device controller".
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.linux.libc import syscall

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DeviceMatch", "assemble_device_program", "load_device_program", "set_device_program"]

_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_DETACH = 9
_PROG_GET_FD_BY_ID = 13
_PROG_QUERY = 16

_TYPE_CGROUP_DEVICE = 15  # BPF_PROG_TYPE_CGROUP_DEVICE
_ATTACH_DEVICE = 6  # BPF_CGROUP_DEVICE
_ALLOW_MULTI = 2  # BPF_F_ALLOW_MULTI
_MOST_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS

_LICENSE: Final = b"Apache-2.0\0"
_LOG_SIZE = 1 << 16

_TYPES: Final = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR
_ACCESS: Final = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_MKNOD, _READ, _WRITE
_ALL_ACCESS = 7

# Registers, and what the program keeps in them.
_R0_ANSWER, _R1_CONTEXT, _R2_TYPE, _R3_ACCESS, _R4_MAJOR, _R5_MINOR = range(6)

_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_MOVE_REGISTER = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
_AND = 0x57  # BPF_ALU64 | BPF_AND | BPF_K
_SHIFT_RIGHT = 0x77  # BPF_ALU64 | BPF_RSH | BPF_K
_IF_NOT_EQUAL = 0x55  # BPF_JMP | BPF_JNE | BPF_K
_IF_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_JUMP = 0x05  # BPF_JMP | BPF_JA
_EXIT = 0x95  # BPF_JMP | BPF_EXIT


@dataclass(frozen=True, slots=True)
class DeviceMatch:
    """A rule: which devices, which of the accesses ``rwm``, and what is answered.

    :param type: ``a`` (both), ``b`` or ``c``.
    :param major: None for any; likewise *minor*.
    """

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


def _instruction(
    operation: int, target: int = 0, source: int = 0, offset: int = 0, constant: int = 0
) -> bytes:
    first = (source << 4 | target) if sys.byteorder == "little" else (target << 4 | source)
    return struct.pack("=BBhi", operation, first, offset, constant)


def assemble_device_program(rules: Sequence[DeviceMatch]) -> bytes:
    """Return a program of which, for each single access, the last rule that matches decides.

    What no rule matches is allowed. A request for several accesses is allowed where each of them
    is; so a rule for reading and one for writing together allow both at once.

    :raises ValueError: a rule's type or access is unknown.
    """
    code = [
        # The first word of the context: the access in its high half, the type in the low one.
        _instruction(_LOAD_WORD, _R3_ACCESS, _R1_CONTEXT, 0),
        _instruction(_MOVE_REGISTER, _R2_TYPE, _R3_ACCESS),
        _instruction(_AND, _R2_TYPE, constant=0xFFFF),
        _instruction(_SHIFT_RIGHT, _R3_ACCESS, constant=16),
        _instruction(_LOAD_WORD, _R4_MAJOR, _R1_CONTEXT, 4),
        _instruction(_LOAD_WORD, _R5_MINOR, _R1_CONTEXT, 8),
    ]
    for rule in reversed(rules):
        body = _body(rule)
        tests = _tests(rule)
        for position, (register, value) in enumerate(tests):
            skip = len(tests) - position - 1 + len(body)
            code.append(_instruction(_IF_NOT_EQUAL, register, offset=skip, constant=value))
        code += body
        if not tests and set(rule.access) == set(_ACCESS):
            break  # decides everything; the verifier refuses code that is never reached
    else:
        code += _answer(1)
    return b"".join(code)


def _tests(rule: DeviceMatch) -> list[tuple[int, int]]:
    if rule.type != "a" and rule.type not in _TYPES:
        raise ValueError(f"unknown device type {rule.type!r}")
    found = [] if rule.type == "a" else [(_R2_TYPE, _TYPES[rule.type])]
    if rule.major is not None:
        found.append((_R4_MAJOR, rule.major))
    if rule.minor is not None:
        found.append((_R5_MINOR, rule.minor))
    return found


def _body(rule: DeviceMatch) -> list[bytes]:
    if not rule.access or set(rule.access) - set(_ACCESS):
        raise ValueError(f"unknown device access {rule.access!r}")
    bits = sum(_ACCESS[letter] for letter in set(rule.access))
    if bits == _ALL_ACCESS:
        return _answer(int(rule.allow))
    if rule.allow:
        # These accesses are settled; allowed if no other is asked for.
        return [
            _instruction(_AND, _R3_ACCESS, constant=_ALL_ACCESS & ~bits),
            _instruction(_IF_NOT_EQUAL, _R3_ACCESS, offset=2, constant=0),
            *_answer(1),
        ]
    return [
        _instruction(_IF_ANY_BIT, _R3_ACCESS, offset=1, constant=bits),
        _instruction(_JUMP, offset=2),
        *_answer(0),
    ]


def _answer(value: int) -> list[bytes]:
    return [_instruction(_MOVE, _R0_ANSWER, constant=value), _instruction(_EXIT)]


def load_device_program(program: bytes) -> int:
    """Have the kernel verify a program; return its descriptor. It is gone with the last user.

    :raises OSError: EPERM without CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN; EINVAL without
        support for device filters, or for a program that the verifier refuses (with its reason).
    """
    code = ctypes.create_string_buffer(program, len(program))
    license = ctypes.create_string_buffer(_LICENSE, len(_LICENSE))
    log = ctypes.create_string_buffer(_LOG_SIZE)
    count = len(program) // struct.calcsize("=BBhi")

    def attempt(level: int) -> int:
        attributes = struct.pack(
            "=IIQQIIQII16s",
            _TYPE_CGROUP_DEVICE,
            count,
            ctypes.addressof(code),
            ctypes.addressof(license),
            level,
            _LOG_SIZE if level else 0,
            ctypes.addressof(log) if level else 0,
            0,
            0,
            b"pannier_devices",
        )
        return syscall("bpf", _PROG_LOAD, attributes, len(attributes))

    try:
        return attempt(0)
    except OSError as error:
        try:
            return attempt(1)  # again, for the verifier's reason
        except OSError:
            reason = log.value.decode(errors="replace").strip().replace("\n", "; ")
            raise OSError(error.errno, f"{error.strerror} {reason}".rstrip()) from None


def set_device_program(group: int, program: int) -> None:
    """Make *program* the only device filter of a group; a moment long the old ones hold as well.

    :param group: a descriptor of the group's folder.
    :param program: from :func:`load_device_program`; the caller may close it afterwards.
    """
    old = [_open(number) for number in _attached(group)]
    try:
        _attach_call(_PROG_ATTACH, group, program, _ALLOW_MULTI)
        for descriptor in old:
            _attach_call(_PROG_DETACH, group, descriptor, 0)
    finally:
        for descriptor in old:
            os.close(descriptor)


def _attach_call(command: int, group: int, program: int, flags: int) -> None:
    attributes = struct.pack("=IIIII", group, program, _ATTACH_DEVICE, flags, 0)
    syscall("bpf", command, attributes, len(attributes))


def _attached(group: int) -> list[int]:
    numbers = ctypes.create_string_buffer(4 * _MOST_PROGRAMS)
    attributes = ctypes.create_string_buffer(
        struct.pack(
            "=IIIIQI4x", group, _ATTACH_DEVICE, 0, 0, ctypes.addressof(numbers), _MOST_PROGRAMS
        )
    )
    syscall("bpf", _PROG_QUERY, attributes, 32)
    (count,) = struct.unpack_from("=I", attributes.raw, 24)
    return list(struct.unpack_from(f"={count}I", numbers.raw))


def _open(number: int) -> int:
    attributes = struct.pack("=III", number, 0, 0)
    return syscall("bpf", _PROG_GET_FD_BY_ID, attributes, len(attributes))
