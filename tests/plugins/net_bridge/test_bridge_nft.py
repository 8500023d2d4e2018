"""The firewall over nf_tables by itself: transactions of any size, and what the kernel refuses."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.network import NetworkSpec, Subnet
from pannier.errors import DriverError
from pannier.linux import nftables as nft
from pannier.linux import nftlist
from pannier.linux.netlink import NETFILTER, NetlinkSocket
from pannier_net_bridge.config import BridgeConfig
from pannier_net_bridge.firewall import Closed, Published
from pannier_net_bridge.networks import BridgeNetwork, resolve
from pannier_net_bridge.nft import NftFirewall

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

TABLE = "pannier"
OPEN = Closed(four=False, six=False)


def networks(count: int) -> list[BridgeNetwork]:
    """Return networks with IPv6 beside IPv4, each with subnets of its own."""
    found = []
    for number in range(count):
        subnets = (
            Subnet(f"10.{number >> 8}.{number & 255}.0/24"),
            Subnet(f"fd00:0:0:{number:x}::/64"),
        )
        spec = NetworkSpec(f"{number:012x}" * 5, f"net{number}", subnets=subnets, ipv6=True)
        found.append(resolve(spec, BridgeConfig()))
    return found


def ports(count: int) -> list[Published]:
    """Return as many published ports of one container."""
    address = IPv4Address("10.0.0.2")
    return [Published("tcp", IPv4Address(0), 10000 + n, address, 80) for n in range(count)]


def chains() -> int:
    """Return how many chains of networks our tables have."""
    with NetlinkSocket(NETFILTER) as netlink:
        return sum(
            len(nftlist.plain_chains(netlink, family, TABLE)) for family in (nft.IPV4, nft.IPV6)
        )


def redirected() -> int:
    """Return how many ports are redirected on every address."""
    with NetlinkSocket(NETFILTER) as netlink:
        return len(nftlist.elements(netlink, nft.IPV4, TABLE, "ports_any"))


@pytest.fixture
def firewall(host: Any) -> Iterator[NftFirewall]:
    """Open the firewall in the test's own host."""
    del host
    opened = NftFirewall(TABLE)
    yield opened
    opened.close()


def test_hundreds_of_networks_are_one_transaction(firewall: NftFirewall) -> None:
    """Their rules are larger than a socket's send buffer is by default; so is taking them away."""
    firewall.set_up(networks(300), closed=OPEN, loopback6=True)
    assert chains() == 300 * 3 * 2

    firewall.set_up(networks(1), closed=OPEN, loopback6=True)
    assert chains() == 3 * 2


def test_thousands_of_ports_are_one_transaction(firewall: NftFirewall) -> None:
    """Those of all containers are published together when the rules are mended."""
    firewall.set_up(networks(1), closed=OPEN, loopback6=True)

    firewall.synchronize(ports(10_000))
    assert redirected() == 10_000

    firewall.synchronize(ports(1))
    assert redirected() == 1


def test_what_is_too_large_to_be_sent_is_an_error_in_words(
    firewall: NftFirewall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the buffer cannot be enlarged it is no bare OSError, and nothing is half published."""
    firewall.set_up(networks(1), closed=OPEN, loopback6=True)
    # A buffer as small as the kernel makes it, which is not made larger.
    with NetlinkSocket(NETFILTER) as small:
        small._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        monkeypatch.setattr("pannier.linux.netlink._enlarge", lambda *_: None)
        monkeypatch.setattr(firewall, "_socket", small)
        with pytest.raises(DriverError, match="could not publish the running containers' ports"):
            firewall.synchronize(ports(1000))
        monkeypatch.undo()

    assert redirected() == 0
