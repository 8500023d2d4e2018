"""Networks: subnets, options, isolation, and that nothing of them stays."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.network import NetworkSpec, PortRequest, Subnet
from pannier.errors import (
    ConfigError,
    Conflict,
    DriverError,
    Forbidden,
    InvalidRequest,
    UnsupportedOperation,
)
from pannier_net_bridge.records import Records

if TYPE_CHECKING:
    from pannier_net_bridge.driver import BridgeDriver

pytestmark = pytest.mark.root

PREDEFINED = NetworkSpec("bridge", "bridge")
BRIDGE = "com.docker.network.bridge."


def user(number: int = 1, **options: Any) -> NetworkSpec:
    """Return a user's network."""
    return NetworkSpec(f"{number:064x}"[::-1], f"net{number}", **options)


def test_containers_of_different_networks_do_not_meet(host: Any, driver: BridgeDriver) -> None:
    """Not by their addresses, whichever way, while each reaches the outside."""
    one = host.attach(driver, driver.create_network(user(1)))
    other = host.attach(driver, driver.create_network(user(2)))
    host.listen(one.netns, 80)
    host.listen(other.netns, 80)
    server = host.listen(host.outside, 80)

    assert host.misses(one.netns, other.address, 80)
    assert host.misses(other.netns, one.address, 80)
    for container in (one, other):
        assert host.talk(server, container.netns, "198.51.100.2", 80) == "198.51.100.1"


def test_an_internal_network_has_no_way_out_or_in(host: Any, driver: BridgeDriver) -> None:
    """Its containers reach one another and nothing else; no default route, no ports."""
    spec = driver.create_network(user(1, internal=True))
    one = host.attach(driver, spec, ports=(PortRequest(80, host_ports=(8080, 8080)),))
    other = host.attach(driver, spec)
    server = host.listen(one.netns, 80)

    assert host.talk(server, other.netns, one.address, 80) == other.address
    assert one.attachment.endpoint.gateway == ""
    assert one.attachment.endpoint.ports == ()
    assert host.inside(one, "route", "show", "default") == []
    host.listen(host.outside, 80)
    gateway = spec.subnets[0].gateway
    host.run_in(one.netns, "ip", "route", "add", "default", "via", gateway)
    assert host.misses(one.netns, "198.51.100.2", 80)
    assert host.misses(host.outside, "198.51.100.1", 8080)


@pytest.mark.parametrize("bridged", ["0", "1"])
def test_icc_off_separates_neighbours(host: Any, driver: BridgeDriver, bridged: str) -> None:
    """Directly, or routed by the gateway; published ports still answer."""
    spec = driver.create_network(user(1, options={f"{BRIDGE}enable_icc": "false"}))
    one = host.attach(driver, spec, ports=(PortRequest(80, host_ports=(8080, 8080)),))
    other = host.attach(driver, spec)
    server = host.listen(one.netns, 80)
    host.set_sysctl("net/bridge/bridge-nf-call-iptables", bridged)

    assert host.misses(other.netns, one.address, 80)
    gateway = spec.subnets[0].gateway
    host.run_in(other.netns, "ip", "route", "add", f"{one.address}/32", "via", gateway)
    assert host.misses(other.netns, one.address, 80)
    assert host.talk(server, None, one.address, 80)
    assert host.talk(server, other.netns, "198.51.100.1", 8080)
    assert host.talk(host.listen(host.outside, 80), other.netns, "198.51.100.2", 80)


