"""Ports of networks with IPv6: published on the host's IPv6 addresses too, with either firewall."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.network import NetworkSpec, PortBinding, PortRequest, Subnet
from pannier.errors import Conflict, InvalidRequest, UnsupportedOperation
from pannier.linux.namespaces import in_network_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier_net_bridge.driver import BridgeDriver

pytestmark = pytest.mark.root

HOST = "2001:db8:1::1"
OUTSIDE = "2001:db8:1::2"
SUBNET = "fd00:9::/64"
BRIDGE = "fd00:9::1"
PATIENCE = 10.0
_BRIDGED = "net/bridge/bridge-nf-call-ip6tables"


@pytest.fixture(params=["nftables", "iptables"])
def driver(host: Any, request: pytest.FixtureRequest) -> BridgeDriver:
    """Open the driver with one of its firewalls, on a host with IPv6."""
    if request.param == "iptables" and shutil.which("ip6tables") is None:
        pytest.skip("ip6tables is not here: apt-get install iptables")
    with contextlib.suppress(OSError), open(f"/proc/sys/{_BRIDGED}", "w") as file:  # noqa: PTH123
        file.write("0")
    host.run("ip", "address", "add", f"{HOST}/64", "dev", "wan0", "nodad")
    with in_network_namespace(host.outside):
        host.run("ip", "address", "add", f"{OUTSIDE}/64", "dev", "eth0", "nodad")
    opened: BridgeDriver = host.open(firewall=request.param)
    return opened


@pytest.fixture
def network(driver: BridgeDriver) -> NetworkSpec:
    """Create a network with IPv6."""
    return driver.create_network(NetworkSpec("a" * 64, "lan", ipv6=True, subnets=(Subnet(SUBNET),)))


def web(**options: Any) -> PortRequest:
    """Publish port 80 on 8080."""
    return PortRequest(80, **{"host_ports": (8080, 8080), **options})


@contextlib.contextmanager
def somewhere(netns: int | None) -> Iterator[None]:
    """Have the thread in a namespace; None is the host."""
    with contextlib.ExitStack() as stack:
        if netns is not None:
            stack.enter_context(in_network_namespace(netns))
        yield


def serve(host: Any, netns: int | None, port: int = 80) -> socket.socket:
    """Open a TCP server on every IPv6 address."""
    with somewhere(netns):
        server = socket.create_server(("::", port), family=socket.AF_INET6)
    server.settimeout(PATIENCE)
    kept: socket.socket = host.sockets.enter_context(server)
    return kept


def talk(server: socket.socket, netns: int | None, address: str, port: int = 8080) -> str:
    """Connect; return the client's address as the server sees it."""
    with somewhere(netns), socket.create_connection((address, port), PATIENCE) as client:
        connection, peer = server.accept()
        with connection:
            connection.sendall(b"hello")
            assert client.recv(10) == b"hello"
    return str(peer[0])


