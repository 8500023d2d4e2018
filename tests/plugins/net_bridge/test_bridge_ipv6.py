"""Networks with IPv6 beside IPv4: addresses, ways, and who reaches whom."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.network import NetworkSpec, Subnet
from pannier.drivers.operations import Transaction
from pannier.errors import Conflict, Forbidden, InvalidRequest, UnsupportedOperation
from pannier.linux.namespaces import in_network_namespace
from pannier.linux.sysctl import write_sysctl
from pannier_net_bridge.config import BridgeConfig

if TYPE_CHECKING:
    from pannier_net_bridge.driver import BridgeDriver

pytestmark = pytest.mark.root

HOST = "2001:db8:1::1"
OUTSIDE = "2001:db8:1::2"
PATIENCE = 10.0
IMPATIENCE = 0.4


def spec(name: str = "lan", **more: Any) -> NetworkSpec:
    """Return a network with IPv6."""
    return NetworkSpec((name.encode().hex() * 64)[:64], name, **{"ipv6": True, **more})


def reached(netns: int | None, address: str, port: int) -> str:
    """Return who a server takes us for, which is expected to be reached."""
    return reaches(netns, address, port, patience=PATIENCE)


def reaches(netns: int | None, address: str, port: int, *, patience: float = IMPATIENCE) -> str:
    """Return who a server takes us for; empty where it is not reached."""
    with contextlib.ExitStack() as stack:
        if netns is not None:
            stack.enter_context(in_network_namespace(netns))
        client = stack.enter_context(socket.socket(socket.AF_INET6))
        client.settimeout(patience)
        try:
            client.connect((address, port))
            return client.recv(100).decode()
        except OSError:
            return ""


class Server:
    """Tells each client its address."""

    def __init__(self, host: Any, netns: int | None, port: int = 80) -> None:
        with contextlib.ExitStack() as stack:
            if netns is not None:
                stack.enter_context(in_network_namespace(netns))
            self._listening = socket.create_server(("::", port), family=socket.AF_INET6)
        host.sockets.callback(self.close)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, peer = self._listening.accept()
            except OSError:
                return
            with client:
                client.sendall(peer[0].encode())

    def close(self) -> None:
        """End the thread."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listening.close()


@pytest.fixture
def outside(host: Any) -> int:
    """Give the host and its outside addresses of IPv6."""
    host.run("ip", "address", "add", f"{HOST}/64", "dev", "wan0", "nodad")
    host.run("ip", "route", "add", "default", "via", OUTSIDE)
    with in_network_namespace(host.outside):
        host.run("ip", "address", "add", f"{OUTSIDE}/64", "dev", "eth0", "nodad")
    netns: int = host.outside
    return netns


def test_a_network_gets_a_subnet_of_its_own(host: Any, driver: BridgeDriver) -> None:
    """A unique local one, the same whenever it is made anew; its bridge is the gateway."""
    made = driver.create_network(spec())
    four, six = made.subnets
    assert "." in four.subnet
    assert IPv6Network(six.subnet).subnet_of(IPv6Network("fd00::/8"))
    assert IPv6Network(six.subnet).prefixlen == 64
    assert six.gateway == str(IPv6Network(six.subnet)[1])
    other = driver.create_network(spec("other"))
    assert other.subnets[1].subnet != six.subnet
    assert driver.create_network(made) == made
    driver.remove_network(made)
    assert driver.create_network(spec()).subnets[1] == six
    shown = json.loads(host.run("ip", "-j", "-6", "address", "show", "dev", f"br-{spec().id[:12]}"))
    assert six.gateway in [one["local"] for one in shown[0]["addr_info"]]


