"""Published ports: who they answer, and that they are really reserved."""

from __future__ import annotations

import errno
import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.network import NetworkSpec, PortBinding, PortRequest
from pannier.drivers.operations import Transaction
from pannier.errors import Conflict, InvalidRequest, UnsupportedOperation
from pannier.linux.namespaces import in_network_namespace

if TYPE_CHECKING:
    from pannier_net_bridge.driver import BridgeDriver

pytestmark = pytest.mark.root

HOST = "198.51.100.1"


def web(**options: Any) -> PortRequest:
    """Publish port 80 on 8080."""
    return PortRequest(80, **{"host_ports": (8080, 8080), **options})


def test_answers_the_outside_with_its_real_address(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A client elsewhere reaches the container, which sees the client's own address."""
    container = host.attach(driver, network, ports=(web(),))
    server = host.listen(container.netns, 80)

    assert host.talk(server, host.outside, HOST, 8080) == "198.51.100.2"


@pytest.mark.parametrize("address", [HOST, "127.0.0.1", "127.0.0.53", "172.17.0.1"])
def test_answers_the_host_itself(
    host: Any, driver: BridgeDriver, network: NetworkSpec, address: str
) -> None:
    """The host's processes reach it by every address of the host, loopback included."""
    container = host.attach(driver, network, ports=(web(),))
    server = host.listen(container.netns, 80)

    assert host.talk(server, None, address, 8080)


def test_answers_the_container_itself_and_its_neighbours(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Hairpin: a container reaches its own published port, and so does one beside it."""
    container = host.attach(driver, network, ports=(web(),))
    neighbour = host.attach(driver, network)
    server = host.listen(container.netns, 80)

    for address in (HOST, "172.17.0.1"):
        assert host.talk(server, container.netns, address, 8080) == "172.17.0.1"
        assert host.talk(server, neighbour.netns, address, 8080) == "172.17.0.1"


@pytest.mark.parametrize("bridged", ["0", "1"])
def test_hairpin_with_and_without_bridge_netfilter(
    host: Any, driver: BridgeDriver, network: NetworkSpec, bridged: str
) -> None:
    """It makes no difference whether bridged packets pass the host's rules."""
    container = host.attach(driver, network, ports=(web(),))
    neighbour = host.attach(driver, network)
    server = host.listen(container.netns, 80)
    host.set_sysctl("net/bridge/bridge-nf-call-iptables", bridged)

    assert host.talk(server, container.netns, HOST, 8080)
    assert host.talk(server, neighbour.netns, HOST, 8080)
    assert host.talk(server, neighbour.netns, container.address, 80) == neighbour.address


def test_answers_containers_of_other_networks(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Networks are isolated, but what is published is published to them too."""
    other = driver.create_network(NetworkSpec("f" * 64, "other"))
    container = host.attach(driver, network, ports=(web(),))
    stranger = host.attach(driver, other)
    server = host.listen(container.netns, 80)

    assert host.talk(server, stranger.netns, HOST, 8080)


def test_udp(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """Datagrams come in from outside and from the host, and the answers find back."""
    container = host.attach(
        driver, network, ports=(PortRequest(53, "udp", host_ports=(5353, 5353)),)
    )
    server = host.datagram(container.netns, 53)
    for netns, address in ((host.outside, HOST), (None, HOST), (None, "127.0.0.1")):
        client = host.datagram(netns)
        client.sendto(b"question", (address, 5353))
        question, peer = server.recvfrom(100)
        server.sendto(question[::-1], peer)
        answer, sender = client.recvfrom(100)
        assert (answer, sender) == (b"noitseuq", (address, 5353))


def test_udp_flows_follow_their_port(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """A client that keeps sending reaches the port's next owner, not the last one's address."""
    ports = (PortRequest(53, "udp", host_ports=(5353, 5353)),)
    client = host.datagram(host.outside)
    first = host.attach(driver, network, ports=ports)
    server = host.datagram(first.netns, 53)
    client.sendto(b"1", (HOST, 5353))
    assert server.recv(10) == b"1"
    driver.detach(first.request, first.netns)
    first.close()

    second = host.attach(driver, network, ports=ports)
    server = host.datagram(second.netns, 53)
    client.sendto(b"2", (HOST, 5353))

    assert server.recv(10) == b"2"


def test_udp_flows_from_before_the_publishing(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A client that was sending to the closed port reaches the container that comes."""
    client = host.datagram(host.outside)
    client.sendto(b"0", (HOST, 5353))

    container = host.attach(
        driver, network, ports=(PortRequest(53, "udp", host_ports=(5353, 5353)),)
    )
    server = host.datagram(container.netns, 53)
    client.sendto(b"1", (HOST, 5353))

    assert server.recv(10) == b"1"


def test_a_host_address_limits_who_is_answered(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A port on 127.0.0.1 is the host's alone; one on an address answers on that one only."""
    local = host.attach(driver, network, ports=(web(host_ip="127.0.0.1"),))
    server = host.listen(local.netns, 80)
    assert local.attachment.endpoint.ports == (PortBinding(80, "tcp", "127.0.0.1", 8080),)
    assert host.talk(server, None, "127.0.0.1", 8080)
    assert host.misses(host.outside, HOST, 8080)

    wide = host.attach(driver, network, ports=(web(host_ip=HOST),))
    assert host.talk(host.listen(wide.netns, 80), host.outside, HOST, 8080)
    assert host.talk(server, None, "127.0.0.1", 8080)


def test_loopback_ports_are_not_reached_by_a_forged_destination(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A neighbour or a container that sends packets for 127.0.0.1 to the host gets no answer."""
    container = host.attach(driver, network, ports=(web(host_ip="127.0.0.1"),))
    attacker = host.attach(driver, network)
    host.listen(container.netns, 80)
    host.set_sysctl("net/ipv4/conf/wan0/route_localnet", "1")
    for netns, link, via in (
        (host.outside, "eth0", HOST),
        (attacker.netns, "eth0", "172.17.0.1"),
    ):
        with in_network_namespace(netns):
            host.run("ip", "link", "set", "lo", "down")
            host.run("ip", "address", "flush", "dev", "lo")
            host.set_sysctl(f"net/ipv4/conf/{link}/route_localnet", "1")
            host.run("ip", "route", "flush", "table", "local", "127.0.0.0/8")
            host.run("ip", "route", "add", "127.0.0.0/8", "via", via, "dev", link)
        assert host.misses(netns, "127.0.0.1", 8080)


def test_random_ports_are_free_ones(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """Ports that are left to the driver differ, answer, and are of the host's dynamic range."""
    container = host.attach(driver, network, ports=(PortRequest(80), PortRequest(81)))
    one, other = container.attachment.endpoint.ports

    assert one.host_port != other.host_port
    assert min(one.host_port, other.host_port) >= 1024
    server = host.listen(container.netns, 81)
    assert host.talk(server, host.outside, HOST, other.host_port)


def test_a_range_gives_the_first_free_port(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Each container gets the next port of the range; the one too many is told why not."""
    host.listen(None, 8081)
    ports = (PortRequest(80, host_ports=(8080, 8082)),)
    given = [
        host.attach(driver, network, ports=ports).attachment.endpoint.ports[0].host_port
        for _ in range(2)
    ]
    assert given == [8080, 8082]

    with pytest.raises(Conflict, match="8080-8082 failed: all ports are allocated"):
        host.attach(driver, network, ports=ports)


@pytest.mark.parametrize(
    ("first", "second"),
    [("", ""), ("", "127.0.0.1"), ("127.0.0.1", ""), (HOST, HOST)],
)
def test_a_port_of_another_container_is_a_conflict(
    host: Any, driver: BridgeDriver, network: NetworkSpec, first: str, second: str
) -> None:
    """The second container is told which port, and nothing of it stays."""
    host.attach(driver, network, ports=(web(host_ip=first),))
    links = host.links()

    with pytest.raises(
        Conflict,
        match=r"driver failed programming external connectivity on endpoint .*: "
        rf"Bind for {second or '0.0.0.0'}:8080 failed: port is already allocated",
    ):
        host.attach(driver, network, ports=(web(host_ip=second),))

    assert host.links() == links
    assert len(host.leases()) == 1


def test_a_port_of_a_process_is_a_conflict(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A server of the host is not silently cut off."""
    host.listen(None, 8080)

    with pytest.raises(Conflict, match=r"Bind for 0.0.0.0:8080 failed: address already in use"):
        host.attach(driver, network, ports=(web(),))


def test_a_port_that_is_about_to_be_free_is_taken(
    host: Any, driver: BridgeDriver, network: NetworkSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program being started holds what the daemon has open, for a moment."""
    holder = host.listen(None, 8080)
    moments: list[float] = []

    def pass_by(seconds: float) -> None:
        moments.append(seconds)
        holder.close()

    monkeypatch.setattr("pannier_net_bridge.ports.time", SimpleNamespace(sleep=pass_by))
    container = host.attach(driver, network, ports=(web(),))

    assert len(moments) == 1
    assert container.attachment.endpoint.ports[0].host_port == 8080


def test_a_published_port_is_reserved(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """No process of the host can take it while the container's descriptors are open."""
    ports = (web(), PortRequest(53, "udp", host_ports=(5353, 5353)))
    container = host.attach(driver, network, ports=ports)
    assert len(container.attachment.descriptors) == 2

    for kind, port in ((socket.SOCK_STREAM, 8080), (socket.SOCK_DGRAM, 5353)):
        with socket.socket(type=kind) as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno says it
                thief.bind(("0.0.0.0", port))
            assert caught.value.errno == errno.EADDRINUSE

    driver.detach(container.request, container.netns)
    container.close()
    host.listen(None, 8080)


def test_the_same_port_twice_in_one_request(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Two container ports cannot have one port of the host."""
    with pytest.raises(Conflict, match="already"):
        host.attach(driver, network, ports=(web(), PortRequest(81, host_ports=(8080, 8080))))


def test_tcp_and_udp_are_different_ports(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """One number may be published once for each protocol."""
    ports = (web(), web(protocol="udp"), web(protocol="sctp"))
    container = host.attach(driver, network, ports=ports)

    assert len(container.attachment.endpoint.ports) == 3
    assert len(host.elements("ports_any")) == 3
    with pytest.raises(Conflict):
        host.attach(driver, network, ports=(web(protocol="sctp"),))


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (web(protocol="icmp"), InvalidRequest, "icmp"),
        (web(host_ip="::1"), UnsupportedOperation, "has no IPv6"),
        (web(host_ip="300.1.1.1"), InvalidRequest, "300.1.1.1"),
        (web(host_ip="203.0.113.9"), InvalidRequest, "cannot assign requested address"),
        (web(host_ports=(9000, 8000)), InvalidRequest, "9000-8000"),
        (PortRequest(0, host_ports=(80, 80)), InvalidRequest, "80-80:0"),
    ],
)
def test_what_cannot_be_published(
    host: Any,
    driver: BridgeDriver,
    request_: PortRequest,
    error: type[Exception],
    words: str,
) -> None:
    """Malformed and impossible requests are named."""
    network = driver.create_network(NetworkSpec("bridge", "bridge"))
    with pytest.raises(error, match=words):
        host.attach(driver, network, ports=(request_,))


def test_withdrawn_ports_answer_no_more(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """After a detach a client is refused, and the others' ports go on."""
    gone = host.attach(driver, network, ports=(web(),))
    stays = host.attach(driver, network, ports=(web(host_ports=(8081, 8081)),))
    host.listen(gone.netns, 80)
    server = host.listen(stays.netns, 80)

    driver.detach(gone.request, gone.netns)
    for descriptor in gone.attachment.descriptors:
        os.close(descriptor)
    gone.attachment = None

    assert host.misses(host.outside, HOST, 8080)
    assert host.talk(server, host.outside, HOST, 8081)


def test_withdrawing_works_after_some_elements_have_gone(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """An element that somebody deleted does not keep the others."""
    ports = (web(), web(host_ports=(8081, 8081)))
    container = host.attach(driver, network, ports=ports)
    host.run("nft", "delete", "element", "ip", "pannier", "ports_any", "{ tcp . 8080 }")

    driver.detach(container.request, container.netns)

    assert host.elements("ports_any") == []


def test_attaching_twice_keeps_the_ports(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """The second attach of one container does not collide with the first."""
    container = host.attach(driver, network, ports=(web(),))

    again = Transaction().run(driver.plan_attach(container.request, container.netns))

    assert again.endpoint == container.attachment.endpoint
    assert again.descriptors == ()
    assert len(host.elements("ports_any")) == 1
