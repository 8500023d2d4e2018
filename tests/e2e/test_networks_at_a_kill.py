"""The daemon is killed at each step of joining and leaving a network, of a container that runs.

The next one has the container be as the record says: links, default route, published port,
/etc/hosts and names.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from support.agreement import disagreements, settled
from support.changes import asked
from support.dying import dying_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.daemon import Daemon
    from support.dying import Dying

BRIDGE = "pannier_net_bridge.driver:BridgeDriver"
WIRING = "pannier.engine.wiring:Wiring"
FILES = "pannier.engine.hostfiles:HostFiles"
STORE = "pannier.engine.store:Store"

# Without a server that could be asked further.
SERVE = "while :; do echo served | nc -l -p 80; done"
RUN = ("run", "-d", "--name", "box", "--dns", "127.0.0.1")
BOX = (*RUN, "-p", "8085:80", "busybox", "sh", "-c", SERVE)

STEPS = {
    # What was joined or left, where the daemon dies, after how many calls; whether it is done.
    "leave, noted": ("disconnect", f"{BRIDGE}.detach", 0, True),
    "leave, without link": ("disconnect", f"{WIRING}.lead_out", 0, True),
    "leave, with the route moved": ("disconnect", f"{WIRING}.rewrite_hosts", 0, True),
    "leave, all but said": ("disconnect", f"{STORE}.save", 1, True),
    "join, noted": ("connect", f"{BRIDGE}.plan_attach", 0, False),
    "join, with a link": ("connect", f"{FILES}.connected", 0, False),
    "join, with a resolver": ("connect", f"{WIRING}.rewrite_hosts", 0, False),
    "join, all but said": ("connect", f"{STORE}.save", 1, False),
}


@pytest.fixture
def dying(
    tmp_path: Path, busybox: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Daemon, Dying]]:
    """Give a daemon with two networks of a user's, and what kills it."""
    places = sorted({step[1] for step in STEPS.values()})
    with dying_daemon(tmp_path, places, busybox, monkeypatch) as (daemon, found):
        # By its name it is the one of a container's networks that leads out.
        daemon.cli("network", "create", "alpha")
        yield daemon, found


def _gateway(daemon: Daemon, network: str) -> str:
    found = json.loads(daemon.cli("network", "inspect", network).stdout)
    gateway: str = found[0]["IPAM"]["Config"][0]["Gateway"]
    return gateway


def _inside(daemon: Daemon, *command: str) -> list[str]:
    return daemon.cli("exec", "box", *command).stdout.splitlines()


