"""Watching what others do to the rules.

``nft flush ruleset``, ``ufw reload`` and their like also take away what is ours: the running
containers' ports, or our accept in a foreign chain. The kernel tells whoever listens that rules
were changed, so that it can be mended at once instead of with the next container.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from typing import TYPE_CHECKING, Final

from pannier.linux.netlink import NETFILTER, NetlinkSocket
from pannier.linux.nftlist import CHANGES_GROUP

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RuleWatch"]

_log = logging.getLogger("pannier.network.bridge")

_SETTLE: Final = 200
"""Milliseconds to wait after a change: reloads are many changes, and ours are changes too."""


class RuleWatch:
    """A thread that calls back after the rules were changed, by anyone.

    :param changed: called on the thread, not more often than every 200 ms.
    :raises OSError: the kernel has no nf_tables to listen to.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._netlink = NetlinkSocket(NETFILTER)
        try:
            self._netlink.join(CHANGES_GROUP)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        except BaseException:
            self._netlink.close()
            raise
        self._thread = threading.Thread(target=self._run, name="rule-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._netlink.close()
        os.close(self._wake)

    def _run(self) -> None:
        stopping, both = select.poll(), select.poll()
        stopping.register(self._wake, select.POLLIN)
        both.register(self._wake, select.POLLIN)
        both.register(self._netlink.fileno(), select.POLLIN)
        while True:
            both.poll()
            if stopping.poll(_SETTLE):
                return
            self._netlink.drain()
            try:
                self._changed()
            except Exception:  # noqa: BLE001 - the next change must still be met
                _log.exception("could not mend the bridges' rules")
