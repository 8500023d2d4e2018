"""How the kernel schedules a process: sched_setattr(2), ioprio_set(2), and personality(2)."""

from __future__ import annotations

import ctypes
import os
import struct

from pannier.linux.libc import check, libc, syscall

__all__ = [
    "IO_CLASSES",
    "PERSONALITIES",
    "POLICIES",
    "SCHEDULER_FLAGS",
    "set_io_priority",
    "set_personality",
    "set_scheduler",
]

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
"""The kernel's number of each policy, by its name in the OCI runtime specification."""

SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}

PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}

# struct sched_attr up to sched_period: its first published version.
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")
_IO_CLASS_SHIFT = 13
_WHO_PROCESS = 1

_personality = libc["personality"]
_personality.argtypes = [ctypes.c_ulong]


def set_scheduler(
    policy: int,
    *,
    nice: int = 0,
    priority: int = 0,
    flags: int = 0,
    runtime: int = 0,
    deadline: int = 0,
    period: int = 0,
) -> None:
    """Set this thread's policy; *runtime*, *deadline* and *period* are in nanoseconds."""
    size = _SCHED_ATTR.size
    attributes = _SCHED_ATTR.pack(size, policy, flags, nice, priority, runtime, deadline, period)
    syscall("sched_setattr", 0, attributes, 0)


def set_io_priority(kind: int, priority: int) -> None:
    """Set the class and, 0 (first) to 7, the priority of this thread's input and output."""
    syscall("ioprio_set", _WHO_PROCESS, 0, kind << _IO_CLASS_SHIFT | priority)


def set_personality(domain: int) -> None:
    """Set this process's execution domain, which its children inherit."""
    check(_personality(domain), os.fsencode(f"personality {domain:#x}"))