def _networks(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.inspect("box")["NetworkSettings"]["Networks"]
    return found


def _looked_up(daemon: Daemon) -> str:
    """Look up what is nobody's name, of which the embedded DNS says so at once."""
    done = daemon.cli("exec", "box", "nslookup", "box.invalid", check=False)
    return done.stdout + done.stderr


def _served(daemon: Daemon) -> str:
    """Return what the published port sends now; empty where nobody answers."""
    with daemon.inside(), contextlib.suppress(OSError), socket.socket() as client:
        client.settimeout(2)
        client.connect(("127.0.0.1", 8085))
        return client.recv(100).decode()
    return ""


def _wrong(daemon: Daemon, leads_out: str) -> list[str]:
    """Return what in the container is not as the record says."""
    addresses = {one["IPAddress"] for one in _networks(daemon).values()}
    routes = [line.split() for line in _inside(daemon, "ip", "route")]
    defaults = [route[2] for route in routes if route[0] == "default"]
    name = daemon.inspect("box")["Config"]["Hostname"]
    hosts = [line.split() for line in _inside(daemon, "cat", "/etc/hosts")]
    compared = [
        ("default routes", defaults, [_gateway(daemon, leads_out)]),
        ("hosts", {line[0] for line in hosts if name in line}, addresses),
        ("subnets", len(routes) - 1, len(addresses)),
        ("ports", daemon.cli("port", "box").stdout, "80/tcp -> 0.0.0.0:8085\n"),
        ("served", _served(daemon), "served\n"),
    ]
    return [f"{what}: {here} for {there}" for what, here, there in compared if here != there]


def test_networks_joined_and_left_at_a_kill(dying: tuple[Daemon, Dying]) -> None:
    """At each step: what the container has is what the record says, and it can be done again."""
    daemon, death = dying
    for name, (what, place, calls, done) in STEPS.items():
        daemon.cli(*BOX)
        if what == "disconnect":
            daemon.cli("network", "connect", "alpha", "box")
        death.arm(place, calls)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            asked(daemon, "POST", f"/networks/alpha/{what}", {"Container": "box"})
        death.disarm()
        assert daemon.process is not None
        assert daemon.process.wait(60) == -9, name
        daemon.start()
        joined = (what == "connect") == done
        assert ("alpha" in _networks(daemon)) == joined, name
        leads_out = "alpha" if joined else "bridge"
        assert settled(partial(_wrong, daemon, leads_out)) == [], name
        assert settled(lambda: disagreements(daemon)) == [], name
        if "nameserver 127.0.0.11" in _inside(daemon, "cat", "/etc/resolv.conf"):
            assert "server can't find box.invalid" in _looked_up(daemon), name
        again = "disconnect" if joined else "connect"
        daemon.cli("network", again, "alpha", "box")
        leads_out = "bridge" if joined else "alpha"
        assert settled(partial(_wrong, daemon, leads_out)) == [], name
        daemon.cli("rm", "-f", "box")


def test_names_after_the_last_network_of_a_users(own_daemon: Daemon) -> None:
    """A container that has left it still asks the embedded DNS, and so also at the next daemon."""
    own_daemon.cli("network", "create", "lan")
    own_daemon.cli(*BOX)
    own_daemon.cli("network", "connect", "lan", "box")
    own_daemon.cli("network", "disconnect", "lan", "box")
    assert "nameserver 127.0.0.11" in _inside(own_daemon, "cat", "/etc/resolv.conf")
    for _ in range(2):
        assert "server can't find box.invalid" in _looked_up(own_daemon)
        own_daemon.kill()
        own_daemon.start()
    own_daemon.cli("rm", "-f", "box")
    own_daemon.cli("network", "rm", "lan")


def test_ports_without_a_network(own_daemon: Daemon) -> None:
    """A container's that is on none: they are refused, and nobody else's, also after a kill.

    The container got them late, so that its monitor does not hold them.
    """
    own_daemon.cli("network", "create", "lan")
    own_daemon.cli("network", "create", "--internal", "zoo")
    flags = ("--network", "zoo", "--dns", "127.0.0.1", "-p", "8085:80")
    own_daemon.cli("run", "-d", "--name", "box", *flags, "busybox", "sh", "-c", SERVE)
    assert _refused(own_daemon) is None, "a network that leads nowhere publishes nothing"
    own_daemon.cli("network", "connect", "lan", "box")
    assert settled(lambda: [] if _served(own_daemon) == "served\n" else ["silence"]) == []
    for _ in range(2):
        own_daemon.cli("network", "disconnect", "lan", "box")
        for _ in range(2):
            assert _refused(own_daemon) == "reserved"
            other = own_daemon.cli("run", "-p", "8085:80", "busybox", "true", check=False)
            assert other.returncode == 125
            assert "Bind for 0.0.0.0:8085 failed: address already in use" in other.stderr
            own_daemon.kill()
            own_daemon.start()
        own_daemon.cli("network", "connect", "lan", "box")
        assert settled(lambda: [] if _served(own_daemon) == "served\n" else ["silence"]) == []
    own_daemon.cli("rm", "-f", "box")
    assert _refused(own_daemon) is None


def _refused(daemon: Daemon) -> str | None:
    """Assert that the port refuses connections; return whether it is reserved all the same."""
    with daemon.inside(), socket.socket() as client, socket.socket() as thief:
        client.settimeout(60)
        with pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", 8085))
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            thief.bind(("0.0.0.0", 8085))
            thief.listen()
        except OSError:
            return "reserved"
    return None