def test_icc_off_on_a_kernel_without_bridge_netfilter(
    host: Any, driver: BridgeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bridge itself keeps the neighbours apart then."""
    monkeypatch.setattr("pannier_net_bridge.bridges._BRIDGE_NETFILTER", Path("/nowhere"))
    host.set_sysctl("net/bridge/bridge-nf-call-iptables", "0")
    spec = driver.create_network(user(1, options={f"{BRIDGE}enable_icc": "false"}))
    one = host.attach(driver, spec, ports=(PortRequest(80, host_ports=(8080, 8080)),))
    other = host.attach(driver, spec)
    server = host.listen(one.netns, 80)

    assert host.misses(other.netns, one.address, 80)
    assert host.talk(server, None, one.address, 80)
    assert host.talk(server, other.netns, "198.51.100.1", 8080)


def test_without_masquerading_the_container_shows_itself(host: Any, driver: BridgeDriver) -> None:
    """The outside sees the container's own address, and needs a route to answer it."""
    spec = driver.create_network(user(1, options={f"{BRIDGE}enable_ip_masquerade": "false"}))
    container = host.attach(driver, spec)
    server = host.listen(host.outside, 80)
    host.run_in(host.outside, "ip", "route", "add", "172.16.0.0/12", "via", "198.51.100.1")

    assert host.talk(server, container.netns, "198.51.100.2", 80) == container.address


def test_options_name_the_bridge_its_mtu_and_the_ports_address(
    host: Any, driver: BridgeDriver
) -> None:
    """Docker's options mean here what they mean there."""
    spec = driver.create_network(
        user(
            1,
            options={
                f"{BRIDGE}name": "mine0",
                f"{BRIDGE}host_binding_ipv4": "127.0.0.1",
                "com.docker.network.driver.mtu": "1400",
            },
        )
    )
    container = host.attach(driver, spec, ports=(PortRequest(80),))

    assert "mine0" in host.links()
    assert container.attachment.endpoint.ports[0].host_ip == "127.0.0.1"
    mtus = {link["ifname"]: link["mtu"] for link in host.inside(container, "link")}
    assert mtus["eth0"] == 1400


def test_interfaces_may_be_called_otherwise(host: Any, driver: BridgeDriver) -> None:
    """By the network's prefix and the next number; an empty option leaves the default."""
    options = {f"{BRIDGE}name": "", f"{BRIDGE}host_binding_ipv4": ""}
    plain = driver.create_network(user(1, options=options))
    named = driver.create_network(
        user(2, options={"com.docker.network.container_iface_prefix": "lan"})
    )
    assert host.attach(driver, named).attachment.endpoint.interface == "lan0"
    assert host.attach(driver, plain).attachment.endpoint.interface == "eth0"


def test_a_link_too_small_for_ipv6(host: Any, driver: BridgeDriver) -> None:
    """IPv6 needs 1280 bytes; a network with less works all the same."""
    spec = driver.create_network(user(1, options={"com.docker.network.driver.mtu": "1000"}))
    container = host.attach(driver, spec)
    server = host.listen(host.outside, 80)

    assert host.talk(server, container.netns, "198.51.100.2", 80) == "198.51.100.1"


def test_links_have_no_ipv6_address(host: Any, driver: BridgeDriver) -> None:
    """Neither the bridge nor the container talks IPv6 that nobody asked for."""
    container = host.attach(driver, driver.create_network(PREDEFINED))
    assert host.inside(container, "-6", "address", "show", "dev", "eth0") == []
    for link in json.loads(host.run("ip", "-j", "-6", "address")):
        assert link["ifname"] in ("lo", "wan0")


def test_mtu_follows_the_default_route(host: Any, driver: BridgeDriver) -> None:
    """Containers do not send what the host's uplink cannot carry."""
    host.run("ip", "link", "set", "wan0", "mtu", "1380")
    container = host.attach(driver, driver.create_network(PREDEFINED))

    mtus = {link["ifname"]: link["mtu"] for link in host.inside(container, "link")}
    assert mtus["eth0"] == 1380


def test_subnets_avoid_what_the_host_uses(host: Any, driver: BridgeDriver) -> None:
    """Addresses and routes of the host, and networks made before, are left alone."""
    host.run("ip", "address", "add", "172.17.5.1/24", "dev", "wan0")
    host.run("ip", "route", "add", "172.18.0.0/17", "via", "198.51.100.2")
    host.run("ip", "route", "add", "172.19.0.0/16", "via", "198.51.100.2", "table", "7")

    chosen = [
        driver.create_network(spec).subnets[0].subnet for spec in (PREDEFINED, user(1), user(2))
    ]

    assert chosen == ["172.20.0.0/16", "172.21.0.0/16", "172.22.0.0/16"]


def test_pools_that_are_used_up(host: Any) -> None:
    """When no subnet is left the user is told what to do."""
    driver = host.open(pools=("10.1.0.0/23:24",))
    driver.create_network(user(1))
    driver.create_network(user(2))

    with pytest.raises(InvalidRequest, match="non-overlapping") as caught:
        driver.create_network(user(3))
    assert "pools" in (caught.value.hint or "")


def test_a_malformed_pool_is_a_configuration_error(host: Any) -> None:
    """The entry is named."""
    with pytest.raises(ConfigError, match=r"10\.1\.0\.0/33"):
        host.open(pools=("10.1.0.0/33",)).create_network(user(1))


@pytest.mark.parametrize("taken", ["198.51.100.0/25", "198.0.0.0/8", "172.17.0.0/24"])
def test_a_subnet_that_overlaps_is_a_conflict(
    host: Any, driver: BridgeDriver, network: NetworkSpec, taken: str
) -> None:
    """With a route of the host, or another network; nothing is made."""
    del network
    links = host.links()
    with pytest.raises(Conflict, match="overlaps"):
        driver.create_network(user(1, subnets=(Subnet(taken),)))
    assert host.links() == links


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        (user(subnets=(Subnet("10.1.0.1/24"),)), InvalidRequest, "10.1.0.1/24"),
        (user(subnets=(Subnet("10.1.0.0/31"),)), InvalidRequest, "no room"),
        (user(subnets=(Subnet("10.1.0.0/24", "10.2.0.1"),)), InvalidRequest, "gateway"),
        (
            user(subnets=(Subnet("10.1.0.0/24", None, "10.2.0.0/24"),)),
            InvalidRequest,
            "ip-range",
        ),
        (
            user(subnets=(Subnet("10.1.0.0/24"), Subnet("10.2.0.0/24"))),
            Forbidden,
            "bridge driver doesn't support multiple subnets",
        ),
        (
            user(subnets=(Subnet("10.1.0.0/24", None, None, ("10.1.0.1",)),)),
            Conflict,
            r"failed to allocate secondary ip address \(10.1.0.1\): Address already in use",
        ),
        (
            user(subnets=(Subnet("10.1.0.0/24", None, None, ("10.1.0.7", "10.1.0.7")),)),
            Conflict,
            "Address already in use",
        ),
        (user(options={f"{BRIDGE}name": "a/b"}), InvalidRequest, "a/b"),
        (user(options={f"{BRIDGE}name": "far-too-long-a-name"}), InvalidRequest, "far-too"),
        (user(options={f"{BRIDGE}enable_icc": "maybe"}), InvalidRequest, "maybe"),
        (user(options={"com.docker.network.driver.mtu": "x"}), InvalidRequest, "mtu"),
        (user(options={f"{BRIDGE}inhibit_ipv4": "yes"}), InvalidRequest, "inhibit"),
        (user(options={f"{BRIDGE}gateway_mode_ipv4": "odd"}), InvalidRequest, "odd"),
        (
            user(options={f"{BRIDGE}gateway_mode_ipv4": "isolated"}),
            InvalidRequest,
            "gateway mode 'isolated' can only be used for an internal network",
        ),
        (user(options={f"{BRIDGE}host_binding_ipv4": "x"}), InvalidRequest, "not an IPv4"),
        (user(options={f"{BRIDGE}gateway_mode_ipv6": "routed"}), UnsupportedOperation, "mode_ipv6"),
        (
            user(options={"com.docker.network.host_ipv4": "10.0.0.9"}),
            UnsupportedOperation,
            "host_ipv4",
        ),
        (
            user(options={"com.docker.network.container_iface_prefix": "a/b"}),
            InvalidRequest,
            "a/b",
        ),
        (user(options={f"{BRIDGE}name": "wan0"}), Conflict, "no bridge"),
        (user(options={f"{BRIDGE}name": "pannier0"}), Conflict, "belongs to"),
    ],
)
def test_networks_that_cannot_be_made(
    host: Any,
    driver: BridgeDriver,
    spec: NetworkSpec,
    error: type[Exception],
    words: str,
) -> None:
    """Each mistake is named, and nothing is left of the attempt."""
    network = driver.create_network(PREDEFINED)
    links, rules = host.links(), host.ruleset()
    with pytest.raises(error, match=words):
        driver.create_network(spec)
    assert host.links() == links
    assert host.ruleset() == rules
    assert driver.create_network(network) == network