def test_addresses_go_together(host: Any, driver: BridgeDriver) -> None:
    """With the same host part; at once usable; and none is given out twice."""
    subnets = (
        Subnet("10.9.0.0/24"),
        Subnet("fd00:9::/64", reserved=("fd00:9::3",)),
    )
    network = driver.create_network(spec(subnets=subnets))
    first = host.attach(driver, network).attachment.endpoint
    assert (first.address, first.address6) == ("10.9.0.2", "fd00:9::2")
    assert (first.prefix6, first.gateway6) == (64, "fd00:9::1")
    second = host.attach(driver, network)
    assert second.attachment.endpoint.address6 == "fd00:9::4"
    third = host.attach(driver, network, address6="fd00:9::5").attachment.endpoint
    assert (third.address, third.address6) == ("10.9.0.5", "fd00:9::5")
    asked = host.attach(driver, network, address6="fd00:9::7").attachment.endpoint
    assert asked.address == "10.9.0.6"
    after = host.attach(driver, network).attachment.endpoint
    assert after.address6 == "fd00:9::8"
    shown = host.inside(second, "-6", "address", "show", "dev", "eth0")[0]["addr_info"]
    assert [(one["local"], one.get("tentative")) for one in shown] == [("fd00:9::4", None)]
    routes = host.inside(second, "-6", "route")
    assert [one["gateway"] for one in routes if one["dst"] == "default"] == ["fd00:9::1"]


def test_addresses_of_a_range_are_given_in_turn(host: Any, driver: BridgeDriver) -> None:
    """Neither the gateway's nor a reserved one; whoever asks may have one outside of it."""
    subnets = (
        Subnet("10.9.0.0/24", ip_range="10.9.0.64/26"),
        Subnet("fd00:9::/64", ip_range="fd00:9::/125", reserved=("fd00:9::3", "fd00:9::4")),
    )
    network = driver.create_network(spec(subnets=subnets))
    assert [one.ip_range for one in network.subnets] == ["10.9.0.64/26", "fd00:9::/125"]
    first = host.attach(driver, network)
    assert first.attachment.endpoint.address == "10.9.0.64"
    assert first.attachment.endpoint.address6 == "fd00:9::2"
    given = [host.attach(driver, network).attachment.endpoint.address6 for _ in range(2)]
    assert given == ["fd00:9::5", "fd00:9::6"]
    asked = host.attach(driver, network, address6="fd00:9::99:1").attachment.endpoint
    assert asked.address6 == "fd00:9::99:1"
    last = host.attach(driver, network).attachment.endpoint
    assert last.address6 == "fd00:9::7"
    with pytest.raises(Conflict, match="no available IPv6 addresses"):
        host.attach(driver, network)
    driver.detach(first.request, first.netns)
    # The range's own first address is the subnet's; the one that was given back is free again.
    assert host.attach(driver, network).attachment.endpoint.address6 == "fd00:9::2"


def test_a_range_goes_on_after_a_restart(host: Any, driver: BridgeDriver) -> None:
    """What is held stays held, and the range is the same."""
    subnets = (Subnet("fd00:9::/64", ip_range="fd00:9::f0/124"),)
    network = driver.create_network(spec(subnets=subnets))
    kept = host.attach(driver, network)
    assert kept.attachment.endpoint.address6 == "fd00:9::f0"
    again = host.open()
    assert again.create_network(network) == network
    again.reconcile([(kept.request, kept.attachment.endpoint)])
    assert host.attach(again, network).attachment.endpoint.address6 == "fd00:9::f1"


def test_neighbours_and_the_outside_are_reached(
    host: Any, driver: BridgeDriver, outside: int
) -> None:
    """The outside sees the host's address, a neighbour one's own."""
    network = driver.create_network(spec())
    one, other = host.attach(driver, network), host.attach(driver, network)
    Server(host, other.netns)
    Server(host, outside)
    own = one.attachment.endpoint.address6
    assert reached(one.netns, other.attachment.endpoint.address6, 80) == own
    assert reached(one.netns, OUTSIDE, 80) == HOST
    gateway = one.attachment.endpoint.gateway6
    Server(host, None)
    assert reached(one.netns, gateway, 80) == own
    assert reached(None, other.attachment.endpoint.address6, 80) == gateway


