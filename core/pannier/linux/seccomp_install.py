"""Putting a seccomp filter in place: seccomp(2).

Apart from the compiler, because a container's first process only installs what was compiled for it
and should not carry the compiler's memory.
"""

from __future__ import annotations

import ctypes
import sys

from pannier.linux.libc import syscall

__all__ = ["install"]

_SECCOMP_SET_MODE_FILTER = 1
_INSTRUCTION = 8


def install(program: bytes, flags: int = 0) -> None:
    """Confine this thread, and all it will create, by a compiled filter; for good.

    :param program: an array of ``struct sock_filter``, from
        :func:`pannier.linux.seccomp.compile_filter`.
    :param flags: of seccomp(2), from :func:`pannier.linux.seccomp.filter_flags`.
    :raises OSError: EACCES without no_new_privs and without CAP_SYS_ADMIN; EINVAL for a flag that
        the kernel does not know or a malformed program.
    """
    if not program or len(program) % _INSTRUCTION:
        raise ValueError(f"not a filter program: {len(program)} bytes")
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a 16-bit count, padding up to the pointer's alignment, the pointer.
    width = ctypes.sizeof(ctypes.c_void_p)
    head = (len(program) // _INSTRUCTION).to_bytes(2, sys.byteorder).ljust(width, b"\0")
    pointer = ctypes.addressof(code).to_bytes(width, sys.byteorder)
    syscall("seccomp", _SECCOMP_SET_MODE_FILTER, flags, head + pointer)
