"""Sealed copies of files: memfd_create(2), fcntl(2)'s seals."""

from __future__ import annotations

import fcntl
import os
from errno import EINVAL

__all__ = ["sealed_copy"]

_MFD_EXEC = 0x10
_F_ADD_SEALS = 1033
_ALL_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # SEAL, SHRINK, GROW, WRITE


def sealed_copy(path: str, name: str) -> int:
    """Return a descriptor of an executable copy of a file in memory that nobody can change.

    :raises OSError: EACCES where ``vm.memfd_noexec`` forbids executable ones.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        # Linux 6.3 and later wants to be told; earlier ones do not know the flag.
        copy = os.memfd_create(name, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != EINVAL:
            raise
        copy = os.memfd_create(name, flags)
    try:
        with open(path, "rb", buffering=0) as source:  # noqa: PTH123 - a plain path
            while os.sendfile(copy, source.fileno(), None, 1 << 30):
                pass
        fcntl.fcntl(copy, _F_ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(copy)
        raise
    return copy