def test_range_gateway_and_reserved_addresses(host: Any, driver: BridgeDriver) -> None:
    """Addresses come from the range, and reserved ones are left out; nor can they be asked for."""
    subnet = Subnet("10.1.0.0/24", "10.1.0.254", "10.1.0.8/29", ("10.1.0.9",))
    spec = driver.create_network(user(1, subnets=(subnet,)))

    given = [host.attach(driver, spec).address for _ in range(3)]

    assert spec.subnets == (subnet,)
    assert given == ["10.1.0.8", "10.1.0.10", "10.1.0.11"]
    with pytest.raises(Conflict, match=r"Address already in use: 10\.1\.0\.9"):
        host.attach(driver, spec, address="10.1.0.9")


def test_creating_again_changes_nothing(host: Any, driver: BridgeDriver) -> None:
    """With the answer of the first time, or without."""
    first = driver.create_network(PREDEFINED)
    links, rules = host.links(), host.ruleset()

    assert driver.create_network(PREDEFINED) == first
    assert driver.create_network(first) == first
    assert (host.links(), host.ruleset()) == (links, rules)


def test_removing_leaves_nothing_of_the_network(host: Any, driver: BridgeDriver) -> None:
    """Links, rules, leases go, also those of containers still in it; other networks stay."""
    stays, goes = driver.create_network(PREDEFINED), driver.create_network(user(1))
    rest = host.attach(driver, stays, ports=(PortRequest(80, host_ports=(8080, 8080)),))
    host.attach(driver, goes, ports=(PortRequest(80),))

    driver.remove_network(goes)
    driver.remove_network(goes)

    assert f"br-{goes.id[:12]}" not in host.ruleset()
    assert len(host.links()) == 4
    assert len(host.elements("ports_any")) == 1
    assert host.talk(host.listen(rest.netns, 80), host.outside, "198.51.100.1", 8080)
    driver.remove_network(stays)
    assert host.links() == {"lo", "wan0"}
    assert host.ruleset() == ""