def test_networks_and_the_outside_do_not_reach_in(
    host: Any, driver: BridgeDriver, outside: int
) -> None:
    """Not from another network, and not from outside though it knows the way."""
    lan, other = driver.create_network(spec()), driver.create_network(spec("other"))
    here, there = host.attach(driver, lan), host.attach(driver, other)
    Server(host, here.netns)
    inside = here.attachment.endpoint.address6
    assert reached(None, inside, 80)
    assert not reaches(there.netns, inside, 80)
    with in_network_namespace(outside):
        host.run("ip", "route", "add", lan.subnets[1].subnet, "via", HOST)
    assert not reaches(outside, inside, 80)


def test_an_internal_network_has_no_way_out(host: Any, driver: BridgeDriver, outside: int) -> None:
    """Neither a route nor, with one, a passage; neighbours are reached."""
    network = driver.create_network(spec(internal=True))
    one, other = host.attach(driver, network), host.attach(driver, network)
    assert one.attachment.endpoint.gateway6 == ""
    Server(host, outside)
    Server(host, other.netns)
    assert reached(one.netns, other.attachment.endpoint.address6, 80)
    gateway = network.subnets[1].gateway
    host.run_in(one.netns, "ip", "-6", "route", "add", "default", "via", gateway)
    assert not reaches(one.netns, OUTSIDE, 80)


def test_what_was_not_forwarded_before_stays_shut(
    host: Any, driver: BridgeDriver, outside: int
) -> None:
    """Turning forwarding on makes no router of the host for others; without networks it is off."""
    key = "/proc/sys/net/ipv6/conf/all/forwarding"
    assert Path(key).read_text() == "0\n"
    wan = Path("/proc/sys/net/ipv6/conf/wan0/accept_ra")
    assert wan.read_text() == "1\n"
    network = driver.create_network(spec())
    assert Path(key).read_text() == "1\n"
    assert wan.read_text() == "2\n"  # what is advertised to the host is heard as before
    neighbour = host.new_namespace()
    host.namespaces.append(neighbour)
    peer = f"/proc/{os.getpid()}/fd/{neighbour}"
    host.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", peer)
    host.run("ip", "address", "add", "2001:db8:2::1/64", "dev", "lan0", "nodad")
    host.run("ip", "link", "set", "lan0", "up")
    with in_network_namespace(neighbour):
        host.run("ip", "address", "add", "2001:db8:2::2/64", "dev", "eth0", "nodad")
        host.run("ip", "link", "set", "eth0", "up")
        host.run("ip", "route", "add", "default", "via", "2001:db8:2::1")
    with in_network_namespace(outside):
        host.run("ip", "route", "add", "default", "via", HOST)
    Server(host, outside)
    Server(host, None)
    assert reached(neighbour, HOST, 80)
    assert not reaches(neighbour, OUTSIDE, 80)
    driver.remove_network(network)
    assert Path(key).read_text() == "0\n"
    assert wan.read_text() == "1\n"
    assert "table ip6" not in host.ruleset()


def hears(host: Any, link: str, value: str = "") -> str:
    """Return whether a link takes routers' advertisements, after setting it where a value is given.

    1 is the kernel's default: yes, unless the host forwards; with 2 it does so in any case.
    """
    name = f"net/ipv6/conf/{link}/accept_ra"
    if value:
        host.set_sysctl(name, value)
    return (Path("/proc/sys") / name).read_text().strip()


def test_links_hear_routers_afterwards_as_before(host: Any, driver: BridgeDriver) -> None:
    """What an administrator chose for a link, before or meanwhile, is left to stand."""
    for name in ("lan0.5", "lan1", "lan2"):
        host.run("ip", "link", "add", name, "type", "bridge")
    hears(host, "lan1", "2")
    network = driver.create_network(spec())
    assert [hears(host, one) for one in ("wan0", "lan0.5", "lan1", "lan2")] == ["2"] * 4
    hears(host, "lan2", "0")
    host.run("ip", "link", "delete", "wan0")

    driver.remove_network(network)

    assert [hears(host, one) for one in ("lan0.5", "lan1", "lan2")] == ["1", "2", "0"]
    assert hears(host, "default") == "1"


