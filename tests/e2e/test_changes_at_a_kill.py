"""The daemon is killed while something changes: it is done or it is not, and all goes on."""

from __future__ import annotations

import http.client
import json
import os
import random
import select
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from support.agreement import disagreements, settled
from support.daemon import Daemon, leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = int(os.environ.get("PANNIER_KILLS", "2"))
"""In each change; more of them find rarer moments."""

SECONDS = 60.0
ID = "--format={{.Id}}"


@dataclass(frozen=True)
class Change:
    """A call that changes something.

    :param call: method, path and body.
    :param before: what makes things ready for it, with command lines.
    :param look: a command line that says how things are.
    :param states: what it may say: before, and after.
    """

    call: tuple[str, str, dict[str, Any]]
    look: tuple[str, ...]
    states: tuple[str, str]
    before: tuple[tuple[str, ...], ...] = ()


BOX = ("run", "-d", "--name", "box", "busybox", "sleep", "1000")
STATUS = ("inspect", "--format={{.State.Status}}", "box")
NETWORKS = ("inspect", "--format={{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}")
CREATE = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"Binds": ["kept:/kept"]}}

CHANGES = {
    "create": Change(
        ("POST", "/containers/create?name=box", CREATE),
        ("ps", "-a", "--filter", "name=box", "--format", "{{.Names}}"),
        ("", "box"),
    ),
    "start": Change(
        ("POST", "/containers/box/start", {}),
        STATUS,
        ("created", "running"),
        (("create", "-p", "0:80", *BOX[2:]),),
    ),
    "stop": Change(("POST", "/containers/box/stop?t=0", {}), STATUS, ("running", "exited"), (BOX,)),
    "kill": Change(("POST", "/containers/box/kill", {}), STATUS, ("running", "exited"), (BOX,)),
    "pause": Change(("POST", "/containers/box/pause", {}), STATUS, ("running", "paused"), (BOX,)),
    "unpause": Change(
        ("POST", "/containers/box/unpause", {}),
        STATUS,
        ("paused", "running"),
        (BOX, ("pause", "box")),
    ),
    "rm": Change(
        ("DELETE", "/containers/box?force=1", {}),
        ("ps", "-a", "--filter", "name=box", "--format", "{{.Names}}"),
        ("box", ""),
        (BOX,),
    ),
    "rename": Change(
        ("POST", "/containers/box/rename?name=box2", {}),
        ("ps", "-a", "--filter", "name=box", "--format", "{{.Names}}"),
        ("box", "box2"),
        (BOX,),
    ),
    "update": Change(
        ("POST", "/containers/box/update", {"Memory": 64 << 20, "MemorySwap": -1}),
        ("inspect", "--format={{.HostConfig.Memory}}", "box"),
        ("0", str(64 << 20)),
        (BOX,),
    ),
    "commit": Change(
        ("POST", "/commit?container=box&repo=made&tag=1", {}),
        ("images", "--format", "{{.Repository}}", "made"),
        ("", "made"),
        (BOX, ("exec", "box", "touch", "/changed")),
    ),
    "network create": Change(
        ("POST", "/networks/create", {"Name": "net"}),
        ("network", "ls", "--filter", "name=net", "--format", "{{.Name}}"),
        ("", "net"),
    ),
    "network connect": Change(
        ("POST", "/networks/net/connect", {"Container": "box"}),
        (*NETWORKS, "box"),
        ("bridge", "bridge net"),
        (BOX, ("network", "create", "net")),
    ),
    "network disconnect": Change(
        ("POST", "/networks/net/disconnect", {"Container": "box"}),
        (*NETWORKS, "box"),
        ("bridge net", "bridge"),
        (BOX, ("network", "create", "net"), ("network", "connect", "net", "box")),
    ),
    "volume create": Change(
        ("POST", "/volumes/create", {"Name": "vol"}),
        ("volume", "ls", "-q", "--filter", "name=vol"),
        ("", "vol"),
    ),
    "volume rm": Change(
        ("DELETE", "/volumes/vol", {}),
        ("volume", "ls", "-q", "--filter", "name=vol"),
        ("vol", ""),
        (("volume", "create", "vol"),),
    ),
    "rmi": Change(
        ("DELETE", "/images/other:1", {}),
        ("images", "--format", "{{.Repository}}", "other"),
        ("other", ""),
        (("tag", "busybox", "other:1"),),
    ),
}


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("d", timeout=SECONDS)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


