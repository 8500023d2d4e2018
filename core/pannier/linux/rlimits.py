"""Resource limits: setrlimit(2), by the names of the OCI runtime specification."""

from __future__ import annotations

import resource

__all__ = ["RLIMITS", "raise_rlimit", "set_rlimit"]

RLIMITS: dict[str, int] = {
    name: getattr(resource, name)
    for name in (
        "RLIMIT_AS",
        "RLIMIT_CORE",
        "RLIMIT_CPU",
        "RLIMIT_DATA",
        "RLIMIT_FSIZE",
        "RLIMIT_MEMLOCK",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_NOFILE",
        "RLIMIT_NPROC",
        "RLIMIT_RSS",
        "RLIMIT_RTPRIO",
        "RLIMIT_SIGPENDING",
        "RLIMIT_STACK",
    )
} | {"RLIMIT_LOCKS": 10, "RLIMIT_RTTIME": 15}  # the module has no names for these two
"""The kernel's number of each limit."""

_UNSIGNED = 1 << 64
_LARGEST_SIGNED = (1 << 63) - 1


def _unsigned(value: int) -> int:
    return value + _UNSIGNED if value < 0 else value


def _signed(value: int) -> int:
    # The module takes RLIM_INFINITY (all ones) as -1.
    return value - _UNSIGNED if value > _LARGEST_SIGNED else value


def raise_rlimit(name: str, soft: int, hard: int) -> None:
    """Raise a limit of this process to what is asked for, and lower nothing.

    :func:`set_rlimit` can do the rest later, for which nobody needs a capability.

    :raises PermissionError: as there.
    :raises ValueError: the soft limit is above the hard one.
    """
    own_soft, own_hard = map(_unsigned, resource.getrlimit(RLIMITS[name]))
    if _unsigned(soft) <= _unsigned(hard):
        soft, hard = max(_unsigned(soft), own_soft), max(_unsigned(hard), own_hard)
    set_rlimit(name, soft, hard)


def set_rlimit(name: str, soft: int, hard: int) -> None:
    """Set a limit of this process; all ones, or -1, for none.

    :raises PermissionError: the hard limit would rise, and CAP_SYS_RESOURCE is missing.
    :raises KeyError: an unknown name.
    """
    try:
        resource.setrlimit(RLIMITS[name], (_signed(soft), _signed(hard)))
    except ValueError as error:
        # The module turns both EPERM and a soft limit above the hard one into ValueError.
        if "not allowed" in str(error):
            raise PermissionError(1, f"{name} may not be raised to {hard}") from None
        raise