def test_a_killed_daemon_leaves_no_link_hearing_routers(
    host: Any, driver: BridgeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it dies while it turns forwarding on, the next one takes it all back."""
    written: list[str] = []

    def die_at(number: int) -> None:
        def write(name: str, value: str) -> bool:
            if len(written) == number:
                raise KeyboardInterrupt
            written.append(name)
            return write_sysctl(name, value)

        monkeypatch.setattr("pannier_net_bridge.bridges.write_sysctl", write)

    links = [link.name for link in Path("/proc/sys/net/ipv6/conf").iterdir()]
    state = {link: hears(host, link) for link in links}
    for number in range(len(links) + 1):
        written.clear()
        die_at(number)
        with pytest.raises(KeyboardInterrupt):
            driver._forwarding6.turn_on()
        assert len(written) == number
        monkeypatch.undo()

        # One that is killed again, after it has gone on where the first one was.
        host.open()._forwarding6.turn_on()
        host.open()._forwarding6.restore()

        assert {link: hears(host, link) for link in links} == state
        assert Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text() == "0\n"
        assert not list((host.folder / "state").iterdir())


def test_a_restart_finds_everything_again(host: Any, driver: BridgeDriver) -> None:
    """Addresses stay held, rules come back, what nobody has goes."""
    network = driver.create_network(spec())
    kept, gone = host.attach(driver, network), host.attach(driver, network)
    endpoint = kept.attachment.endpoint
    host.run("nft", "flush", "ruleset")
    again = host.open()
    again.create_network(network)
    again.reconcile([(kept.request, endpoint)])
    assert f"table ip6 {host.config.table}" in host.ruleset()
    with pytest.raises(Conflict, match="already in use"):
        host.attach(again, network, address6=endpoint.address6)
    freed = gone.attachment.endpoint.address6
    assert host.attach(again, network, address6=freed).attachment.endpoint.address6 == freed
    Server(host, kept.netns)
    assert reached(None, endpoint.address6, 80)


def test_no_advertisements_are_heard(host: Any, driver: BridgeDriver) -> None:
    """Neither by the bridge nor by a container: a neighbour could make itself the way out."""
    network = driver.create_network(spec())
    container = host.attach(driver, network)
    bridge = f"br-{network.id[:12]}"
    assert Path(f"/proc/sys/net/ipv6/conf/{bridge}/accept_ra").read_text() == "0\n"
    inside = host.run_in(container.netns, "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra")
    assert inside == "0\n"


@pytest.mark.parametrize(
    "wishes",
    [{"address6": "fd00:9::9"}, {"address": "10.9.0.9"}],
    ids=["asked for", "that goes with the one asked for"],
)
def test_a_reserved_address_is_given_to_nobody(
    host: Any, driver: BridgeDriver, wishes: dict[str, str]
) -> None:
    """Nothing is held after the refusal: the IPv4 address can be had beside another of IPv6."""
    subnets = (Subnet("10.9.0.0/24"), Subnet("fd00:9::/64", reserved=("fd00:9::9",)))
    network = driver.create_network(spec(subnets=subnets))
    with pytest.raises(Conflict, match="Address already in use: fd00:9::9"):
        host.attach(driver, network, **wishes)
    assert host.leases() == {}
    endpoint = host.attach(
        driver, network, address="10.9.0.9", address6="fd00:9::8"
    ).attachment.endpoint
    assert (endpoint.address, endpoint.address6) == ("10.9.0.9", "fd00:9::8")


def test_a_failed_attach_gives_both_addresses_back(host: Any, driver: BridgeDriver) -> None:
    """Whichever of them could not be had."""
    network = driver.create_network(spec(subnets=(Subnet("fd00:9::/64"),)))
    host.attach(driver, network, address6="fd00:9::9")
    before = host.leases()
    with pytest.raises(Conflict, match="fd00:9::9"):
        host.attach(driver, network, address6="fd00:9::9")
    assert host.leases() == before
    # The IPv4 address that the second one was to have.
    third = str(IPv4Network(network.subnets[0].subnet)[3])
    assert host.attach(driver, network, address=third).attachment.endpoint.address == third


@pytest.mark.parametrize(
    ("network", "config", "error", "said"),
    [
        (spec(ipv6=False, subnets=(Subnet("fd00:9::/64"),)), {}, InvalidRequest, "--ipv6"),
        (spec(subnets=(Subnet("fd00:9::/120"),)), {}, InvalidRequest, "less room"),
        (spec(subnets=(Subnet("fd00:9::1/64"),)), {}, InvalidRequest, "host bits"),
        (spec(subnets=(Subnet("fd00:9::/64", "fd00::1"),)), {}, InvalidRequest, "not within"),
        (
            spec(subnets=(Subnet("fd00:8::/64"), Subnet("fd00:9::/64"))),
            {},
            Forbidden,
            "bridge driver doesn't support multiple subnets",
        ),
        (
            spec(subnets=(Subnet("fd00:9::/64", ip_range="fd00:8::/96"),)),
            {},
            InvalidRequest,
            "not within",
        ),
    ],
)
def test_what_is_not_offered_is_refused(
    host: Any, network: NetworkSpec, config: dict[str, Any], error: type[Exception], said: str
) -> None:
    """With the reason; nothing of it is left."""
    host.config = BridgeConfig(**config)
    driver = host.open()
    with pytest.raises(error) as caught:
        driver.create_network(network)
    assert said in f"{caught.value} {getattr(caught.value, 'hint', '')}"
    assert not any(name.startswith("br-") for name in host.links())


def test_overlapping_subnets_are_refused(driver: BridgeDriver) -> None:
    """With another network's."""
    driver.create_network(spec(subnets=(Subnet("fd00:9::/64"),)))
    with pytest.raises(Conflict, match="overlaps"):
        driver.create_network(spec("other", subnets=(Subnet("fd00:9::/48"),)))


@pytest.mark.parametrize("address", ["nonsense", "fd00:8::5", "fd00:9::1", "fd00:9::"])
def test_an_address_that_cannot_be_had(host: Any, driver: BridgeDriver, address: str) -> None:
    """Malformed, of another subnet, the gateway's, or the subnet's own."""
    network = driver.create_network(spec(subnets=(Subnet("fd00:9::/64"),)))
    with pytest.raises(InvalidRequest, match="IPv6 address"):
        host.attach(driver, network, address6=address)
    plain = driver.create_network(NetworkSpec("f" * 64, "plain"))
    with pytest.raises(UnsupportedOperation, match="has no IPv6"):
        host.attach(driver, plain, address6="fd00:9::5")


def test_the_steps_are_described(host: Any, driver: BridgeDriver) -> None:
    """Before and after; nothing is held by a description."""
    network = driver.create_network(spec(subnets=(Subnet("fd00:9::/64"),)))
    container = host.attach(driver, network)
    assert IPv6Address(container.attachment.endpoint.address6)
    plan = driver.plan_attach(container.request, None)
    said = [f"{step.action} {step.subject} {step.detail}" for step in plan.describe()]
    assert any("add route default via fd00:9::1" in line for line in said)
    driver.detach(container.request, container.netns)
    again = host.new_namespace()
    host.namespaces.append(again)
    attachment = Transaction().run(driver.plan_attach(container.request, again))
    assert attachment.endpoint.address6.startswith("fd00:9::")


def test_beside_a_closed_firewall(host: Any, driver: BridgeDriver, outside: int) -> None:
    """A foreign chain that drops what is forwarded gets an accept for this bridge only."""
    host.run("nft", "add", "table", "ip6", "filter")
    hook = "{ type filter hook forward priority 0; policy drop; }"
    host.run("nft", "add", "chain", "ip6", "filter", "FORWARD", hook)
    network = driver.create_network(spec())
    plain = driver.create_network(NetworkSpec("f" * 64, "plain"))
    container = host.attach(driver, network)
    Server(host, outside)
    assert reached(container.netns, OUTSIDE, 80) == HOST
    rules = host.run("nft", "list", "table", "ip6", "filter")
    assert rules.count(f"br-{network.id[:12]}") == 4
    assert f"br-{plain.id[:12]}" not in rules
    driver.remove_network(network)
    assert "br-" not in host.run("nft", "list", "table", "ip6", "filter")
