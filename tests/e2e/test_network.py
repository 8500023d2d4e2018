"""Published ports, names and addresses, as users see them."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.daemon import Daemon

SERVE = "while :; do echo served | nc -l -p 80; done"
SERVE_UDP = """
import socket
with socket.socket(type=socket.SOCK_DGRAM) as server:
    server.bind(("", 53))
    while True:
        server.sendto(*server.recvfrom(100))
"""


def fetch(daemon: Daemon, host: str, port: int, tries: int = 50) -> str:
    """Return what a server sends; tried until it listens."""
    for _ in range(tries):
        with daemon.inside(), contextlib.suppress(OSError), socket.socket() as client:
            client.settimeout(2)
            client.connect((host, port))
            data = client.recv(100).decode()
            if data:
                return data
        time.sleep(0.05)  # the server inside gives no sign when it listens
    return ""


def test_a_published_port_answers_on_loopback_and_address(daemon: Daemon) -> None:
    """From the host, on 127.0.0.1 and on the bridge's address."""
    daemon.cli("run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", SERVE)
    assert fetch(daemon, "127.0.0.1", 8080) == "served\n"
    gateway = daemon.inspect("web")["NetworkSettings"]["Gateway"]
    assert fetch(daemon, gateway, 8080) == "served\n"
    assert daemon.cli("port", "web").stdout.startswith("80/tcp -> 0.0.0.0:8080")


def test_a_published_port_answers_by_hairpin(daemon: Daemon) -> None:
    """From the container itself and from another one, by the host's address."""
    daemon.cli("run", "-d", "--name", "hairpin", "-p", "8081:80", "busybox", "sh", "-c", SERVE)
    gateway = daemon.inspect("hairpin")["NetworkSettings"]["Gateway"]
    assert fetch(daemon, "127.0.0.1", 8081) == "served\n"
    for target in (["exec", "hairpin"], ["run", "--rm", "busybox"]):
        script = f"nc -w 2 {gateway} 8081 </dev/null"
        assert daemon.cli(*target, "sh", "-c", script).stdout == "served\n"


