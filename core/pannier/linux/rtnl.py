"""Links, addresses and routes: the messages of rtnetlink(7), and what its dumps say.

The builders return messages, so that a caller sends several at once
(:meth:`~pannier.linux.netlink.NetlinkSocket.request`); the readers ask a socket.
"""

from __future__ import annotations

from pannier.linux.rtnl_addresses import (
    Address,
    Route,
    add_address,
    add_route,
    addresses,
    addresses6,
    answer_loopback6,
    delete_address,
    routes,
)
from pannier.linux.rtnl_links import (
    Link,
    create_bridge,
    create_veth,
    delete_group,
    delete_link,
    disable_ipv6_address,
    filter_bridged,
    find_link,
    links,
    set_alias,
    set_bridge_port,
    set_group,
    set_master,
    set_up,
)

__all__ = [
    "Address",
    "Link",
    "Route",
    "add_address",
    "add_route",
    "addresses",
    "addresses6",
    "answer_loopback6",
    "create_bridge",
    "create_veth",
    "delete_address",
    "delete_group",
    "delete_link",
    "disable_ipv6_address",
    "filter_bridged",
    "find_link",
    "links",
    "routes",
    "set_alias",
    "set_bridge_port",
    "set_group",
    "set_master",
    "set_up",
]
