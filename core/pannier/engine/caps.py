"""Which capabilities a container gets: capabilities(7), by Docker's rules."""

from __future__ import annotations

import functools

from pannier.engine.validate import capability_names
from pannier.errors import InvalidRequest
from pannier.linux.capabilities import CAPABILITIES, bounding, permitted

__all__ = ["DEFAULT", "available", "choose"]

DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""What a container has where nothing is said."""


@functools.cache
def available() -> tuple[str, ...]:
    """Return what this process itself has and may hand on, in the kernel's order.

    Kept for the life of the process: an engine does not change its own capabilities.
    """
    held = permitted() & bounding()
    return tuple(name for name in CAPABILITIES if name in held)


@functools.lru_cache(maxsize=256)
def choose(add: tuple[str, ...], drop: tuple[str, ...], *, privileged: bool) -> tuple[str, ...]:
    """Return a container's capabilities.

    ``ALL`` among *add* means all that the engine has; among *drop* it leaves only those added.

    :raises InvalidRequest: one is not known, or one was asked for that the engine has not.
    """
    held = available()
    if privileged:
        return held
    added = capability_names(add, "CapAdd")
    dropped = set(capability_names(drop, "CapDrop"))
    missing = [name for name in added if name != "ALL" and name not in held]
    if missing:
        raise InvalidRequest(
            f"invalid CapAdd: the engine itself does not have {', '.join(missing)}",
            hint="give the capability to the daemon, or leave --cap-add out",
        )
    if "ALL" in added:
        return tuple(name for name in held if name not in dropped)
    if "ALL" in dropped:
        return tuple(dict.fromkeys(added))
    kept = [name for name in DEFAULT if name in held and name not in dropped]
    return tuple(dict.fromkeys((*kept, *added)))
