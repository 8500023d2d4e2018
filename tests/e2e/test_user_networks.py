"""Networks that users make: names, addresses, ways out, and what a crash of the daemon leaves."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pannier.dns.message import Record, answer, parse_query
from support.daemon import Daemon, leftovers
from support.dns import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PYTHON = ["--rootfs", "/"]
NAMES = 5
"""Seconds that any name is looked up in, at most."""


@pytest.fixture
def net(daemon: Daemon) -> Iterator[Daemon]:
    """Return a daemon with a network ``lan``, and remove the networks of the test."""
    daemon.cli("network", "create", "lan")
    yield daemon
    _clear(daemon)


def _clear(daemon: Daemon) -> None:
    found = daemon.cli("ps", "-aq").stdout.split()
    if found:
        daemon.cli("rm", "-f", "-v", *found)
    made = daemon.cli("network", "ls", "-q", "--filter", "type=custom").stdout.split()
    if made:
        daemon.cli("network", "rm", *made)


def network(daemon: Daemon, name: str) -> dict[str, Any]:
    """Return what ``network inspect`` says."""
    found: list[dict[str, Any]] = json.loads(daemon.cli("network", "inspect", name).stdout)
    return found[0]


def idle(daemon: Daemon, name: str, *flags: str) -> str:
    """Start a container that does nothing, by default on ``lan``; return its id."""
    if "--network" not in flags:
        flags = ("--network", "lan", *flags)
    done = daemon.cli("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")
    return done.stdout.strip()


def address(daemon: Daemon, container: str, network: str = "lan") -> str:
    """Return a container's address on a network."""
    found: str = daemon.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"]
    return found


def looked_up(daemon: Daemon, container: str, name: str, *, timeout: int = NAMES) -> list[str]:
    """Return the addresses that a container finds for a name; none where there is no such name."""
    command = ["timeout", str(timeout), "nslookup", "-type=a", name]
    text = daemon.cli("exec", container, *command, check=False).stdout
    _, _, answers = text.partition("Name:")
    return sorted(line.split()[1] for line in answers.splitlines() if line.startswith("Address"))


# Names.


def test_containers_find_one_another_by_name(net: Daemon) -> None:
    """By name, alias, short id and host name, with and without the network's name."""
    id = idle(net, "Db", "--network-alias", "store", "--hostname", "machine")
    idle(net, "web")
    wanted = [address(net, "Db")]
    for name in ("db", "DB", "store", id[:12], "machine", "db.lan", "store.lan"):
        assert looked_up(net, "web", name) == wanted, name
    assert looked_up(net, "Db", "db") == wanted
    text = net.cli("exec", "web", "cat", "/etc/resolv.conf").stdout
    assert text.startswith("nameserver 127.0.0.11\n")
    assert "ndots:0" in text
    names = net.inspect("Db")["NetworkSettings"]["Networks"]["lan"]["DNSNames"]
    assert names == ["Db", "store", id[:12], "machine"]


def test_the_c_library_finds_names_and_addresses(net: Daemon) -> None:
    """Forward, for both families at once, and backward; from the first instruction on."""
    idle(net, "db")
    script = (
        "import socket, json; at = socket.gethostbyname('db');"
        "every = {entry[4][0] for entry in socket.getaddrinfo('db', 80)};"
        "own = socket.gethostbyname('asking');"
        "print(json.dumps([at, sorted(every), socket.gethostbyaddr(at)[0], own]))"
    )
    flags = ["--rm", "--name", "asking", "--network", "lan", *PYTHON]
    done = net.cli("run", *flags, "/usr/bin/python3", "-c", script)
    at, every, name, own = json.loads(done.stdout)
    assert at == address(net, "db")
    assert every == [at]
    assert name == "db.lan"
    assert own not in ("", at)


