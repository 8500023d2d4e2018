"""The host's links of networks that lead nowhere: internal ones, and those without a parent.

Such a network is on one end of a veth pair, of which the other end is up and does nothing: so it
has a carrier, without which no packet would pass between the links on it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from pannier.errors import DriverError
from pannier.linux import rtnl
from pannier.linux.netlink import ROUTE, NetlinkError, NetlinkSocket, is_errno

__all__ = ["delete_segment", "ensure_segment"]

_MTU: Final = 1500


def ensure_segment(name: str, netlink: NetlinkSocket) -> None:
    """Have a segment there and up. Idempotent; may happen on several threads at once.

    :raises DriverError: the kernel refused.
    """
    link = rtnl.find_link(netlink, name)
    if link is not None and link.up:  # the last thing that is done below
        return
    peer = f"dp-{name.removeprefix('dm-')}"
    try:
        if link is None:
            _create(name, peer, netlink)
        for end in (peer, name):
            # Else the host would have an address on the network.
            rtnl.disable_ipv6_address(netlink, end)
            found = rtnl.find_link(netlink, end)
            if found is not None:
                netlink.request([rtnl.set_up(found.index)])
    except NetlinkError as error:
        raise DriverError(
            f"could not make the link {name} of a private network: {error.strerror}",
            hint="run `pannier doctor`",
        ) from error


def _create(name: str, peer: str, netlink: NetlinkSocket) -> None:
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pair = rtnl.create_veth(
            name,
            peer,
            peer_netns=own,
            peer_mac=f"02:{os.urandom(5).hex(':')}",
            mtu=_MTU,
            master=0,
            group=0,
        )
        netlink.request([pair])
    except NetlinkError as error:
        if not is_errno(error, "EEXIST"):  # another thread was faster
            raise
    finally:
        os.close(own)


def delete_segment(name: str) -> None:
    """Delete a segment, and with it the links of containers on it. Idempotent."""
    with NetlinkSocket(ROUTE) as netlink, contextlib.suppress(NetlinkError):
        netlink.request([rtnl.delete_link(name)])
