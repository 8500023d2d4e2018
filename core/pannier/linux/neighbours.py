"""When neighbours can find an address (RFC 4861)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipaddress import IPv6Address

__all__ = ["await_reachable"]

_GROUPS: Final = Path("/proc/thread-self/net/igmp6")
_PATIENCE: Final = 0.2
_PAUSE: Final = 0.0005


def await_reachable(address: IPv6Address) -> None:
    """Return once neighbours can find an address that the thread's namespace was just given.

    They ask a group made from its last three bytes, which the kernel joins a while later (0.1 to
    6 ms were seen) and tells nobody. Who asks before that asks again only after a second. After a
    fifth of a second it returns in any case.
    """
    group = f"ff0200000000000000000001ff{address.packed[-3:].hex()}"
    deadline = time.monotonic() + _PATIENCE
    while group not in _GROUPS.read_text() and time.monotonic() < deadline:
        time.sleep(_PAUSE)
