"""Beside other firewalls: Docker's, ufw's, firewalld's ways of dropping forwarded packets."""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.base import DriverContext
from pannier.drivers.network import NetworkSpec, PortRequest
from pannier.errors import ConfigError, DriverUnavailable
from pannier.linux import nftlist
from pannier.linux.netlink import NETFILTER, NetlinkSocket
from pannier_net_bridge.config import BridgeConfig
from pannier_net_bridge.driver import BridgeDriver

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root

PREDEFINED = NetworkSpec("bridge", "bridge")

FOREIGN = {
    "a chain of policy drop": (
        "table inet strict { chain forward {"
        " type filter hook forward priority filter; policy drop;"
        " ct state invalid drop; }\n}"
    ),
    "a chain that rejects at its end": (
        "table inet firewalld { chain filter_FORWARD {"
        " type filter hook forward priority filter + 10; policy accept;"
        ' iifname "lo" accept; reject with icmpx admin-prohibited; }\n}'
    ),
    "a chain that drops at its end": (
        "table ip mine { chain forward {"
        " type filter hook forward priority filter; policy accept; counter drop; }\n}"
    ),
}


def need(program: str) -> None:
    """Skip without a program."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here: apt-get install iptables")


def works(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """Check the way out, and the way in by a published port."""
    container = host.attach(driver, network, ports=(PortRequest(80, host_ports=(8080, 8080)),))
    neighbour = host.attach(driver, network)
    server = host.listen(container.netns, 80)
    assert host.talk(server, host.outside, "198.51.100.1", 8080)
    assert host.talk(server, None, "127.0.0.1", 8080)
    assert host.talk(server, neighbour.netns, container.address, 80)
    assert host.talk(host.listen(host.outside, 80), container.netns, "198.51.100.2", 80)


@pytest.mark.parametrize("rules", FOREIGN.values(), ids=FOREIGN)
def test_beside_an_nft_firewall(host: Any, driver: BridgeDriver, rules: str) -> None:
    """An accept for our bridge is added to the foreign chain, and taken out again."""
    host.run("nft", rules)
    before = host.ruleset()

    spec = driver.create_network(PREDEFINED)

    works(host, driver, spec)
    assert host.ruleset().count('comment "pannier:pannier0"') == 2
    driver.create_network(spec)
    assert host.ruleset().count('comment "pannier:pannier0"') == 2
    driver.remove_network(spec)
    assert host.ruleset() == before


def test_only_our_bridges_are_let_through(host: Any, driver: BridgeDriver) -> None:
    """Others' forwarded packets are dropped by the foreign chain as before."""
    host.run("nft", FOREIGN["a chain of policy drop"])
    host.run("sysctl", "-q", "net.ipv4.ip_forward=1")
    driver.create_network(PREDEFINED)
    other = host.new_namespace()
    host.namespaces.append(other)
    peer = f"/proc/{os.getpid()}/fd/{other}"
    host.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1", "netns", peer)
    host.run("ip", "address", "add", "203.0.113.1/24", "dev", "lan0")
    host.run("ip", "link", "set", "lan0", "up")
    host.run_in(other, "ip", "address", "add", "203.0.113.2/24", "dev", "lan1")
    host.run_in(other, "ip", "link", "set", "lan1", "up")
    host.run_in(other, "ip", "route", "add", "default", "via", "203.0.113.1")
    host.run_in(host.outside, "ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.1")
    host.listen(host.outside, 80)

    assert host.misses(other, "198.51.100.2", 80)


def test_a_firewall_that_comes_later(host: Any, driver: BridgeDriver, network: NetworkSpec) -> None:
    """Rules that were loaded after ours are met by the next container."""
    host.run("nft", FOREIGN["a chain of policy drop"])

    works(host, driver, network)


def saved(host: Any, program: str = "iptables") -> list[str]:
    """Return the rules that iptables knows, table by table, without their comments and counters."""
    lines = host.run(f"{program}-save").splitlines() if shutil.which(program) else []
    return sorted(line for line in lines if not line.startswith(("#", ":")))


