"""The command line and environment that others see of this process: /proc/PID/cmdline and environ.

Imported by the small processes that become containers: hence nothing from typing at run time.
"""

from __future__ import annotations

import ctypes
import os
import struct

from pannier.linux.libc import check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["set_title"]

_PR_SET_MM = 35
_PR_SET_MM_MAP = 14
_UNCHANGED = 0xFFFFFFFF
# struct prctl_mm_map: eleven addresses, the auxiliary vector and its size, a descriptor.
_MAP = struct.Struct("=11Q QII")
# Where proc(5) has them in /proc/PID/stat, counted from the state, which follows the name.
_STARTCODE, _ENDCODE, _STARTSTACK, _START_DATA = 23, 24, 25, 42

# Indexing makes a function object of our own: other modules call prctl with other types.
_prctl = libc["prctl"]
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
libc.sbrk.restype = ctypes.c_void_p
libc.sbrk.argtypes = [ctypes.c_ssize_t]

_kept: list[ctypes.Array[ctypes.c_char]] = []
"""What the kernel reads the command line from, for as long as the process lives."""


def set_title(args: Sequence[bytes], env: Sequence[bytes]) -> None:
    """Show another command line and environment: prctl(2), PR_SET_MM_MAP.

    A kernel without it (CONFIG_CHECKPOINT_RESTORE) has the command line written in the place of
    the old one, as much of it as fits there, and no environment.

    :raises OSError: /proc is not there.
    """
    # No file object, whose encoding would be loaded from a folder that a container does not have.
    descriptor = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
    fields = [int(word) if word.isdigit() else 0 for word in text.rpartition(b")")[2].split()]
    words = b"".join(word + b"\0" for word in args)
    try:
        _map(fields, words, b"".join(word + b"\0" for word in env))
    except OSError:
        _overwrite(fields, words)


def _map(fields: list[int], words: bytes, env: bytes) -> None:
    buffer = ctypes.create_string_buffer(words + env)
    begin = ctypes.addressof(buffer)
    middle, end = begin + len(words), begin + len(words) + len(env)
    start_data, end_data, start_brk = fields[_START_DATA : _START_DATA + 3]
    packed = _MAP.pack(
        *(fields[_STARTCODE], fields[_ENDCODE], start_data, end_data),
        *(start_brk, libc.sbrk(0) or 0, fields[_STARTSTACK]),
        *(begin, middle, middle, end),
        *(0, 0, _UNCHANGED),
    )
    new = ctypes.create_string_buffer(packed, len(packed))
    check(_prctl(_PR_SET_MM, _PR_SET_MM_MAP, ctypes.addressof(new), len(packed), 0))
    _kept.append(buffer)


def _overwrite(fields: list[int], words: bytes) -> None:
    begin, end, env_begin, env_end = fields[_START_DATA + 3 : _START_DATA + 7]
    if not begin:
        return
    ctypes.memset(begin, 0, end - begin)
    # The last byte stays 0: else the kernel goes on to read in the environment.
    ctypes.memmove(begin, words[: end - begin - 1], min(len(words), end - begin - 1))
    ctypes.memset(env_begin, 0, env_end - env_begin)
