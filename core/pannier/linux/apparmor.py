"""AppArmor: the profile that the next execve(2) puts this process under.

Imported by the small processes that become containers. Source: the kernel's
``Documentation/admin-guide/LSM/apparmor.rst``, and aa_change_onexec(2).
"""

from __future__ import annotations

import os

from pannier.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_XDEV, openat2

__all__ = ["confine", "is_enabled", "open_attribute"]

_ATTRIBUTES = (b"self/attr/apparmor/exec", b"self/attr/exec")
_ENABLED = "/sys/module/apparmor/parameters/enabled"


def is_enabled() -> bool:
    """Whether the kernel has AppArmor, and uses it."""
    try:
        with open(_ENABLED) as file:  # noqa: PTH123 - pathlib is not loaded everywhere
            return file.read().startswith("Y")
    except OSError:
        return False


def open_attribute(proc: int) -> int:
    """Open what :func:`confine` writes to; only the process that has opened it may.

    :param proc: a descriptor of a procfs that is surely one.
    :raises OSError: the kernel has no AppArmor.
    """
    resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV
    try:
        return openat2(proc, _ATTRIBUTES[0], os.O_WRONLY, resolve=resolve)
    except FileNotFoundError:  # where it is the only such module: before Linux 5.8
        return openat2(proc, _ATTRIBUTES[1], os.O_WRONLY, resolve=resolve)


def confine(attribute: int, profile: bytes) -> None:
    """Have the program of the next execve confined by a profile.

    :raises OSError: ENOENT where no such profile is loaded.
    """
    os.write(attribute, b"exec " + profile)