@pytest.mark.parametrize(
    ("firewall", "flush"),
    [
        ("nftables", "nft flush ruleset"),
        ("iptables", "nft flush ruleset"),
        ("iptables", "iptables -t filter -F"),
        ("iptables", "iptables -t nat -F"),
        ("iptables", "iptables -t raw -F"),
    ],
)
def test_a_flush_of_all_rules_is_mended(host: Any, firewall: str, flush: str) -> None:
    """Ports of running containers come back by themselves, and the way out too."""
    if firewall == "iptables":
        need("iptables")
    driver = host.open(firewall=firewall)
    spec = driver.create_network(PREDEFINED)
    container = host.attach(driver, spec, ports=(PortRequest(80, host_ports=(8080, 8080)),))
    server, outside = host.listen(container.netns, 80), host.listen(host.outside, 80)
    before = saved(host)

    for _ in range(2):
        host.run(*flush.split())
        host.wait_until(lambda: saved(host) == before)
        host.wait_until(lambda: "8080" in host.ruleset() and "PANNIER" in host.ruleset().upper())
        host.wait_until(driver._firewall.present)
        assert host.talk(server, host.outside, "198.51.100.1", 8080)
        assert host.talk(outside, container.netns, "198.51.100.2", 80)


@pytest.mark.parametrize("table", ["nat", "raw", "filter"])
def test_the_next_container_mends_a_flush_that_nobody_heard_of(host: Any, table: str) -> None:
    """Where the kernel announces no change, as of the old iptables, each attach looks itself."""
    need("iptables")
    driver = host.open(firewall="iptables")
    spec = driver.create_network(NetworkSpec("bridge", "bridge", ipv6=True))
    host.attach(driver, spec, ports=(PortRequest(80, host_ports=(8080, 8080)),))
    assert driver._watch is not None
    driver._watch.close()
    driver._watch = None
    before = saved(host), saved(host, "ip6tables")

    for program in ("iptables", "ip6tables"):
        host.run(program, "-t", table, "-F")
        host.attach(driver, spec)
        assert (saved(host), saved(host, "ip6tables")) == before


def test_a_reload_of_a_foreign_firewall_is_mended(host: Any, driver: BridgeDriver) -> None:
    """Our accept comes back into a chain that was emptied or made anew."""
    host.run("nft", FOREIGN["a chain of policy drop"])
    driver.create_network(PREDEFINED)

    host.run("nft", "flush", "chain", "inet", "strict", "forward")
    host.wait_until(lambda: host.ruleset().count('comment "pannier:pannier0"') == 2)
    host.run("nft", "delete", "table", "inet", "strict")
    host.run("nft", FOREIGN["a chain of policy drop"])
    host.wait_until(lambda: host.ruleset().count('comment "pannier:pannier0"') == 2)


