"""The late removal of links, on a thread of its own.

Deleting a veth takes the kernel about 20 ms of waiting (RCU), during which no other link can be
made. So nobody waits for it, and many are deleted at once: one deletion of a group of links costs
as much as that of one. A link whose namespace has gone, or is about to, is left to the kernel for a
while, which then deletes it by itself.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Final

from pannier.linux import rtnl
from pannier.linux.namespaces import in_network_namespace
from pannier.linux.netlink import ROUTE, NetlinkError, NetlinkSocket

__all__ = ["LINK_GROUP", "OUR_GROUPS", "Reaper", "delete_inside", "delete_links"]

_log = logging.getLogger("pannier.network.bridge")

LINK_GROUP: Final = 0x70616E31
"""The link group that marks a veth as ours from the moment of its creation."""

_DOOMED_GROUP: Final = 0x70616E30
"""The link group that only links about to be deleted are in."""

OUR_GROUPS: Final = frozenset({LINK_GROUP, _DOOMED_GROUP})
"""Every veth of ours is in one of these; in the second where a kill has cut its deletion off."""

_PATIENCE: Final = 2.0
"""Seconds that the kernel is given to delete a link together with its namespace."""

_CLOSE_TIMEOUT: Final = 5.0


def delete_links(netlink: NetlinkSocket, names: list[str]) -> None:
    """Delete these links, all at once. One that has gone is no error."""
    there = []
    for name in names:
        with contextlib.suppress(NetlinkError):
            netlink.request([rtnl.set_group(name, _DOOMED_GROUP)])
            there.append(name)
    if there:
        with contextlib.suppress(NetlinkError):
            netlink.request([rtnl.delete_group(_DOOMED_GROUP)])


def delete_inside(netns: int, mac: str) -> None:
    """Delete a container's end of a veth whose name on the host was lost, and so the other one."""
    with in_network_namespace(netns), NetlinkSocket(ROUTE) as netlink:
        names = [link.name for link in rtnl.links(netlink) if link.mac == mac]
        with contextlib.suppress(NetlinkError):
            netlink.request([rtnl.delete_link(name) for name in names])


class Reaper:
    """Deletes links after a while, in the network namespace of whoever first asks."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._busy = False
        self._closing = False
        self._thread: threading.Thread | None = None

    def delete(self, name: str, *, leave_to_kernel: bool) -> None:
        """Have a link deleted; later, where its namespace is expected to take it along."""
        with self._changed:
            self._due[name] = time.monotonic() + (_PATIENCE if leave_to_kernel else 0)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="link-reaper", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all links that were handed over are deleted."""
        with self._changed:
            self._due = dict.fromkeys(self._due, 0.0)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._due and not self._busy, _CLOSE_TIMEOUT)

    def idle(self) -> bool:
        """Whether no link waits to be deleted."""
        with self._changed:
            return not self._due and not self._busy

    def close(self) -> None:
        """Delete what is left, and end."""
        self.flush()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(_CLOSE_TIMEOUT)

    def _run(self) -> None:
        while names := self._next():
            try:
                with NetlinkSocket(ROUTE) as netlink:
                    delete_links(netlink, names)
            except OSError:
                _log.exception("could not delete the links %s", ", ".join(names))
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> list[str]:
        """Wait for links that are due; none when the reaper is closed."""
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                names = [name for name, due in self._due.items() if due <= now]
                if names:
                    for name in names:
                        del self._due[name]
                    self._busy = True
                    return names
                pause = min(self._due.values()) - now if self._due else None
                self._changed.wait(pause)
        return []
