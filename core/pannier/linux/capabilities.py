"""Capabilities: capabilities(7), capget(2), capset(2) and the prctl(2) calls about them.

Imported by the small processes that become containers, where each import costs memory for every
container: hence nothing from typing or enum at run time.
"""

from __future__ import annotations

import ctypes
import os
import sys
from errno import EINVAL

from pannier.linux.libc import check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CAPABILITIES",
    "bounding",
    "drop_bounding",
    "last_cap",
    "permitted",
    "raise_ambient",
    "set_capabilities",
]

_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)

CAPABILITIES: dict[str, int] = {f"CAP_{name}": bit for bit, name in enumerate(_NAMES.split())}
"""Each capability's bit, in the order of the kernel's ``uapi/linux/capability.h``."""

_VERSION_3 = 0x20080522
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_HIGHEST_POSSIBLE = 63

# Indexing makes function objects of our own: other modules call prctl with other types.
_prctl = libc["prctl"]
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def last_cap() -> int:
    """Return the highest capability that this kernel knows. Asks the kernel; needs no /proc."""
    low, high = 0, _HIGHEST_POSSIBLE
    while low < high:
        middle = (low + high + 1) // 2
        # The kernel answers EINVAL for a capability that it does not know.
        if _prctl(_PR_CAPBSET_READ, middle, 0, 0, 0) < 0:
            high = middle - 1
        else:
            low = middle
    return low


def _bit(name: str) -> int:
    try:
        return CAPABILITIES[name]
    except KeyError:
        raise ValueError(f"unknown capability {name!r}") from None


def _mask(names: Iterable[str]) -> int:
    mask = 0
    for name in names:
        mask |= 1 << _bit(name)
    return mask


def _words(*masks: int) -> bytes:
    """Lay out the two ``__user_cap_data_struct``: first all low halves, then all high ones."""
    halves = [mask & 0xFFFFFFFF for mask in masks] + [mask >> 32 for mask in masks]
    return b"".join(half.to_bytes(4, sys.byteorder) for half in halves)


def _header() -> bytes:
    return _VERSION_3.to_bytes(4, sys.byteorder) + bytes(4)


def permitted() -> frozenset[str]:
    """Return the names of the capabilities in this thread's permitted set."""
    header, data = ctypes.create_string_buffer(_header(), 8), ctypes.create_string_buffer(24)
    check(libc.capget(header, data))
    # Three words a half: effective, permitted, inheritable.
    low, high = (int.from_bytes(data.raw[at : at + 4], sys.byteorder) for at in (4, 16))
    mask = low | high << 32
    return frozenset(name for name, bit in CAPABILITIES.items() if mask >> bit & 1)


def bounding() -> frozenset[str]:
    """Return the names of the capabilities in this thread's bounding set."""
    return frozenset(
        name for name, bit in CAPABILITIES.items() if _prctl(_PR_CAPBSET_READ, bit, 0, 0, 0) == 1
    )


def drop_bounding(keep: Iterable[str]) -> None:
    """Take from the bounding set everything that *keep* does not name.

    Also what the kernel knows and this table does not. Needs CAP_SETPCAP, unless there is nothing
    to drop.

    :raises ValueError: an unknown name.
    """
    kept = _mask(keep)
    for bit in range(_HIGHEST_POSSIBLE + 1):
        if kept >> bit & 1:
            continue
        result = _prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0)
        if result < 0:
            number = ctypes.get_errno()
            if number == EINVAL:  # behind the last one that this kernel knows
                return
            if _prctl(_PR_CAPBSET_READ, bit, 0, 0, 0) == 1:
                raise OSError(number, os.strerror(number))


def set_capabilities(
    effective: Iterable[str], permitted: Iterable[str], inheritable: Iterable[str]
) -> None:
    """Replace this thread's three sets: capset(2). A capability that was given up never returns.

    :raises ValueError: an unknown name.
    :raises PermissionError: a set would gain what the thread may not have.
    """
    data = _words(_mask(effective), _mask(permitted), _mask(inheritable))
    check(libc.capset(_header(), data))


def raise_ambient(caps: Iterable[str]) -> None:
    """Make *caps* the ambient set; each must be permitted and inheritable already.

    :raises ValueError: an unknown name.
    :raises PermissionError: one is not permitted or not inheritable.
    """
    bits = [_bit(name) for name in caps]
    check(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    for bit in bits:
        check(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, bit, 0, 0))
