"""IPv6 as users see it: ranges, reserved addresses, published ports, link-local addresses."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

SERVE = "while :; do echo served | nc -l -p 80; done"


@pytest.fixture
def six(daemon: Daemon) -> Iterator[Daemon]:
    """Give a daemon with a network ``six`` that has an IPv6 range."""
    plan = ["--subnet", "fd00:76::/64", "--ip-range", "fd00:76::a:0/112", "--gateway", "fd00:76::1"]
    reserved = ["--aux-address", "router=fd00:76::a:1"]
    daemon.cli("network", "create", "--ipv6", *plan, *reserved, "six")
    yield daemon
    found = daemon.cli("ps", "-aq").stdout.split()
    if found:
        daemon.cli("rm", "-f", *found)
    daemon.cli("network", "rm", "six")


def answers(daemon: Daemon, host: str, port: int) -> str:
    """Return what a server sends; tried until it listens, and empty where it never does."""
    for _ in range(50):
        try:
            with daemon.inside(), socket.create_connection((host, port), 2) as client:
                data = client.recv(100).decode()
                if data:
                    return data
        except OSError:
            pass
        time.sleep(0.05)  # the server inside gives no sign when it listens
    return ""


def test_a_range_and_reserved_addresses(six: Daemon) -> None:
    """They are shown as given, and the addresses are of the range without those reserved."""
    (found,) = json.loads(six.cli("network", "inspect", "--verbose", "six").stdout)
    (config,) = [one for one in found["IPAM"]["Config"] if ":" in one["Subnet"]]
    assert config == {
        "Subnet": "fd00:76::/64",
        "IPRange": "fd00:76::a:0/112",
        "Gateway": "fd00:76::1",
        "AuxiliaryAddresses": {"router": "fd00:76::a:1"},
    }
    for name, wanted in (("one", "fd00:76::a:0"), ("two", "fd00:76::a:2")):
        six.cli("run", "-d", "--name", name, "--network", "six", "busybox", "sleep", "1000")
        shown = six.inspect(name)["NetworkSettings"]["Networks"]["six"]
        assert shown["GlobalIPv6Address"] == wanted
    six.cli("exec", "one", "ping", "-6", "-c", "1", "-W", "2", "two")


def test_a_published_port_answers_on_both(six: Daemon) -> None:
    """It is shown for 0.0.0.0 and [::], and answers on the addresses of both."""
    flags = ["-d", "--name", "web", "--network", "six", "-p", "8086:80"]
    six.cli("run", *flags, "busybox", "sh", "-c", SERVE)
    assert six.cli("port", "web").stdout == "80/tcp -> 0.0.0.0:8086\n80/tcp -> [::]:8086\n"
    for client in six.clients:
        shown = client("ps", "--format", "{{.Ports}}").stdout.strip()
        assert shown == "0.0.0.0:8086->80/tcp, [::]:8086->80/tcp"
    for host in ("127.0.0.1", "fd00:76::1"):
        assert answers(six, host, 8086) == "served\n"
    with pytest.raises(ConnectionRefusedError), six.inside():
        # Nothing was published on this one.
        socket.create_connection(("fd00:76::1", 8087), 2)


def test_a_port_on_an_ipv6_address(six: Daemon) -> None:
    """In brackets; and with a clear error where the network cannot serve it."""
    flags = ["-d", "--name", "web", "--network", "six", "-p", "[fd00:76::1]:8088:80"]
    six.cli("run", *flags, "busybox", "sh", "-c", SERVE)
    ports = six.inspect("web")["NetworkSettings"]["Ports"]
    assert ports == {"80/tcp": [{"HostIp": "fd00:76::1", "HostPort": "8088"}]}
    assert answers(six, "fd00:76::1", 8088) == "served\n"
    refused = six.cli("run", "--rm", "-p", "[::]:8089:80", "busybox", "true", check=False)
    assert refused.returncode == 125
    assert "the network bridge has no IPv6" in refused.stderr


def test_link_local_addresses(six: Daemon) -> None:
    """They come besides, are shown, and nothing else is taken for one."""
    flags = ["--link-local-ip", "169.254.8.8", "--link-local-ip", "fe80::8:8"]
    six.cli("run", "-d", "--name", "web", *flags, "busybox", "sleep", "1000")
    shown = six.inspect("web")["NetworkSettings"]["Networks"]["bridge"]
    assert shown["IPAMConfig"] == {"LinkLocalIPs": ["169.254.8.8", "fe80::8:8"]}
    inside = six.cli("exec", "web", "ip", "address", "show", "eth0").stdout
    assert "169.254.8.8/16" in inside
    assert "fe80::8:8/64" in inside
    six.cli("network", "connect", "--link-local-ip", "169.254.9.9", "six", "web")
    assert "169.254.9.9/16" in six.cli("exec", "web", "ip", "address").stdout
    wrong = ["--link-local-ip", "10.0.0.1"]
    refused = six.cli("run", "--rm", *wrong, "busybox", "true", check=False)
    assert refused.returncode == 125
    assert "invalid link-local IP address: 10.0.0.1" in refused.stderr
