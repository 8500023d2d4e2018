"""Whether the driver can work here: by making a link where nobody sees it."""

from __future__ import annotations

from typing import Final

from pannier.errors import DriverUnavailable
from pannier.linux import rtnl
from pannier.linux.netlink import NetlinkError, NetlinkSocket, is_errno

from pannier_net_macvlan.links import create_macvlan, inside, scratch_namespace
from pannier_net_macvlan.options import Mode

__all__ = ["probe"]

_MAC: Final = "02:00:00:00:00:01"


def probe() -> None:
    """Make a link on one end of a veth pair, in a scratch namespace that takes both with it.

    :raises DriverUnavailable: it cannot be made.
    """
    try:
        with scratch_namespace() as netns, inside(netns) as netlink:
            _make(netlink, netns)
    except OSError as error:
        hint = "run as root, with CAP_NET_ADMIN and CAP_SYS_ADMIN"
        if is_errno(error, "EOPNOTSUPP", "ENODEV"):
            hint = "load the kernel's module macvlan: modprobe macvlan"
        raise DriverUnavailable(
            f"a macvlan link cannot be made here: {error.strerror}", hint=hint
        ) from error


def _make(netlink: NetlinkSocket, netns: int) -> None:
    veth = rtnl.create_veth(
        "parent", "peer", peer_netns=netns, peer_mac=_MAC, mtu=1500, master=0, group=0
    )
    netlink.request([veth])
    parent = rtnl.find_link(netlink, "parent")
    if parent is None:
        raise NetlinkError(19, "the link that was made is not there")
    link = create_macvlan("try", parent=parent.index, netns=netns, mode=Mode.BRIDGE)
    netlink.request([link])
