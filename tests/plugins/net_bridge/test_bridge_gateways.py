"""How the host stands to a network: gateway modes, and a bridge without an address."""

from __future__ import annotations

import secrets
import shutil
import socket
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.network import NetworkSpec, PortRequest, Subnet
from pannier.linux.namespaces import in_network_namespace

if TYPE_CHECKING:
    from pannier_net_bridge.driver import BridgeDriver

pytestmark = pytest.mark.root

BRIDGE = "com.docker.network.bridge."
HOST = "198.51.100.1"
INSIDE = "10.61.0.0/24"


@pytest.fixture(params=["nftables", "iptables"])
def driver(request: pytest.FixtureRequest, host: Any) -> BridgeDriver:
    """Open the driver with each firewall."""
    if request.param == "iptables" and shutil.which("iptables") is None:
        pytest.skip("iptables is not here: apt-get install iptables")
    opened: BridgeDriver = host.open(firewall=request.param)
    return opened


def made(
    driver: BridgeDriver, subnet: str, *, internal: bool = False, **options: str
) -> NetworkSpec:
    """Create a network with options of the bridge's."""
    wish = NetworkSpec(
        secrets.token_hex(32),
        "lan",
        internal=internal,
        subnets=(Subnet(subnet),),
        options={f"{BRIDGE}{name}": value for name, value in options.items()},
    )
    return driver.create_network(wish)


def test_everything_from_outside_is_let_in(host: Any, driver: BridgeDriver) -> None:
    """With ``nat-unprotected``: from beyond the host, to every port; not from other networks.

    All else stays: it leaves under the host's address, and its published ports answer there.
    """
    lan = made(driver, INSIDE, gateway_mode_ipv4="nat-unprotected")
    plain = made(driver, "10.62.0.0/24", gateway_mode_ipv4="nat")
    port = PortRequest(80, host_ports=(8080, 8080))
    web, shut = host.attach(driver, lan, ports=(port,)), host.attach(driver, plain)
    servers = [host.listen(web.netns, number) for number in (80, 81)]
    host.listen(shut.netns, 81)
    with in_network_namespace(host.outside):
        host.run("ip", "route", "add", "10.60.0.0/14", "via", HOST)

    assert host.talk(servers[1], host.outside, web.address, 81)
    assert host.talk(servers[0], host.outside, HOST, 8080)
    assert host.misses(host.outside, shut.address, 81)
    assert host.misses(shut.netns, web.address, 81)
    server = host.listen(host.outside, 90)
    assert host.talk(server, web.netns, "198.51.100.2", 90) == HOST


def test_neighbours_are_kept_apart_all_the_same(host: Any, driver: BridgeDriver) -> None:
    """Also where the network lets the outside in, ``enable_icc=false`` holds."""
    lan = made(driver, INSIDE, gateway_mode_ipv4="nat-unprotected", enable_icc="false")
    one, other = host.attach(driver, lan), host.attach(driver, lan)
    server = host.listen(one.netns, 80)
    with in_network_namespace(host.outside):
        host.run("ip", "route", "add", INSIDE, "via", HOST)
    assert host.misses(other.netns, one.address, 80)
    assert host.talk(server, host.outside, one.address, 80)


def test_an_isolated_network(host: Any, driver: BridgeDriver) -> None:
    """The host has no address in it, and its containers reach one another alone."""
    lan = made(driver, INSIDE, internal=True, gateway_mode_ipv4="isolated")
    assert lan.subnets == (Subnet(INSIDE),)
    one, other = host.attach(driver, lan), host.attach(driver, lan)
    assert (one.address, other.address) == ("10.61.0.1", "10.61.0.2")
    assert one.attachment.endpoint.gateway == ""
    assert INSIDE.removesuffix("0/24") not in host.run("ip", "address")
    server = host.listen(one.netns, 80)
    assert host.talk(server, other.netns, one.address, 80) == other.address
    assert host.misses(None, one.address, 80)
    host.listen(None, 90)
    assert host.misses(one.netns, HOST, 90)

    again = host.open()
    assert again.create_network(lan) == lan
    assert INSIDE.removesuffix("0/24") not in host.run("ip", "address")


def test_a_bridge_without_an_address(host: Any, driver: BridgeDriver) -> None:
    """``inhibit_ipv4`` leaves the gateway's address to whoever else is to have it."""
    lan = made(driver, INSIDE, inhibit_ipv4="true")
    one = host.attach(driver, lan)
    assert (one.address, one.attachment.endpoint.gateway) == ("10.61.0.2", "10.61.0.1")
    assert INSIDE.removesuffix("0/24") not in host.run("ip", "address")
    bridge = f"br-{lan.id[:12]}"
    host.run("ip", "address", "add", "10.61.0.1/24", "dev", bridge)
    assert host.ping(one.netns, "10.61.0.1")
    host.open().create_network(lan)
    assert host.ping(one.netns, "10.61.0.1"), "what somebody has put there stays"


def test_each_version_has_its_mode(host: Any, driver: BridgeDriver) -> None:
    """By IPv6 everything is let in, by IPv4 what is published; and the other way round."""
    host.run("ip", "address", "add", "2001:db8:1::1/64", "dev", "wan0", "nodad")
    with in_network_namespace(host.outside):
        host.run("ip", "address", "add", "2001:db8:1::2/64", "dev", "eth0", "nodad")
        host.run("ip", "route", "add", "10.60.0.0/14", "via", HOST)
        host.run("ip", "route", "add", "fd00:60::/28", "via", "2001:db8:1::1")
    for number, open_version in enumerate((4, 6)):
        wish = NetworkSpec(
            secrets.token_hex(32),
            f"lan{number}",
            ipv6=True,
            subnets=(Subnet(f"10.6{number}.0.0/24"), Subnet(f"fd00:6{number}::/64")),
            options={f"{BRIDGE}gateway_mode_ipv{open_version}": "nat-unprotected"},
        )
        web = host.attach(driver, driver.create_network(wish))
        server = host.listen(web.netns, 80)
        assert host.misses(host.outside, web.address, 80) == (open_version == 6)
        server.close()
        with in_network_namespace(web.netns):
            host.sockets.enter_context(socket.create_server(("::", 80), family=socket.AF_INET6))
        address6 = web.attachment.endpoint.address6
        assert reaches6(host, address6) == (open_version == 6)


def reaches6(host: Any, address: str) -> bool:
    """Whether the outside can connect to port 80 of an address."""
    with in_network_namespace(host.outside):
        client = socket.socket(socket.AF_INET6)
    with client:
        client.settimeout(0.6)
        return client.connect_ex((address, 80)) == 0