def test_every_address_means_those_of_ipv6_too(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """The outside, the host and its loopback, the container itself and its neighbours."""
    container = host.attach(driver, network, ports=(web(),))
    neighbour = host.attach(driver, network)
    assert container.attachment.endpoint.ports == (
        PortBinding(80, "tcp", "0.0.0.0", 8080),
        PortBinding(80, "tcp", "::", 8080),
    )
    server = serve(host, container.netns)
    assert talk(server, host.outside, HOST) == OUTSIDE
    for address in (HOST, "::1", BRIDGE):
        assert talk(server, None, address)
    for netns in (container.netns, neighbour.netns):
        for address in (HOST, BRIDGE):
            assert talk(server, netns, address)
    four = host.listen(container.netns, 81)
    with_four = host.attach(driver, network, ports=(web(host_ports=(8181, 8181)),))
    del four
    assert host.talk(host.listen(with_four.netns, 80), host.outside, "198.51.100.1", 8181)


@pytest.mark.parametrize("address", ["::1", HOST])
def test_an_address_limits_who_is_answered(
    host: Any, driver: BridgeDriver, network: NetworkSpec, address: str
) -> None:
    """One port on one IPv6 address, and on no IPv4 address."""
    container = host.attach(driver, network, ports=(web(host_ip=address),))
    assert container.attachment.endpoint.ports == (PortBinding(80, "tcp", address, 8080),)
    server = serve(host, container.netns)
    assert talk(server, None, address)
    for other in {"::1", HOST, BRIDGE} - {address}:
        with pytest.raises(ConnectionRefusedError), socket.create_connection((other, 8080), 5):
            pass
    assert host.misses(None, "127.0.0.1", 8080)


def test_ipv4_alone_is_published_on_ipv4_alone(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """0.0.0.0 does not mean ::, and the other may have that."""
    four = host.attach(driver, network, ports=(web(host_ip="0.0.0.0"),))
    six = host.attach(driver, network, ports=(web(host_ip="::"),))
    assert [port.host_ip for port in four.attachment.endpoint.ports] == ["0.0.0.0"]
    assert [port.host_ip for port in six.attachment.endpoint.ports] == ["::"]
    assert talk(serve(host, six.netns), None, HOST)
    assert host.talk(host.listen(four.netns, 80), None, "127.0.0.1", 8080)


def test_loopback_is_refused_where_it_cannot_be_redirected(host: Any, driver: BridgeDriver) -> None:
    """With the kernel's bridge netfilter: at once, so that a client goes on to 127.0.0.1."""
    host.set_sysctl(_BRIDGED, "1")
    network = driver.create_network(
        NetworkSpec("a" * 64, "lan", ipv6=True, subnets=(Subnet(SUBNET),))
    )
    container = host.attach(driver, network, ports=(web(), web(protocol="udp")))
    neighbour = host.attach(driver, network)
    server = serve(host, container.netns)
    assert talk(server, host.outside, HOST) == OUTSIDE
    assert talk(server, container.netns, HOST)
    assert talk(server, neighbour.netns, HOST)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("::1", 8080), 5):
        pass
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(60)
        client.connect(("::1", 8080))
        with pytest.raises(PermissionError):  # so the kernel says it to the sender itself
            client.send(b"question")
    with pytest.raises(UnsupportedOperation, match=r"::1 while the kernel"):
        host.attach(driver, network, ports=(web(host_ip="::1", host_ports=(8081, 8081)),))


def test_datagrams_come_and_go(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """Also those of a client that began before the port's owner changed."""
    ports = (PortRequest(53, "udp", host_ports=(5353, 5353)),)

    def answering(container: Any) -> socket.socket:
        with in_network_namespace(container.netns):
            server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        server.settimeout(PATIENCE)
        server.bind(("::", 53))
        kept: socket.socket = host.sockets.enter_context(server)
        return kept

    with in_network_namespace(host.outside):
        client = host.sockets.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    client.settimeout(PATIENCE)
    first = host.attach(driver, network, ports=ports)
    server = answering(first)
    client.sendto(b"1", (HOST, 5353))
    question, peer = server.recvfrom(10)
    server.sendto(question * 2, peer)
    answer, sender = client.recvfrom(10)
    assert (answer, sender[:2]) == (b"11", (HOST, 5353))
    driver.detach(first.request, first.netns)
    first.close()
    second = host.attach(driver, network, ports=ports)
    server = answering(second)
    client.sendto(b"2", (HOST, 5353))
    assert server.recv(10) == b"2"


def test_a_published_port_is_reserved(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Neither a process of the host nor another container can take it on IPv6 alone."""
    container = host.attach(driver, network, ports=(web(),))
    assert len(container.attachment.descriptors) == 2
    with socket.socket(socket.AF_INET6) as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno says it
            thief.bind(("::", 8080))
        assert caught.value.errno == errno.EADDRINUSE
    for address in ("::", "::1", HOST):
        with pytest.raises(Conflict, match=r"Bind for \[.*\]:8080 failed: port is already"):
            host.attach(driver, network, ports=(web(host_ip=address),))


def test_a_port_in_use_on_one_of_both_is_passed_over(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Of a range the first that is free on all addresses; a single one is a conflict."""
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", 8080))
        other.listen()
        with pytest.raises(Conflict, match=r"Bind for \[::\]:8080 failed: address already in use"):
            host.attach(driver, network, ports=(web(),))
        given = host.attach(driver, network, ports=(web(host_ports=(8080, 8082)),))
        assert {port.host_port for port in given.attachment.endpoint.ports} == {8081}
    # What was reserved on IPv4 in vain is free.
    assert host.attach(driver, network, ports=(web(),)).attachment.endpoint.ports
    free = host.attach(driver, network, ports=(PortRequest(80),)).attachment.endpoint.ports
    assert len(free) == 2
    assert len({port.host_port for port in free}) == 1


def test_nothing_is_left(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """A port that is withdrawn is refused; with the network the rules and the route go."""
    container = host.attach(driver, network, ports=(web(),))
    stays = host.attach(driver, network, ports=(web(host_ports=(8081, 8081)),))
    serve(host, container.netns)
    server = serve(host, stays.netns)
    driver.detach(container.request, container.netns)
    container.close()
    with pytest.raises(ConnectionRefusedError), socket.create_connection((HOST, 8080), 5):
        pass
    assert talk(server, host.outside, HOST, 8081) == OUTSIDE
    driver.detach(stays.request, stays.netns)
    driver.remove_network(network)
    left = host.ruleset()
    assert "table ip6 pannier" not in left
    assert "PANNIER" not in left
    assert host.run("ip", "-6", "route", "show", "table", "local", "::1").splitlines() == [
        "local ::1 dev lo proto kernel metric 0 pref medium"
    ]


def test_a_restart_publishes_again(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """What others flushed comes back; what nobody has is not published."""
    kept = host.attach(driver, network, ports=(web(),))
    gone = host.attach(driver, network, ports=(web(host_ports=(8081, 8081)),))
    server = serve(host, kept.netns)
    serve(host, gone.netns)
    host.run("nft", "flush", "ruleset")
    again = host.open()
    again.create_network(network)
    again.reconcile([(kept.request, kept.attachment.endpoint)])
    assert talk(server, host.outside, HOST) == OUTSIDE
    for descriptor in gone.attachment.descriptors:
        os.close(descriptor)
    gone.attachment = None
    with pytest.raises(ConnectionRefusedError), socket.create_connection((HOST, 8081), 5):
        pass


def test_networks_without_ipv6_refuse_it(host: Any, driver: BridgeDriver) -> None:
    """Nothing could take what comes; the message says what to do."""
    plain = driver.create_network(NetworkSpec("b" * 64, "plain"))
    with pytest.raises(UnsupportedOperation, match=r"the network plain has no IPv6"):
        host.attach(driver, plain, ports=(web(host_ip="::"),))
    container = host.attach(driver, plain, ports=(web(),))
    assert [port.host_ip for port in container.attachment.endpoint.ports] == ["0.0.0.0"]
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("::1", 8080), 5):
        pass


def test_an_address_of_another_host(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """It cannot be bound, as with IPv4."""
    with pytest.raises(InvalidRequest, match="cannot assign requested address"):
        host.attach(driver, network, ports=(web(host_ip="2001:db8:9::9"),))


def test_a_flush_of_the_rules_for_ipv6_is_mended(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Also of those alone; at once with nf_tables, and with the next container in any case."""
    container = host.attach(driver, network, ports=(web(),))
    server = serve(host, container.netns)
    for table in ("filter", "nat", "pannier"):
        with contextlib.suppress(subprocess.CalledProcessError):
            host.run("nft", "delete", "table", "ip6", table)
    host.attach(driver, network)
    assert talk(server, host.outside, HOST) == OUTSIDE
