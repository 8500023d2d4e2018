"""Address pools that run out, and a container on many networks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.changes import asked
from support.daemon import Daemon, leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POOL = 24
"""Subnets in the pool of the test."""


@pytest.fixture(scope="module")
def narrow(busybox: Path) -> Iterator[Daemon]:
    """Give a daemon with a small pool, of which the default network has no part."""
    pools = 'pools = ["10.231.0.0/27:29", "10.232.0.0/24:29"]\nsubnet = "10.230.0.0/24"'
    daemon = Daemon(network__bridge=pools)
    try:
        daemon.start()
        daemon.cli("load", "-i", str(busybox))
        # Of the larger pool's 32, twelve are the host's, as far as the driver can know.
        blocked = {"Subnet": "10.232.0.0/26"}, {"Subnet": "10.232.0.64/27"}
        for number, config in enumerate(blocked):
            body = {"Name": f"blocked{number}", "IPAM": {"Config": [config]}}
            assert asked(daemon, "POST", "/networks/create", body)[0] == 201
        yield daemon
    finally:
        daemon.close()
    assert leftovers(daemon) == []


def _subnet(daemon: Daemon, network: str) -> str:
    found = json.loads(daemon.cli("network", "inspect", network).stdout)
    subnet: str = found[0]["IPAM"]["Config"][0]["Subnet"]
    return subnet


def test_the_address_pools_run_out(narrow: Daemon) -> None:
    """Each network has a subnet of its own; then there is none, until one is given back.

    A container can be on twenty of them at once, and finds others by name on each.
    """
    names = [f"net{number:02}" for number in range(POOL)]
    for name in names:
        assert asked(narrow, "POST", "/networks/create", {"Name": name})[0] == 201
    subnets = {name: _subnet(narrow, name) for name in (names[0], names[3], names[4], names[-1])}
    assert subnets == {
        "net00": "10.231.0.0/29",
        "net03": "10.231.0.24/29",
        "net04": "10.232.0.96/29",
        "net23": "10.232.0.248/29",
    }
    refused = narrow.cli("network", "create", "more", check=False)
    assert refused.returncode == 1
    assert (
        "could not find an available, non-overlapping IPv4 address pool among the defaults to "
        "assign to the network: all predefined address pools have been fully subnetted"
    ) in refused.stderr
    narrow.cli("network", "rm", "net03")
    narrow.cli("network", "create", "more")
    assert _subnet(narrow, "more") == subnets["net03"]

    flags = [word for name in names[4:] for word in ("--network", name)]
    narrow.cli("run", "-d", "--name", "many", *flags, "busybox", "sleep", "1000")
    networks = narrow.inspect("many")["NetworkSettings"]["Networks"]
    assert len({one["IPAddress"] for one in networks.values()}) == POOL - 4
    for name in (names[4], names[-1]):
        found = narrow.cli("run", "--rm", "--network", name, "busybox", "ping", "-c1", "many")
        assert f"({networks[name]['IPAddress']})" in found.stdout
    narrow.cli("rm", "-f", "many")


def test_a_network_of_a_configuration(narrow: Daemon) -> None:
    """Both are as before after the daemon was killed, and shown as what they are."""
    plan = [
        "--subnet",
        "10.233.0.0/24",
        "--label",
        "a=b",
        "-o",
        "com.docker.network.driver.mtu=1400",
    ]
    narrow.cli("network", "create", "--config-only", *plan, "plan")
    narrow.cli("network", "create", "--config-from", "plan", "--internal", "made")
    narrow.kill()
    narrow.start()
    for client in narrow.clients:
        found = {
            one["Name"]: one
            for one in json.loads(client("network", "inspect", "plan", "made").stdout)
        }
        assert [found["plan"][key] for key in ("Driver", "ConfigOnly", "Containers")] == [
            "null",
            True,
            {},
        ]
        assert found["made"]["ConfigFrom"] == {"Network": "plan"}
        assert found["made"]["Internal"]
        assert [found["made"][key] for key in ("Driver", "Labels")] == ["bridge", {"a": "b"}]
        refused = client("run", "--rm", "--network", "plan", "busybox", "true", check=False)
        assert refused.returncode == 125
        assert "cannot create endpoint on configuration-only network" in refused.stderr
        refused = client("network", "rm", "plan", check=False)
        assert 'configuration network "plan" is in use' in refused.stderr
    text = narrow.cli("run", "--rm", "--network", "made", "busybox", "ip", "link").stdout
    assert "mtu 1400" in text
    narrow.cli("network", "rm", "made", "plan")