def test_several_containers_behind_one_alias(net: Daemon) -> None:
    """All addresses are found, each of them first at times."""
    for number in range(3):
        idle(net, f"worker{number}", "--network-alias", "pool")
    script = (
        "import socket, json;"
        "print(json.dumps([socket.gethostbyname_ex('pool')[2] for _ in range(40)]))"
    )
    flags = ["--rm", "--network", "lan", *PYTHON]
    orders = json.loads(net.cli("run", *flags, "/usr/bin/python3", "-c", script).stdout)
    wanted = sorted(address(net, f"worker{number}") for number in range(3))
    assert all(sorted(order) == wanted for order in orders)
    assert {order[0] for order in orders} == set(wanted)


def test_names_follow_what_happens(net: Daemon) -> None:
    """Stop, start, rename, disconnect and connect: the next question is answered accordingly."""
    idle(net, "web")
    idle(net, "db")
    assert looked_up(net, "web", "db")
    net.cli("stop", "-t", "0", "db")
    assert not looked_up(net, "web", "db", timeout=1)
    net.cli("start", "db")
    assert looked_up(net, "web", "db")
    net.cli("rename", "db", "base")
    assert looked_up(net, "web", "base")
    assert not looked_up(net, "web", "db", timeout=1)
    net.cli("network", "disconnect", "lan", "base")
    assert not looked_up(net, "web", "base", timeout=1)
    net.cli("network", "connect", "--alias", "again", "lan", "base")
    assert looked_up(net, "web", "again") == looked_up(net, "web", "base") != []


def test_a_container_that_has_left_all_networks(net: Daemon) -> None:
    """It finds nobody from then on; started again it still talks to itself, and can come back."""
    idle(net, "hermit")
    idle(net, "db")
    assert looked_up(net, "hermit", "db") == [address(net, "db")]
    net.cli("network", "disconnect", "lan", "hermit")
    assert not looked_up(net, "hermit", "db", timeout=1)
    assert net.inspect("hermit")["NetworkSettings"]["Networks"] == {}
    net.cli("restart", "-t", "0", "hermit")
    assert net.inspect("hermit")["NetworkSettings"]["Networks"] == {}
    net.cli("exec", "hermit", "ping", "-c", "1", "-w", "5", "127.0.0.1")
    net.cli("network", "connect", "lan", "hermit")
    assert looked_up(net, "hermit", "hermit") == [address(net, "hermit")]


def test_networks_keep_to_themselves(net: Daemon) -> None:
    """Neither names nor packets pass from one to another; a container in both sees both."""
    net.cli("network", "create", "other")
    idle(net, "here")
    idle(net, "there", "--network", "other")
    idle(net, "both", "--network", "lan", "--network", "other")
    assert not looked_up(net, "here", "there", timeout=1)
    assert looked_up(net, "both", "there") == [address(net, "there", "other")]
    assert looked_up(net, "both", "here") == [address(net, "here")]
    ping = ["ping", "-c", "1", "-W", "1"]
    blocked = net.cli("exec", "here", *ping, address(net, "there", "other"), check=False)
    assert blocked.returncode == 1
    net.cli("exec", "both", *ping, "there")
    net.cli("exec", "both", *ping, "here")


def test_the_default_bridge_has_no_names(net: Daemon) -> None:
    """Until a container of it is connected to a network of a user's, which it then asks."""
    idle(net, "db")
    idle(net, "old", "--network", "bridge")
    text = net.cli("exec", "old", "cat", "/etc/resolv.conf").stdout
    assert "127.0.0.11" not in text
    refused = net.cli(
        "run", "--network", "bridge", "--network-alias", "x", "busybox", "true", check=False
    )
    assert refused.returncode == 125
    net.cli("network", "connect", "lan", "old")
    text = net.cli("exec", "old", "cat", "/etc/resolv.conf").stdout
    assert text.startswith("nameserver 127.0.0.11\n")
    assert looked_up(net, "old", "db") == [address(net, "db")]
    assert looked_up(net, "db", "old") == [address(net, "old")]


