"""Kernel parameters below /proc/sys (sysctl(8)).

Those of ``net`` are those of the calling thread's network namespace.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_sysctl", "write_sysctl"]

_ROOT = Path("/proc/sys")


def read_sysctl(name: str) -> str:
    """Return a parameter's value, named by its path: ``net/ipv4/ip_forward``."""
    return (_ROOT / name).read_text().strip()


def write_sysctl(name: str, value: str) -> bool:
    """Set a parameter, unless it has the value already; return whether it was written."""
    if read_sysctl(name) == value:
        return False
    (_ROOT / name).write_text(value)
    return True