def fail(monkeypatch: pytest.MonkeyPatch, driver: BridgeDriver, method: str, times: int) -> None:
    """Have the firewall refuse, and then work again."""
    works, left = getattr(driver._firewall, method), [DriverError("refused")] * times

    def once_more(*args: Any, **options: Any) -> None:
        if left:
            raise left.pop()
        works(*args, **options)

    monkeypatch.setattr(driver._firewall, method, once_more)


def records(host: Any) -> int:
    """Return how many networks the next start would find."""
    found = Records(host.folder / "root" / "networks.journal")
    try:
        return len(found.all())
    finally:
        found.close()


@pytest.mark.parametrize(
    ("others", "method"), [(1, "set_up"), (1, "synchronize"), (0, "tear_down")]
)
def test_a_removal_that_failed_is_finished_by_the_next(
    host: Any,
    driver: BridgeDriver,
    monkeypatch: pytest.MonkeyPatch,
    others: int,
    method: str,
) -> None:
    """The first one says so; the second leaves nothing, and the subnet can be had again."""
    for number in range(others):
        driver.create_network(user(7 + number))
    links = host.links()
    spec = driver.create_network(user(1, subnets=(Subnet("10.1.0.0/24"),)))
    host.attach(driver, spec)
    fail(monkeypatch, driver, method, 1)

    with pytest.raises(DriverError, match="refused"):
        driver.remove_network(spec)
    driver.remove_network(spec)

    assert host.links() == links
    assert f"br-{spec.id[:12]}" not in host.ruleset()
    assert host.leases() == {}
    assert driver.create_network(user(2, subnets=(Subnet("10.1.0.0/24"),)))
    driver.close()
    host.opened.remove(driver)
    assert records(host) == others + 1