def test_links_on_a_network_of_a_users(net: Daemon) -> None:
    """A name for one container alone, and the other may come later."""
    # A name that cannot be the beginning of an id.
    idle(net, "web", "--link", "mysql:store")
    idle(net, "other")
    idle(net, "mysql")
    assert looked_up(net, "web", "store") == [address(net, "mysql")]
    assert not looked_up(net, "other", "store", timeout=1)


def test_a_joined_network_has_its_names(net: Daemon) -> None:
    """``--network container:NAME``: the same server answers."""
    idle(net, "db")
    flags = ["--rm", "--network", "container:db"]
    done = net.cli("run", *flags, "busybox", "nslookup", "-type=a", "db")
    assert address(net, "db") in done.stdout


# Other servers.


def _found(at: str) -> Any:
    return lambda data, _: answer(parse_query(data), [Record.address(at, 9)])


def test_other_names_are_asked_for_at_the_given_server(net: Daemon) -> None:
    """``--dns``: from the container's own address, over UDP and TCP."""
    gateway = network(net, "lan")["IPAM"]["Config"][0]["Gateway"]
    with net.inside():
        upstream = serving(gateway, _found("203.0.113.5"))
        server = upstream.__enter__()
    try:
        idle(net, "web", "--dns", gateway, "--dns-search", "corp.example")
        assert looked_up(net, "web", "example.org") == ["203.0.113.5"]
        script = (
            "import socket, struct;"
            "q = bytes.fromhex('00070100000100000000000003777777046578616d00')[:12]"
            "+ b'\\3www\\4exam\\0\\0\\1\\0\\1';"
            "s = socket.create_connection(('127.0.0.11', 53), 5);"
            "s.sendall(struct.pack('>H', len(q)) + q); print(s.recv(500).hex())"
        )
        flags = ["--rm", "--network", "lan", "--dns", gateway, *PYTHON]
        done = net.cli("run", *flags, "/usr/bin/python3", "-c", script)
        assert bytes((203, 0, 113, 5)).hex() in done.stdout
        assert [by_tcp for _, by_tcp in server.asked] == [False, True]
        assert "search corp.example" in net.cli("exec", "web", "cat", "/etc/resolv.conf").stdout
    finally:
        with net.inside():
            upstream.__exit__(None, None, None)


def test_nothing_leaves_an_internal_network(net: Daemon) -> None:
    """No question is passed on, there is no way out; names within are found."""
    net.cli("network", "create", "--internal", "closed")
    gateway = network(net, "closed")["IPAM"]["Config"][0]["Gateway"]
    with net.inside():
        upstream = serving(gateway, _found("203.0.113.5"))
        server = upstream.__enter__()
    try:
        idle(net, "db", "--network", "closed")
        idle(net, "web", "--network", "closed", "--dns", gateway)
        assert looked_up(net, "web", "db") == [address(net, "db", "closed")]
        assert not looked_up(net, "web", "example.org", timeout=2)
        assert server.asked == []
        assert "default" not in net.cli("exec", "web", "ip", "route").stdout
    finally:
        with net.inside():
            upstream.__exit__(None, None, None)


# Addresses and ways out.


