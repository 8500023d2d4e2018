"""An endpoint: what it has, and that nothing of it stays."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.network import EndpointRequest, NetworkSpec, PortRequest, Subnet
from pannier.drivers.operations import Action, Step, Transaction
from pannier.errors import Conflict, DriverError, InvalidRequest, NotFound, UnsupportedOperation
from pannier.linux.namespaces import in_network_namespace

if TYPE_CHECKING:
    from pannier_net_bridge.driver import BridgeDriver

pytestmark = pytest.mark.root

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
DESCRIPTORS = Path("/proc/self/fd")


def test_an_endpoint_has_address_route_and_loopback(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """The interface is up with address, MAC of the address, default route; loopback is up."""
    container = host.attach(driver, network)
    endpoint = container.attachment.endpoint

    assert (endpoint.address, endpoint.prefix) == ("172.17.0.2", 16)
    assert (endpoint.gateway, endpoint.mac) == ("172.17.0.1", "02:42:ac:11:00:02")
    links = {link["ifname"]: link for link in host.inside(container, "link")}
    assert set(links) == {"lo", "eth0"}
    assert links["eth0"]["address"] == "02:42:ac:11:00:02"
    assert all("UP" in link["flags"] for link in links.values())
    (route,) = host.inside(container, "route", "show", "default")
    assert (route["gateway"], route["dev"]) == ("172.17.0.1", "eth0")
    (found,) = host.inside(container, "address", "show", "eth0")
    assert [one["local"] for one in found["addr_info"]] == ["172.17.0.2"]


def test_link_local_addresses_come_besides(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Of both versions, also on a network without IPv6; nothing else is taken for one."""
    asked = ("169.254.8.8", "fe80::8:8")
    container = host.attach(driver, network, link_local=asked)
    (found,) = host.inside(container, "address", "show", "eth0")
    shown = [(one["local"], one["prefixlen"]) for one in found["addr_info"]]
    assert shown == [("172.17.0.2", 16), ("169.254.8.8", 16), ("fe80::8:8", 64)]
    other = host.attach(driver, network, link_local=("169.254.8.9",))
    server = host.listen(container.netns, 80)
    assert host.talk(server, other.netns, "169.254.8.8", 80) == "169.254.8.9"
    plan = driver.plan_attach(container.request, None)
    assert "169.254.8.8/16" in [step.subject for step in plan.describe()]
    for wrong in ("10.0.0.1", "nonsense", "2001:db8::1"):
        with pytest.raises(InvalidRequest, match=f"invalid link-local IP address: {wrong}"):
            host.attach(driver, network, link_local=(wrong,))


