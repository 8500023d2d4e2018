"""When neighbours can find an address."""

from __future__ import annotations

import time
from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path

import pytest

from pannier.linux import rtnl
from pannier.linux.neighbours import await_reachable
from pannier.linux.netlink import ROUTE, NetlinkSocket
from support.isolation import apart

ADDRESS = IPv6Address("2001:db8::12:3456")
GROUP = "ff0200000000000000000001ff123456"
"""Which those who look for the address ask (RFC 4291, 2.7.1)."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not Path("/proc/sys/net/ipv6").exists(), reason="this kernel has no IPv6 (modprobe ipv6)"
    ),
]


def test_it_waits_for_the_address() -> None:
    """Once it returns the kernel listens where neighbours ask."""

    def give_and_wait() -> bool:
        with NetlinkSocket(ROUTE) as netlink:
            netlink.request([rtnl.create_bridge("br0", "02:42:00:00:00:01", 1500)])
            bridge = rtnl.find_link(netlink, "br0")
            assert bridge is not None
            address = IPv6Interface((ADDRESS, 64))
            netlink.request([rtnl.add_address(bridge.index, address), rtnl.set_up(bridge.index)])
            await_reachable(ADDRESS)
        return GROUP in Path("/proc/thread-self/net/igmp6").read_text()

    assert apart(give_and_wait)


def test_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that the namespace does not have keeps nobody for long."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    apart(lambda: await_reachable(ADDRESS))
    assert pauses