def test_a_network_stays_whole_whose_removal_failed(
    host: Any, driver: BridgeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers can join it as before: the next change of the rules puts them right."""
    spec = driver.create_network(user(1))
    fail(monkeypatch, driver, "tear_down", 1)
    with pytest.raises(DriverError, match="refused"):
        driver.remove_network(spec)

    driver.create_network(spec)

    container = host.attach(driver, spec)
    server = host.listen(host.outside, 80)
    assert host.talk(server, container.netns, "198.51.100.2", 80) == "198.51.100.1"


def test_a_network_that_could_not_be_made_leaves_nothing(
    host: Any, driver: BridgeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the rules cannot be changed back: it is made as soon as they can be."""
    driver.create_network(PREDEFINED)
    links, rules = host.links(), host.ruleset()
    spec = user(1, subnets=(Subnet("10.1.0.0/24"),))
    fail(monkeypatch, driver, "set_up", 2)

    with pytest.raises(DriverError, match="refused"):
        driver.create_network(spec)

    assert (host.links(), host.ruleset()) == (links, rules)
    assert driver.create_network(user(2, subnets=(Subnet("10.1.0.0/24"),)))
    driver.close()
    host.opened.remove(driver)
    assert records(host) == 2


@pytest.mark.parametrize(
    "error",
    [
        subprocess.CalledProcessError(4, "iptables-legacy"),
        subprocess.TimeoutExpired("iptables-legacy", 10),
        PermissionError("iptables-legacy"),
    ],
    ids=["failed", "hung", "forbidden"],
)
def test_the_old_iptables_does_not_keep_a_network(
    host: Any, driver: BridgeDriver, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Where the program for the old tables does not work, the network goes all the same."""
    spec = driver.create_network(PREDEFINED)

    def broken() -> list[str]:
        raise error

    monkeypatch.setattr("pannier_net_bridge.foreign._legacy_filter", lambda: True)
    monkeypatch.setattr("pannier_net_bridge.foreign._legacy_rules", broken)

    driver.remove_network(spec)

    assert host.links() == {"lo", "wan0"}
    assert host.ruleset() == ""


def test_a_bridge_that_was_there_is_used_and_left(host: Any, driver: BridgeDriver) -> None:
    """Somebody's own bridge outlives the network."""
    host.run("ip", "link", "add", "br0", "type", "bridge")
    spec = driver.create_network(user(1, options={f"{BRIDGE}name": "br0"}))
    container = host.attach(driver, spec)
    assert host.talk(host.listen(container.netns, 80), None, container.address, 80)

    driver.remove_network(spec)

    assert host.links() == {"lo", "wan0", "br0"}


def test_the_configured_subnet_and_bridge(host: Any) -> None:
    """The predefined network is what the configuration says."""
    driver = host.open(bridge="box0", subnet="10.77.0.0/24", table="box")
    spec = driver.create_network(PREDEFINED)

    assert spec.subnets == (Subnet("10.77.0.0/24", "10.77.0.1"),)
    assert "box0" in host.links()
    assert "table ip box" in host.ruleset()


def test_a_changed_configuration_moves_the_predefined_network(host: Any) -> None:
    """A new subnet in the file takes effect at the next start, when no container is in it."""
    first = host.open()
    spec = first.create_network(PREDEFINED)
    first.close()

    second = host.open(subnet="10.77.0.0/24")
    moved = second.create_network(spec)

    assert moved.subnets == (Subnet("10.77.0.0/24", "10.77.0.1"),)
    (link,) = json.loads(host.run("ip", "-j", "address", "show", "pannier0"))
    assert [one["local"] for one in link["addr_info"]] == ["10.77.0.1"]


def test_the_predefined_network_gives_way_to_a_new_route(host: Any) -> None:
    """When the host has come to use its subnet (a VPN), an empty network takes another."""
    first = host.open()
    spec = first.create_network(PREDEFINED)
    first.close()
    host.run("ip", "link", "delete", "pannier0")
    host.run("ip", "route", "add", "172.17.0.0/16", "via", "198.51.100.2")

    assert host.open().create_network(spec).subnets[0].subnet == "172.18.0.0/16"