class Changer:
    """Makes one change after another, and kills the daemon meanwhile."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.dice = random.Random(seed)

    def prepare(self, change: Change) -> None:
        """Have everything as it is before the change."""
        for words in change.before:
            self.daemon.cli(*words)
        assert self.look(change) == change.states[0]

    def look(self, change: Change) -> str:
        """Return how things are."""
        return self.daemon.cli(*change.look).stdout.strip()

    def call(self, change: Change) -> bool:
        """Make the call; return whether it was acknowledged.

        :raises TimeoutError: it neither was nor came to an end.
        """
        method, path, body = change.call
        connection = _Connection(self.daemon.socket)
        try:
            connection.request(
                method, f"/v1.51{path}", json.dumps(body), {"Content-Type": "application/json"}
            )
            status = connection.getresponse().status
        except (ConnectionError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        assert status < 300, status
        return True

    def call_and_kill(self, change: Change, within: float) -> bool:
        """Make the call and kill the daemon at some moment of so many seconds."""
        killer = threading.Timer(self.dice.uniform(0.0, within), self.daemon.kill)
        killer.start()
        try:
            return self.call(change)
        finally:
            killer.join()
            self.daemon.start()

    def clear(self) -> None:
        """Remove what a change may have made."""
        cli = self.daemon.cli
        cli("rm", "-f", "-v", "box", "box2", check=False)
        cli("network", "rm", "net", check=False)
        cli("volume", "rm", "vol", check=False)
        cli("rmi", "made:1", check=False)


@pytest.fixture(scope="module")
def changer(busybox: Path) -> Iterator[Changer]:
    """Return one on a daemon of its own, with containers that are to go on through all of it."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown where a test fails
    daemon = Daemon()
    try:
        daemon.start()
        daemon.cli("load", "-i", str(busybox))
        daemon.cli("run", "-d", "--name", "phoenix", "--restart", "always", *BOX[4:])
        daemon.cli(
            *("run", "-d", "--name", "probed", "--health-cmd", "true"),
            *("--health-interval", "200ms", *BOX[4:]),
        )
        yield Changer(daemon, seed)
    finally:
        daemon.close()
    assert leftovers(daemon) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_done_or_not(changer: Changer, name: str) -> None:
    """An acknowledged one is done; another one is whole or not there, and can be asked for again.

    Database, disk and kernel agree, and bystanders live.
    """
    change = CHANGES[name]
    changer.prepare(change)
    begin = time.monotonic()
    assert changer.call(change)
    took = time.monotonic() - begin
    changer.clear()
    bystanders = [changer.daemon.inspect(one)["State"]["Pid"] for one in ("phoenix", "probed")]
    for _ in range(KILLS):
        changer.prepare(change)
        acknowledged = changer.call_and_kill(change, took * 1.5)
        told = changer.look(change)
        assert told in change.states[acknowledged:]
        assert settled(lambda: disagreements(changer.daemon)) == []
        if told == change.states[0]:
            assert changer.call(change)
            assert changer.look(change) == change.states[1]
        changer.clear()
    assert bystanders == [
        changer.daemon.inspect(one)["State"]["Pid"] for one in ("phoenix", "probed")
    ]


def _ended(pid: int) -> None:
    """Kill a process that is not our child, and wait for its end."""
    descriptor = os.pidfd_open(pid)
    os.kill(pid, 9)
    assert select.select([descriptor], [], [], SECONDS)[0]
    os.close(descriptor)


def test_health_and_restart_policies_go_on(changer: Changer) -> None:
    """The next daemon restarts what ended meanwhile and is to run, and goes on probing."""
    daemon = changer.daemon
    daemon.cli("exec", "probed", "true")
    before = daemon.inspect("phoenix")
    daemon.kill()
    _ended(before["State"]["Pid"])
    begin = time.time()
    daemon.start()
    filters = ("--since", f"{begin:.9f}", "--filter", "container=phoenix")
    with daemon.client("events", *filters) as told:
        assert told.stdout is not None
        assert any(" start " in line for line in told.stdout)
        told.kill()
    after = daemon.inspect("phoenix")
    assert after["RestartCount"] == before["RestartCount"] + 1
    assert after["State"]["Running"]
    deadline = time.monotonic() + SECONDS
    while not _probed_since(daemon, begin):
        assert time.monotonic() < deadline, "no probe any more"
    assert daemon.inspect("probed")["State"]["Health"]["Status"] == "healthy"


def _probed_since(daemon: Daemon, begin: float) -> bool:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begin))
    log = daemon.inspect("probed")["State"]["Health"]["Log"]
    return any(entry["Start"] > moment for entry in log)