def test_a_taken_port_is_a_clear_error(daemon: Daemon) -> None:
    """The second container does not start, and the first one goes on."""
    daemon.cli("run", "-d", "-p", "8082:80", "busybox", "sh", "-c", SERVE)
    done = daemon.cli("run", "-d", "-p", "8082:80", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "8082" in done.stderr
    assert fetch(daemon, "127.0.0.1", 8082) == "served\n"


def test_a_port_taken_on_the_host_is_a_clear_error(daemon: Daemon) -> None:
    """Not only other containers count."""
    with daemon.inside():
        taken = socket.create_server(("127.0.0.1", 8083))
    with taken:
        done = daemon.cli("run", "-d", "-p", "8083:80", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "8083" in done.stderr


def test_containers_reach_one_another(daemon: Daemon) -> None:
    """By address, over the bridge."""
    daemon.cli("run", "-d", "--name", "first", "busybox", "sh", "-c", SERVE)
    address = daemon.inspect("first")["NetworkSettings"]["IPAddress"]
    script = (
        f"for i in 1 2 3 4 5 6 7 8 9; do nc -w 1 {address} 80 </dev/null && break; sleep 0.1; done"
    )
    assert daemon.cli("run", "--rm", "busybox", "sh", "-c", script).stdout == "served\n"


def test_a_random_port_is_published(daemon: Daemon) -> None:
    """``-P`` publishes what the image or ``--expose`` names."""
    daemon.cli(
        "run", "-d", "--name", "random", "-P", "--expose", "80", "busybox", "sh", "-c", SERVE
    )
    port = int(daemon.cli("port", "random", "80/tcp").stdout.split()[0].rpartition(":")[2])
    assert fetch(daemon, "127.0.0.1", port) == "served\n"


def test_udp_is_published(daemon: Daemon) -> None:
    """A datagram comes back."""
    command = ["/usr/bin/python3", "-c", SERVE_UDP]
    daemon.cli("run", "-d", "-p", "8053:53/udp", "--rootfs", "/", *command)
    answer = b""
    for _ in range(30):
        with daemon.inside(), socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(0.3)
            client.sendto(b"ping", ("127.0.0.1", 8053))
            with contextlib.suppress(OSError):
                answer = client.recv(100)
                break
    assert answer == b"ping"


def test_a_published_port_moves_with_the_way_out(daemon: Daemon) -> None:
    """Networks come and go, also the last one and with the daemon killed; it answers as before."""
    for name in ("far", "near"):
        daemon.cli("network", "create", name)
    try:
        flags = ("--network", "near", "-p", "8085:80")
        daemon.cli("run", "-d", "--name", "mover", *flags, "busybox", "sh", "-c", SERVE)
        for step, network in (
            *(("connect", "far"), ("disconnect", "near"), ("connect", "near")),
            *(("disconnect", "far"), ("disconnect", "near"), ("connect", "far")),
        ):
            daemon.cli("network", step, network, "mover")
            if (step, network) == ("disconnect", "near"):
                daemon.kill()
                daemon.start()
            shown = daemon.cli("port", "mover").stdout
            alone = not daemon.inspect("mover")["NetworkSettings"]["Networks"]
            assert shown == ("" if alone else "80/tcp -> 0.0.0.0:8085\n"), (step, network)
            if not alone:
                assert fetch(daemon, "127.0.0.1", 8085) == "served\n", (step, network)
    finally:
        daemon.cli("rm", "-f", "mover")
        daemon.cli("network", "rm", "far", "near")


def test_another_containers_network_is_joined(daemon: Daemon) -> None:
    """Same namespace, same addresses; and publishing is refused there."""
    daemon.cli("run", "-d", "--name", "first", "busybox", "sleep", "100")
    link = "readlink /proc/self/ns/net"
    shared = daemon.cli("run", "--rm", "--network", "container:first", "busybox", "sh", "-c", link)
    assert shared.stdout == daemon.cli("exec", "first", "sh", "-c", link).stdout
    refused = daemon.cli(
        "run", "--rm", "--network", "container:first", "-p", "1:1", "busybox", "true", check=False
    )
    assert refused.returncode == 125


def test_the_files_of_the_network_are_written(daemon: Daemon) -> None:
    """Hosts names the container; --add-host and --dns are honoured."""
    script = "cat /etc/hosts /etc/resolv.conf; hostname"
    flags = ["--add-host", "other:10.9.8.7", "--dns", "10.1.1.1", "--hostname", "me"]
    text = daemon.cli("run", "--rm", *flags, "busybox", "sh", "-c", script).stdout
    assert "10.9.8.7\tother" in text
    assert "nameserver 10.1.1.1" in text
    assert text.splitlines()[-1] == "me"


def test_nothing_is_left_when_containers_go(daemon: Daemon) -> None:
    """No link and no port stays behind."""
    daemon.cli("run", "-d", "--name", "gone", "-p", "8084:80", "busybox", "sleep", "100")
    daemon.cli("rm", "-f", "gone")
    deadline = time.monotonic() + 60
    while True:
        with daemon.inside():
            links = [name for _, name in socket.if_nameindex() if name.startswith("veth")]
        if not links or time.monotonic() > deadline:
            break
        time.sleep(0.05)  # the kernel takes a namespace down in its own time
    assert links == []
    with daemon.inside():
        socket.create_server(("0.0.0.0", 8084)).close()


def test_a_link_gives_a_further_name(daemon: Daemon) -> None:
    """``ps --no-trunc`` and ``inspect`` show it as Docker does."""
    daemon.cli("run", "-d", "--name", "db", "busybox", "sleep", "1000")
    daemon.cli("run", "-d", "--name", "web", "--link", "db:store", "busybox", "sleep", "1000")
    assert daemon.inspect("web")["HostConfig"]["Links"] == ["/db:/web/store"]
    for client in daemon.clients:
        listed = client("ps", "--no-trunc", "--format", "{{.Names}}").stdout.split()
        assert sorted(listed) == ["db,web/store", "web"]
        assert sorted(client("ps", "--format", "{{.Names}}").stdout.split()) == ["db", "web"]
    daemon.cli("rm", "--link", "/web/store")
    assert daemon.cli("ps", "--no-trunc", "--format", "{{.Names}}").stdout.split() == ["web", "db"]
    assert daemon.inspect("web")["HostConfig"]["Links"] is None
