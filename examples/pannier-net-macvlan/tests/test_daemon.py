"""The driver with an engine: an installed Pannier, in a network namespace of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine import BUSYBOX, Engine, busybox_tree
from lab import GATEWAY, PARENT, SUBNET, Lab, lab

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not BUSYBOX.exists(), reason=f"{BUSYBOX} is missing: apt install busybox-static"
)

_ECHO = ("nc", "-ll", "-p", "7", "-e", "cat")
_LAN = ("network", "create", "-d", "macvlan", "-o", f"parent={PARENT}", "--subnet", SUBNET)


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    """Give a host with a parent that leads to an outside."""
    with lab() as made:
        yield made


@pytest.fixture(scope="module")
def engine(host: Lab) -> Iterator[Engine]:
    """Give a daemon on that host, with an image; nothing is left of it at the end."""
    links = set(host.links())
    engine = Engine()
    try:
        engine.start()
        engine.cli("import", "-", "busybox", data=busybox_tree())
        yield engine
    finally:
        engine.close()
    assert engine.leftovers() == []
    assert {name for name in set(host.links()) - links if name.startswith(("dm-", "dp-"))} == set()


@pytest.fixture
def lan(engine: Engine) -> Iterator[str]:
    """Create a network on the parent; it and its containers are removed after the test."""
    ranged = ("--ip-range", "198.51.100.128/25", "--gateway", GATEWAY)
    engine.cli(*_LAN, *ranged, "--aux-address", "printer=198.51.100.129", "lan")
    yield "lan"
    containers = engine.cli("ps", "-aq").split()
    if containers:
        engine.cli("rm", "-f", *containers)
    engine.cli("network", "rm", "lan")


def _server(engine: Engine, name: str, *options: str) -> str:
    """Run a container that answers on port 7 with what it is sent; return its address."""
    engine.cli("run", "-d", "--name", name, "--network", "lan", *options, "busybox", *_ECHO)
    return str(engine.endpoint(name, "lan")["IPAddress"])


def _ping(engine: Engine, container: str, target: str) -> bool:
    done = engine.run("exec", container, "ping", "-c", "1", "-W", "3", target)
    return done.returncode == 0


def test_the_driver_is_one_of_the_engines(engine: Engine) -> None:
    """It is offered for networks; it has none of its own, and the engine misses none."""
    rows = [line.split() for line in engine.cli("drivers").splitlines()]
    assert ["network", "macvlan", "pannier-net-macvlan"] in [row[:3] for row in rows]
    assert "macvlan" in engine.cli("info", "--format", "{{json .Plugins.Network}}")
    assert engine.cli("network", "ls", "--filter", "driver=macvlan", "-q") == ""
    assert "macvlan" not in engine.cli("info", "--format", "{{json .Warnings}}")


@pytest.mark.usefixtures("lan")
def test_containers_are_machines_on_the_parents_network(engine: Engine, host: Lab) -> None:
    """They reach each other, by address and name, and the outside; and the outside reaches them."""
    web = _server(engine, "web", "-p", "8080:7")
    client = _server(engine, "client")
    assert (web, client) == ("198.51.100.128", "198.51.100.130")
    assert _ping(engine, "client", web)
    assert _ping(engine, "client", "web")
    echoed = engine.cli("exec", "client", "sh", "-c", f"echo hello | nc -w 3 {web} 7")
    assert echoed == "hello"
    assert _ping(engine, "client", GATEWAY)
    assert host.reaches(host.outside, web, 7)
    # As with Docker: there is nothing to publish where containers have addresses of their own.
    assert engine.cli("port", "web") == ""
    assert host.misses(host.outside, "198.51.100.2", 8080)


def test_what_inspect_says(engine: Engine, lan: str) -> None:
    """The network has its options and subnet, and both know each other."""
    address = _server(engine, "web")
    network = engine.inspect("network", lan)
    assert network["Driver"] == "macvlan"
    assert network["Options"] == {"parent": PARENT}
    (subnet,) = network["IPAM"]["Config"]
    assert (subnet["Subnet"], subnet["Gateway"]) == (SUBNET, GATEWAY)
    assert subnet["IPRange"] == "198.51.100.128/25"
    (container,) = network["Containers"].values()
    assert (container["Name"], container["IPv4Address"]) == ("web", f"{address}/24")
    endpoint = engine.endpoint("web", lan)
    assert (endpoint["Gateway"], endpoint["IPPrefixLen"]) == (GATEWAY, 24)
    assert endpoint["MacAddress"] == container["MacAddress"]


def test_chosen_addresses_and_their_conflicts(engine: Engine, lan: str) -> None:
    """``--ip`` and ``--mac-address`` are what the container has; who comes second is told."""
    mac = "02:42:00:00:00:07"
    assert _server(engine, "web", "--ip", "198.51.100.9", "--mac-address", mac) == "198.51.100.9"
    assert mac in engine.cli("exec", "web", "ip", "link", "show", "eth0")
    wish = ("run", "--rm", "--network", lan, "busybox", "sleep", "0")
    for options, complaint in (
        (("--ip", "198.51.100.9"), "Address already in use: 198.51.100.9"),
        (("--ip", "198.51.100.129"), "Address already in use: 198.51.100.129"),
        (("--mac-address", mac), f"has the MAC address {mac}"),
    ):
        done = engine.run("run", *options, *wish[1:])
        assert done.returncode == 125
        assert complaint in done.stderr
    # Not even the namespace of the container before is in the way of its successor.
    for _ in range(3):
        engine.cli("restart", "-t", "0", "web")
        assert engine.endpoint("web", lan)["IPAddress"] == "198.51.100.9"


@pytest.mark.usefixtures("lan")
def test_a_second_network_comes_and_goes_while_a_container_runs(engine: Engine) -> None:
    """Connected, it has a second interface; the network without a parent leads to it alone."""
    _server(engine, "web")
    engine.cli("network", "create", "--driver", "macvlan", "back")
    try:
        engine.cli("run", "-d", "--name", "db", "--network", "back", "busybox", *_ECHO)
        address = engine.endpoint("db", "back")["IPAddress"]
        assert not _ping(engine, "db", GATEWAY)
        engine.cli("network", "connect", "back", "web")
        assert "eth1" in engine.cli("exec", "web", "ip", "addr")
        assert _ping(engine, "web", address)
        assert _ping(engine, "web", GATEWAY)
        engine.cli("network", "disconnect", "back", "web")
        assert "eth1" not in engine.cli("exec", "web", "ip", "addr")
        assert _ping(engine, "web", GATEWAY)
    finally:
        engine.cli("rm", "-f", "db")
        engine.cli("network", "rm", "back")


def test_addresses_outlive_the_daemon(engine: Engine, host: Lab, lan: str) -> None:
    """Killed and started again it knows who has which; containers were reached all the time."""
    address = _server(engine, "web")
    gone = _server(engine, "gone")
    engine.kill()
    assert host.reaches(host.outside, address, 7)
    engine.start()
    assert engine.endpoint("web", lan)["IPAddress"] == address
    assert _server(engine, "more") not in (address, gone)
    assert _ping(engine, "more", address)
    engine.cli("rm", "-f", "gone")
    assert _server(engine, "again", "--ip", gone) == gone
    assert _ping(engine, "web", gone)


def test_a_network_that_cannot_be(engine: Engine) -> None:
    """The error says what is wrong, and what can be done; nothing of the network is kept."""
    vlan = engine.run("network", "create", "-d", "macvlan", "-o", f"parent={PARENT}.50", "vlan")
    assert vlan.returncode == 1
    assert f"the host has no link '{PARENT}.50'" in vlan.stderr
    mode = engine.run(*_LAN, "-o", "macvlan_mode=tunnel", "mode")
    assert "requested macvlan mode 'tunnel' is not valid" in mode.stderr
    assert engine.cli("network", "ls", "-q", "--filter", "driver=macvlan") == ""