def test_addresses_are_what_was_asked_for(daemon: Daemon) -> None:
    """Subnet, range, gateway, reserved addresses with their names, static addresses, MAC."""
    try:
        plan = ["--subnet", "10.77.0.0/24", "--ip-range", "10.77.0.128/29"]
        plan += ["--gateway", "10.77.0.254", "--aux-address", "router=10.77.0.129"]
        labels = ["--label", "a=1", "-o", "com.docker.network.driver.mtu=1400", "--attachable"]
        daemon.cli("network", "create", *plan, *labels, "lan")
        (config,) = network(daemon, "lan")["IPAM"]["Config"]
        assert config == {
            "Subnet": "10.77.0.0/24",
            "IPRange": "10.77.0.128/29",
            "Gateway": "10.77.0.254",
            "AuxiliaryAddresses": {"router": "10.77.0.129"},
        }
        idle(daemon, "any")
        assert address(daemon, "any").startswith("10.77.0.1")
        assert address(daemon, "any") != "10.77.0.129"
        long = "name=lan,ip=10.77.0.9,alias=nine,mac-address=02:42:00:00:00:99"
        idle(daemon, "static", "--network", long)
        assert address(daemon, "static") == "10.77.0.9"
        assert looked_up(daemon, "any", "nine") == ["10.77.0.9"]
        assert "02:42:00:00:00:99" in daemon.cli("exec", "static", "ip", "link").stdout
        assert "mtu 1400" in daemon.cli("exec", "static", "ip", "link", "show", "eth0").stdout
        members = network(daemon, "lan")["Containers"].values()
        assert sorted(one["Name"] for one in members) == ["any", "static"]
        for flags, said in (
            (["--ip", "10.77.0.9"], "already in use"),
            (["--ip", "10.78.0.9"], "no configured subnet contains"),
        ):
            refused = daemon.cli(
                "run", "--rm", "--network", "lan", *flags, "busybox", "true", check=False
            )
            assert refused.returncode == 125
            assert said in refused.stderr
    finally:
        _clear(daemon)


def _way_out(daemon: Daemon, container: str) -> str:
    text = daemon.cli("exec", container, "ip", "route").stdout
    return next((line.split()[2] for line in text.splitlines() if "default" in line), "")


def test_which_network_leads_out(net: Daemon) -> None:
    """The highest priority, else the first by name; and it moves when networks come and go."""
    net.cli("network", "create", "alpha")
    net.cli("network", "create", "zeta")
    gateways = {
        name: network(net, name)["IPAM"]["Config"][0]["Gateway"]
        for name in ("alpha", "lan", "zeta")
    }
    idle(net, "web", "--network", "zeta", "--network", "lan")
    assert _way_out(net, "web") == gateways["lan"]
    net.cli("network", "connect", "alpha", "web")
    assert _way_out(net, "web") == gateways["alpha"]
    net.cli("network", "disconnect", "alpha", "web")
    assert _way_out(net, "web") == gateways["lan"]
    net.cli("network", "disconnect", "lan", "web")
    assert _way_out(net, "web") == gateways["zeta"]
    idle(net, "other", "--network", "name=zeta,gw-priority=1", "--network", "lan")
    assert _way_out(net, "other") == gateways["zeta"]


def test_a_network_with_ipv6(daemon: Daemon) -> None:
    """Names lead to both addresses, neighbours answer on both; and an address may be chosen."""
    try:
        subnet = ["--ipv6", "--subnet", "fd00:77::/64"]
        daemon.cli("network", "create", *subnet, "six")
        idle(daemon, "db", "--network", "six", "--ip6", "fd00:77::99")
        idle(daemon, "web", "--network", "six")
        text = daemon.cli("exec", "web", "nslookup", "-type=aaaa", "db").stdout
        assert "fd00:77::99" in text
        assert looked_up(daemon, "web", "db") == [address(daemon, "db", "six")]
        for version in ("-4", "-6"):
            daemon.cli("exec", "web", "ping", version, "-c", "1", "-W", "2", "db")
        reverse = daemon.cli("exec", "web", "nslookup", "fd00:77::99").stdout
        assert "db.six" in reverse
        text = daemon.cli("exec", "db", "cat", "/etc/hosts").stdout
        assert "fd00:77::99" in text
        found = daemon.inspect("db")["NetworkSettings"]["Networks"]["six"]
        assert (found["GlobalIPv6Address"], found["IPv6Gateway"]) == ("fd00:77::99", "fd00:77::1")
        assert network(daemon, "six")["EnableIPv6"]
        made = daemon.cli("network", "create", "--subnet", "fd00:78::1/64", "x")
        assert made.stderr == (
            "WARNING: The subnet fd00:78::1/64 is not used: the network has no IPv6.\n"
        )
        found = network(daemon, "x")
        assert not found["EnableIPv6"]
        assert found["IPAM"]["Config"][1:] == [{"Subnet": "fd00:78::1/64"}]
    finally:
        _clear(daemon)