def test_a_change_that_comes_while_we_look_is_seen(
    host: Any, driver: BridgeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for looked at: the accept that it took away comes back."""
    host.run("nft", FOREIGN["a chain of policy drop"])
    driver.create_network(PREDEFINED)
    look, late = driver._accept_elsewhere, [("nft", "flush", "chain", "inet", "strict", "forward")]

    def look_too_early(networks: Any) -> None:
        look(networks)
        if late:
            host.run(*late.pop())

    monkeypatch.setattr(driver, "_accept_elsewhere", look_too_early)
    host.run("nft", "add", "table", "inet", "another")
    host.wait_until(lambda: not late)
    host.wait_until(lambda: host.ruleset().count('comment "pannier:pannier0"') == 2)


def test_two_watchers_come_to_rest(host: Any) -> None:
    """What one mends is no reason for the other to mend: the rules stay as they are then."""
    drivers = [
        host.open(bridge="box1", table="box1", subnet="10.1.0.0/24"),
        host.open(bridge="box2", table="box2", subnet="10.2.0.0/24", second=True),
    ]
    for driver in drivers:
        driver.create_network(PREDEFINED)
    host.run("nft", FOREIGN["a chain of policy drop"])
    strict = ("nft", "list", "table", "inet", "strict")
    host.wait_until(lambda: host.run(*strict).count('comment "pannier:box') == 4)
    calls = []
    for driver in drivers:
        driver._firewall.set_up = lambda *_, **__: calls.append(1)

    seen = set()
    for _ in range(10):
        with NetlinkSocket(NETFILTER) as netlink:
            seen.add(nftlist.generation(netlink))
        threading.Event().wait(0.1)

    assert len(seen) <= 2
    assert calls == []


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_beside_iptables_policy_drop(host: Any, driver: BridgeDriver, program: str) -> None:
    """Docker and ufw set FORWARD to DROP: our accept goes in first, and iptables can read it."""
    need(program)
    host.run(program, "-P", "FORWARD", "DROP")
    before = host.run(program, "-S")

    spec = driver.create_network(PREDEFINED)

    works(host, driver, spec)
    rules = host.run(program, "-S", "FORWARD").splitlines()
    assert any("-i pannier0" in rule and "-j ACCEPT" in rule for rule in rules)
    assert any("-o pannier0" in rule and "-j ACCEPT" in rule for rule in rules)
    count = len(rules)
    driver.create_network(spec)
    assert len(host.run(program, "-S", "FORWARD").splitlines()) == count
    driver.remove_network(spec)
    assert host.run(program, "-S") == before


def test_the_iptables_backend(host: Any) -> None:
    """All the same with rules of the iptables program, in chains of our own; none stay."""
    need("iptables")
    before = [host.run("iptables", "-t", table, "-S") for table in ("raw", "nat", "filter")]
    driver = host.open(firewall="iptables")
    spec = driver.create_network(PREDEFINED)

    works(host, driver, spec)
    again = host.open(firewall="iptables")
    again.create_network(spec)
    rules = host.run("iptables", "-t", "nat", "-S").splitlines()
    assert rules.count("-A PREROUTING -m addrtype --dst-type LOCAL -j PANNIER") == 1
    assert sum("--dport 8080" in rule for rule in rules) == 1
    for container in host.containers:
        again.detach(container.request, container.netns)
    assert "--dport" not in host.run("iptables", "-t", "nat", "-S")
    again.remove_network(spec)
    after = [host.run("iptables", "-t", table, "-S") for table in ("raw", "nat", "filter")]
    assert after == before


def test_the_iptables_backend_isolates(host: Any) -> None:
    """Networks do not meet, internal ones do not leave, the outside does not come in."""
    need("iptables")
    driver = host.open(firewall="iptables")
    one = host.attach(driver, driver.create_network(PREDEFINED))
    inner = host.attach(driver, driver.create_network(NetworkSpec("f" * 64, "in", internal=True)))
    for netns in (one.netns, inner.netns, host.outside):
        host.listen(netns, 80)
    host.run_in(host.outside, "ip", "route", "add", "172.16.0.0/12", "via", "198.51.100.1")
    host.run_in(inner.netns, "ip", "route", "add", "default", "via", "172.18.0.1")

    assert host.misses(one.netns, inner.address, 80)
    assert host.misses(inner.netns, one.address, 80)
    assert host.misses(inner.netns, "198.51.100.2", 80)
    assert host.misses(host.outside, one.address, 80)
    assert host.reaches(one.netns, "198.51.100.2", 80)


@pytest.mark.parametrize("firewall", ["nftables", "iptables"])
def test_probing_works_and_leaves_nothing(host: Any, tmp_path: Path, firewall: str) -> None:
    """The probe finds that the driver works, and the host is as it was."""
    if firewall == "iptables":
        need("iptables")
    links, rules = host.links(), host.ruleset()

    BridgeDriver.probe(DriverContext(tmp_path, tmp_path), BridgeConfig(firewall=firewall))

    assert (host.links(), host.ruleset()) == (links, rules)


def test_probing_says_what_is_missing(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the program, or with an unknown name, there is a reason and a hint."""
    del host
    context = DriverContext(tmp_path, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DriverUnavailable, match="iptables-restore is not here") as caught:
        BridgeDriver.probe(context, BridgeConfig(firewall="iptables"))
    assert "nftables" in (caught.value.hint or "")
    with pytest.raises((ConfigError, DriverUnavailable), match="pf"):
        BridgeDriver.probe(context, BridgeConfig(firewall="pf"))


def test_nothing_but_netlink_is_needed(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without ip, nft and iptables has bridge networks all the same."""
    path = str(host.folder)
    with monkeypatch.context() as bare:
        bare.setenv("PATH", path)
        driver = host.open()
        spec = driver.create_network(PREDEFINED)
        container = host.attach(driver, spec, ports=(PortRequest(80, host_ports=(8080, 8080)),))
    assert host.talk(host.listen(container.netns, 80), host.outside, "198.51.100.1", 8080)


def test_the_diagnosis_names_what_is_in_the_way(host: Any, driver: BridgeDriver) -> None:
    """Nothing where all is well; else the chain, the link or the setting, with what to do."""
    host.run("sysctl", "-q", "net.ipv4.ip_forward=1")
    spec = driver.create_network(PREDEFINED)
    assert driver.diagnose() == []
    # Nobody mends meanwhile what is to be found.
    assert driver._watch is not None
    driver._watch.close()
    driver._watch = None

    host.run("nft", FOREIGN["a chain of policy drop"])
    ((message, hint),) = driver.diagnose()
    assert "the chain forward of the table strict" in message
    assert hint
    host.run("ip", "link", "set", "pannier0", "down")
    host.run("sysctl", "-q", "net.ipv4.ip_forward=0")
    assert len(driver.diagnose()) == 3
    driver.create_network(spec)
    ((message, _),) = driver.diagnose()
    assert "containers only" in message