def test_containers_reach_one_another_and_the_host(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Two containers of a network talk directly, and the host's process talks to both."""
    one, other = host.attach(driver, network), host.attach(driver, network)
    server = host.listen(one.netns, 80)

    assert host.talk(server, other.netns, one.address, 80) == other.address
    assert host.talk(server, None, one.address, 80) == "172.17.0.1"
    assert host.talk(host.listen(None, 99), one.netns, "172.17.0.1", 99) == one.address


def test_outside_is_reached_under_the_hosts_address(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Connections out of a container are masqueraded."""
    container = host.attach(driver, network)
    server = host.listen(host.outside, 80)

    assert host.talk(server, container.netns, "198.51.100.2", 80) == "198.51.100.1"


def test_outside_does_not_reach_in(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """A neighbour of the host that routes to the bridge's subnet gets nowhere."""
    container = host.attach(driver, network)
    host.listen(container.netns, 80)
    with in_network_namespace(host.outside):
        host.run("ip", "route", "add", "172.17.0.0/16", "via", "198.51.100.1")

    assert host.misses(host.outside, container.address, 80)
    assert host.reaches(None, container.address, 80)


def test_forwarding_that_was_off_stays_shut_for_others(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A host that was no router does not become one, and is none when the networks have gone."""
    del network
    assert FORWARDING.read_text() == "1\n"
    chain = json.loads(host.run("nft", "-j", "list", "chain", "ip", "pannier", "forward"))
    assert chain["nftables"][1]["chain"]["policy"] == "drop"

    driver.remove_network(NetworkSpec("bridge", "bridge"))
    assert FORWARDING.read_text() == "0\n"


def test_a_router_keeps_routing(host: Any, driver: BridgeDriver) -> None:
    """Where forwarding was on, foreign forwarding is left alone, and on."""
    FORWARDING.write_text("1")
    spec = driver.create_network(NetworkSpec("bridge", "bridge"))
    chain = json.loads(host.run("nft", "-j", "list", "chain", "ip", "pannier", "forward"))
    assert chain["nftables"][1]["chain"]["policy"] == "accept"

    driver.remove_network(spec)
    assert FORWARDING.read_text() == "1\n"
    assert host.links() == {"lo", "wan0"}


def test_attach_twice_is_one_endpoint(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A second attach of the same container answers as the first, and changes nothing."""
    container = host.attach(driver, network)
    links = host.links()

    again = Transaction().run(driver.plan_attach(container.request, container.netns))

    assert again.endpoint == container.attachment.endpoint
    assert host.links() == links


def test_a_container_that_was_lost_gets_a_new_endpoint(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """An attach into a new namespace, without a detach of the old one, starts afresh."""
    old = host.attach(driver, network, "same", ports=(PortRequest(80, host_ports=(8080, 8080)),))
    old.close()

    new = host.attach(driver, network, "same", ports=(PortRequest(80, host_ports=(8080, 8080)),))

    assert host.talk(host.listen(new.netns, 80), host.outside, "198.51.100.1", 8080)
    assert len(host.elements("ports_any")) == 1


def test_detach_leaves_nothing(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """Links, leases, elements go; a second detach is no error."""
    container = host.attach(driver, network, ports=(PortRequest(80),))

    driver.detach(container.request, container.netns)
    driver.detach(container.request, container.netns)

    host.wait_until(lambda: host.links() == {"lo", "wan0", "pannier0"})
    assert host.elements("ports_any") == []
    assert host.leases() == {}
    assert {link["ifname"] for link in host.inside(container, "link")} == {"lo"}


def test_detach_after_the_namespace_has_gone(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A container that died has its endpoint taken away all the same."""
    container = host.attach(driver, network, ports=(PortRequest(80),))
    container.close()

    driver.detach(container.request, None)

    assert host.elements("ports_any") == []
    host.wait_until(lambda: host.links() == {"lo", "wan0", "pannier0"})


def test_detach_after_the_bridge_has_gone(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Somebody's ``ip link delete`` and ``nft flush`` do not keep a container from ending."""
    container = host.attach(driver, network, ports=(PortRequest(80),))
    host.run("ip", "link", "delete", "pannier0")
    host.run("nft", "flush", "ruleset")

    driver.detach(container.request, container.netns)

    host.wait_until(lambda: host.links() == {"lo", "wan0"})
    assert host.leases() == {}


def test_attach_mends_what_others_broke(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """After somebody flushed the rules and deleted the bridge, the next container works."""
    first = host.attach(driver, network, ports=(PortRequest(80, host_ports=(8080, 8080)),))
    host.run("nft", "flush", "ruleset")

    second = host.attach(driver, network)

    server = host.listen(host.outside, 80)
    assert host.talk(server, second.netns, "198.51.100.2", 80) == "198.51.100.1"
    assert host.talk(host.listen(first.netns, 80), host.outside, "198.51.100.1", 8080)
    host.run("ip", "link", "delete", "pannier0")
    third = host.attach(driver, network)
    assert host.talk(server, third.netns, "198.51.100.2", 80) == "198.51.100.1"


def test_containers_are_back_on_a_bridge_that_was_deleted(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """With the next container, and with the next start: they reach the outside and one another."""
    first = host.attach(driver, network)
    second = host.attach(driver, network)
    server = host.listen(host.outside, 80)
    neighbour = host.listen(second.netns, 80)
    assert host.talk(server, first.netns, "198.51.100.2", 80) == "198.51.100.1"
    for again in (lambda: host.attach(driver, network), lambda: driver.create_network(network)):
        host.run("ip", "link", "delete", "pannier0")
        again()
        assert host.talk(server, first.netns, "198.51.100.2", 80) == "198.51.100.1"
        address = second.address
        assert host.talk(neighbour, first.netns, address, 80)


def test_leaving_and_joining_a_running_container(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """A disconnected container gets the same interface name when it is connected again."""
    container = host.attach(driver, network)
    driver.detach(container.request, container.netns)

    container.attachment = Transaction().run(driver.plan_attach(container.request, container.netns))

    assert container.attachment.endpoint.interface == "eth0"
    assert host.talk(host.listen(container.netns, 80), None, container.address, 80)


def test_two_networks_are_two_interfaces(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """The second endpoint is eth1; its gateway is no default route unless asked for."""
    other = driver.create_network(NetworkSpec("f" * 64, "other"))
    container = host.attach(driver, network)
    request = EndpointRequest(container.request.container, other, default_route=False)

    attachment = Transaction().run(driver.plan_attach(request, container.netns))

    assert attachment.endpoint.interface == "eth1"
    (route,) = host.inside(container, "route", "show", "default")
    assert route["dev"] == "eth0"


def test_chosen_address_and_mac(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """What the user chose is what the container gets."""
    container = host.attach(driver, network, address="172.17.9.9", mac="02:42:00:00:00:07")

    assert container.address == "172.17.9.9"
    (link,) = [one for one in host.inside(container, "link") if one["ifname"] == "eth0"]
    assert link["address"] == "02:42:00:00:00:07"


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("172.17.0.2", Conflict),
        ("172.17.0.1", Conflict),
        ("172.17.255.255", Conflict),
        ("10.0.0.1", InvalidRequest),
        ("nonsense", InvalidRequest),
    ],
)
def test_addresses_that_cannot_be_had(
    host: Any, driver: BridgeDriver, network: NetworkSpec, address: str, error: type[Exception]
) -> None:
    """Taken, the gateway's, the broadcast, another subnet's, malformed: each is named."""
    host.attach(driver, network)
    links = host.links()

    with pytest.raises(error, match=address):
        host.attach(driver, network, address=address)

    assert host.links() == links


def test_a_network_without_free_addresses(host: Any, driver: BridgeDriver) -> None:
    """A full network says so, and takes a container again when one has left."""
    spec = driver.create_network(NetworkSpec("e" * 64, "small", subnets=(Subnet("10.9.0.0/30"),)))
    first = host.attach(driver, spec)
    with pytest.raises(Conflict, match="no available IPv4 addresses"):
        host.attach(driver, spec)

    driver.detach(first.request, first.netns)
    assert host.attach(driver, spec).address == "10.9.0.2"


@pytest.mark.parametrize(
    "wishes",
    [
        {"mac": "nonsense"},
        {"mac": "01:00:5e:00:00:01"},
        {"interface": "a/b"},
        {"interface": "x" * 16},
    ],
)
def test_malformed_wishes(driver: BridgeDriver, network: NetworkSpec, wishes: Any) -> None:
    """A MAC address of a group and names that no link can have are refused before anything."""
    with pytest.raises(InvalidRequest, match=next(iter(wishes.values()))):
        driver.plan_attach(EndpointRequest("c", network, **wishes), None)


def test_an_interface_name_that_is_taken(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """The wished name is given; when the container has it already, nothing is left behind."""
    container = host.attach(driver, network, interface="wan0")
    assert container.attachment.endpoint.interface == "wan0"
    other = driver.create_network(NetworkSpec("f" * 64, "other"))
    links = host.links()
    request = EndpointRequest(container.request.container, other, interface="wan0")

    with pytest.raises(Conflict, match="wan0"):
        Transaction().run(driver.plan_attach(request, container.netns))

    assert host.links() == links


def test_a_descriptor_that_is_no_namespace(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """It is named, and nothing is left."""
    with (host.folder / "file").open("w") as file, pytest.raises(DriverError, match="namespace"):
        Transaction().run(driver.plan_attach(EndpointRequest("c", network), file.fileno()))
    assert host.links() == {"lo", "wan0", "pannier0"}
    assert host.leases() == {}


def test_the_first_packet_arrives(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """From the moment an attach returns nothing is lost, also while links come and go."""
    for _ in range(30):
        container = host.attach(driver, network)
        assert host.ping(container.netns, "172.17.0.1")
        assert host.ping(container.netns, "198.51.100.2")
        driver.detach(container.request, container.netns)
        container.close()


def test_ping(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """ICMP echoes come back from a neighbour, the gateway, the outside and oneself."""
    one, other = host.attach(driver, network), host.attach(driver, network)

    for address in (other.address, "172.17.0.1", "198.51.100.2", one.address, "127.0.0.1"):
        assert host.ping(one.netns, address)
    host.run_in(host.outside, "ip", "route", "add", "172.17.0.0/16", "via", "198.51.100.1")
    assert host.unanswered(host.outside, one.address)


def test_strict_reverse_path_filtering(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """The rp_filter=1 of many distributions is in nobody's way."""
    host.set_sysctl("net/ipv4/conf/all/rp_filter", "1")
    container = host.attach(driver, network, ports=(PortRequest(80, host_ports=(8080, 8080)),))
    server = host.listen(container.netns, 80)

    for netns, address in (
        (host.outside, "198.51.100.1"),
        (None, "127.0.0.1"),
        (container.netns, "198.51.100.1"),
    ):
        assert host.talk(server, netns, address, 8080)


def test_what_is_not_offered_is_refused(driver: BridgeDriver, network: NetworkSpec) -> None:
    """IPv6 and unknown networks are named errors."""
    with pytest.raises(UnsupportedOperation, match="IPv6"):
        driver.plan_attach(EndpointRequest("c", network, address6="fd00::2"), None)
    with pytest.raises(NotFound, match="nowhere"):
        driver.plan_attach(EndpointRequest("c", NetworkSpec("a" * 64, "nowhere")), None)


def test_a_failure_in_any_step_leaves_nothing(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Whichever operation fails, or follows and fails: no link, rule, lease or socket stays."""

    def fail() -> None:
        raise RuntimeError("injected")

    ports = (PortRequest(80, host_ports=(8080, 8080)), PortRequest(53, "udp"))
    count = len(driver.plan_attach(EndpointRequest("c", network, ports=ports), None).operations)
    for position in range(count + 1):
        netns = host.new_namespace()
        host.namespaces.append(netns)
        before = len(list(DESCRIPTORS.iterdir()))
        plan = driver.plan_attach(EndpointRequest("c", network, ports=ports), netns)
        plan.operations.insert(position, Action(Step("fail", "here"), fail))

        with pytest.raises(RuntimeError, match="injected"):
            Transaction().run(plan)

        assert host.links() == {"lo", "wan0", "pannier0"}
        assert host.elements("ports_any") == []
        assert host.leases() == {}
        assert len(list(DESCRIPTORS.iterdir())) == before
        host.listen(None, 8080).close()
    assert host.attach(driver, network, ports=ports).attachment.endpoint.ports


def test_a_network_that_is_removed_meanwhile_takes_all_along(
    host: Any, driver: BridgeDriver, network: NetworkSpec
) -> None:
    """Before whichever operation of an attach: it fails, and nothing of either stays."""
    driver.create_network(NetworkSpec("f" * 64, "other"))  # whose rules stay
    ports = (PortRequest(80, host_ports=(8080, 8080)),)
    request = EndpointRequest("c", network, ports=ports)
    count = len(driver.plan_attach(request, None).operations)
    before = len(list(DESCRIPTORS.iterdir()))
    for position in range(count):
        netns = host.new_namespace()
        plan = driver.plan_attach(request, netns)
        removal = Action(Step("remove", "the network"), lambda: driver.remove_network(network))
        plan.operations.insert(position, removal)

        with pytest.raises((NotFound, DriverError)):
            Transaction().run(plan)

        os.close(netns)
        assert host.links() == {"lo", "wan0", f"br-{'f' * 12}"}
        assert "pannier0" not in host.ruleset()
        assert host.elements("ports_any") == []
        assert host.leases() == {}
        assert driver.create_network(network) == network
    assert len(list(DESCRIPTORS.iterdir())) == before
    # Its port is free for others, and no redirection is in their way.
    container = host.attach(driver, network, ports=ports)
    server = host.listen(container.netns, 80)
    assert host.talk(server, host.outside, "198.51.100.1", 8080)


@pytest.mark.parametrize("published", [False, True])
def test_a_network_that_is_removed_while_ports_move(
    host: Any, driver: BridgeDriver, network: NetworkSpec, published: bool
) -> None:
    """Whether they come or go: the endpoint is not brought back to life."""
    ports = (PortRequest(80, host_ports=(8080, 8080)),)
    container = host.attach(driver, network, ports=ports if published else ())
    request = replace(container.request, ports=() if published else ports)
    count = len(driver.plan_attach(request, container.netns).operations)
    for position in range(count):
        plan = driver.plan_attach(request, container.netns)
        removal = Action(Step("remove", "the network"), lambda: driver.remove_network(network))
        plan.operations.insert(position, removal)

        with pytest.raises(NotFound):
            Transaction().run(plan)

        assert host.links() == {"lo", "wan0"}
        assert host.ruleset() == ""
        assert host.leases() == {}
        driver.create_network(network)
        container.close()
        container = host.attach(driver, network, ports=ports if published else ())
        request = replace(container.request, ports=() if published else ports)


def test_describing_reserves_nothing(driver: BridgeDriver, network: NetworkSpec, host: Any) -> None:
    """A plan says what it would do, and does none of it."""
    request = EndpointRequest("c", network, ports=(PortRequest(80, host_ports=(8080, 8080)),))

    text = "\n".join(map(str, driver.plan_attach(request, None).describe()))

    assert "lease address 172.17.0.2" in text
    assert "reserve port 0.0.0.0:8080" in text
    assert "add route default via 172.17.0.1" in text
    assert host.links() == {"lo", "wan0", "pannier0"}
    assert host.leases() == {}
    host.listen(None, 8080)


def test_trace_names_every_step(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """An executed plan reports the same steps that were described, with times."""
    seen = []

    class Recorder:
        def record(self, driver: str, timing: Any) -> None:
            assert driver == "bridge"
            assert timing.begin <= timing.end
            seen.append(timing.step.action)

    netns = host.new_namespace()
    host.namespaces.append(netns)
    plan = driver.plan_attach(EndpointRequest("c", network), netns)
    described = [step.action for step in plan.describe()]
    Transaction(Recorder()).run(plan)

    assert seen == described