# Keeping networks.


def test_a_network_in_use_stays(net: Daemon) -> None:
    """With Docker's words; and what cannot be made says so."""
    idle(net, "web")
    for arguments, said in (
        (["rm", "lan"], "has active endpoints"),
        (["rm", "bridge"], "is a pre-defined network and cannot be removed"),
        (["create", "lan"], "network with name lan already exists"),
        (["create", "bridge"], "not permitted on predefined bridge network"),
        (["create", "default"], "not permitted on predefined default network"),
        (["create", "--driver", "nonesuch", "x"], "could not find plugin nonesuch"),
        (["create", "--scope", "swarm", "x"], "when swarm is not active"),
        (["create", "--scope", "global", "x"], "This node is not a swarm manager."),
        (["connect", "lan", "web"], "already exists in network lan"),
    ):
        done = net.cli("network", *arguments, check=False)
        assert done.returncode == 1, arguments
        assert said in done.stderr


def test_prune_takes_what_nobody_uses(net: Daemon) -> None:
    """By label and age."""
    idle(net, "web")
    for name in ("spare", "kept"):
        net.cli("network", "create", "--label", f"name={name}", name)
    net.cli("network", "prune", "-f", "--filter", "until=1h")
    net.cli("network", "prune", "-f", "--filter", "label!=name=kept")
    names = net.cli("network", "ls", "--format", "{{.Name}}", "--filter", "type=custom").stdout
    assert sorted(names.split()) == ["kept", "lan"]


# A crash.


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_names_outlive_the_daemon(own_daemon: Daemon, how: str) -> None:
    """What is asked while no daemon runs is answered by the next one; so is what comes later."""
    try:
        own_daemon.cli("network", "create", "lan")
        idle(own_daemon, "db")
        idle(own_daemon, "web")
        idle(own_daemon, "late", "--network", "bridge")
        own_daemon.cli("network", "connect", "lan", "late")
        pid = own_daemon.inspect("web")["State"]["Pid"]
        wanted = address(own_daemon, "db")
        getattr(own_daemon, how)()
        query = subprocess.Popen(
            ["nsenter", f"--net=/proc/{pid}/ns/net", "/usr/bin/python3", "-c", _ASK],
            stdout=subprocess.PIPE,
            text=True,
        )
        own_daemon.start()
        said, _ = query.communicate(timeout=30)
        assert said.strip() == wanted
        assert looked_up(own_daemon, "db", "web") == [address(own_daemon, "web")]
        # Its sockets were made while it ran, and nobody kept them: there are new ones.
        assert looked_up(own_daemon, "late", "db") == [wanted]
    finally:
        _clear(own_daemon)


def test_names_in_user_namespaces(busybox: Path) -> None:
    """Where the container's root is nobody on the host, too."""
    daemon = Daemon(engine='userns_remap = "100000:100000:65536"')
    try:
        daemon.start()
        daemon.cli("load", "-i", str(busybox))
        daemon.cli("network", "create", "lan")
        idle(daemon, "db")
        idle(daemon, "web")
        assert "100000" in daemon.cli("exec", "web", "cat", "/proc/self/uid_map").stdout
        assert looked_up(daemon, "web", "db") == [address(daemon, "db")]
    finally:
        daemon.close()
    assert leftovers(daemon) == []


_ASK = """
import socket
with socket.socket(type=socket.SOCK_DGRAM) as client:
    client.settimeout(60)
    client.connect(("127.0.0.11", 53))
    client.send(bytes.fromhex("000701000001000000000000") + b"\\2db\\0\\0\\1\\0\\1")
    print(socket.inet_ntoa(client.recv(500)[-4:]))
"""
