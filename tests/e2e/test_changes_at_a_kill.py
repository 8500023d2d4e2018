"""The daemon is killed while something changes: it is done or it is not, and all goes on."""

from __future__ import annotations

import http.client
import json
import os
import random
import select
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from support.agreement import disagreements, settled
from support.changes import BOX, CHANGES, LAYER, REGISTRY, SECONDS, asked
from support.daemon import Daemon, leftovers
from support.images import image
from support.registry import FaultyRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.changes import Change

KILLS = int(os.environ.get("PANNIER_KILLS", "1"))
"""In each change; more of them find rarer moments."""


class Changer:
    """Makes one change after another, and kills the daemon meanwhile.

    :param registry: the address of a registry that has ``made:1``.
    """

    def __init__(self, daemon: Daemon, registry: str, seed: int) -> None:
        self.daemon = daemon
        self.registry = registry
        self.dice = random.Random(seed)

    def prepare(self, change: Change) -> None:
        """Have everything as it is before the change."""
        for words in change.before:
            self.daemon.cli(*words)
        assert self.look(change, change.states[:1]) == change.states[0]

    def look(self, change: Change, wanted: tuple[str, ...]) -> str:
        """Return how things are; of what comes by itself, once it is as wanted."""
        words = [word.replace(REGISTRY, self.registry) for word in change.look]
        deadline = time.monotonic() + SECONDS
        while True:
            # Of a container that has gone there is nothing to look at.
            told = self.daemon.cli(*words, check=not change.by_itself).stdout.strip()
            if told in wanted or not change.by_itself or time.monotonic() > deadline:
                return told
            time.sleep(0.1)  # what is looked at says nothing by itself

    def call(self, change: Change) -> bool:
        """Make the call; return whether it was acknowledged.

        :raises TimeoutError: it neither was nor came to an end.
        """
        method, path, body = change.call
        try:
            answer = self._ask(method, path, body)
            if change.then is not None:
                path, body = change.then
                self._ask("POST", path.replace("ID", json.loads(answer)["Id"]), body)
        except (ConnectionError, http.client.HTTPException):
            return False
        assert "errorDetail" not in answer, answer
        assert change.says in answer, answer
        return True

    def _ask(self, method: str, path: str, body: dict[str, Any] | bytes) -> str:
        """Make one call, which must be answered with a success; return its whole answer."""
        status, answer = self._asked(method, path, body)
        assert status < 300, answer
        return answer

    def _asked(self, method: str, path: str, body: dict[str, Any] | bytes) -> tuple[int, str]:
        target = path.replace(REGISTRY, self.registry)
        return asked(self.daemon, method, target, body)

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
        for name in ("box", "box2"):
            self._asked("DELETE", f"/containers/{name}?force=1&v=1", {})
        for thing in ("networks/net", "volumes/vol", "images/made:1", f"images/{REGISTRY}/made:1"):
            self._asked("DELETE", f"/{thing}", {})
        # The last whole step of a build that was cut off is a dangling image, as with Docker.
        self._ask("POST", "/images/prune", {})
        self._ask("POST", "/build/prune?all=1", {})

    def stored(self) -> list[str]:
        """Return the layers and blobs on the disk."""
        root = self.daemon.folder / "root"
        layers = root / "storage/overlay/layers"
        blobs = root / "images/blobs/sha256"
        return sorted(path.name for folder in (layers, blobs) for path in folder.iterdir())


@pytest.fixture(scope="module")
def changer(busybox: Path) -> Iterator[Changer]:
    """Return one on a daemon of its own, with containers that are to go on through all of it."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown where a test fails
    daemon = Daemon()
    try:
        daemon.start()
        with daemon.inside():
            registry = FaultyRegistry()
        registry.put(image([LAYER]), repository="made")
        daemon.cli("load", "-i", str(busybox))
        daemon.cli("run", "-d", "--name", "phoenix", "--restart", "always", *BOX[4:])
        daemon.cli(
            *("run", "-d", "--name", "probed", "--health-cmd", "true"),
            *("--health-interval", "200ms", *BOX[4:]),
        )
        yield Changer(daemon, registry.host, seed)
        registry.close()
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
    stored = changer.stored()
    changer.prepare(change)
    begin = time.monotonic()
    assert changer.call(change)
    took = time.monotonic() - begin
    changer.clear()
    bystanders = [changer.daemon.inspect(one)["State"]["Pid"] for one in ("phoenix", "probed")]
    for _ in range(KILLS):
        changer.prepare(change)
        acknowledged = changer.call_and_kill(change, took * 1.5)
        wanted = change.states[acknowledged:]
        try:
            told = changer.look(change, wanted)
            assert told in wanted
            assert settled(lambda: disagreements(changer.daemon)) == []
            if told == change.states[0]:
                assert changer.call(change)
                assert changer.look(change, change.states[1:]) == change.states[1]
        finally:
            changer.clear()
    assert bystanders == [
        changer.daemon.inspect(one)["State"]["Pid"] for one in ("phoenix", "probed")
    ]
    assert changer.stored() == stored


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


@pytest.mark.slow
def test_health_changes_across_kills(changer: Changer) -> None:
    """Whatever a probe was at when the daemon was killed, the next ones are made and count."""
    daemon = changer.daemon
    probe = ("--health-cmd", "test -e /well", "--health-interval", "50ms", "--health-retries", "1")
    daemon.cli("run", "-d", "--name", "box", *probe, *BOX[4:])
    for command, status in (("touch", "healthy"), ("rm", "unhealthy"), ("touch", "healthy")):
        daemon.cli("exec", "box", command, "/well")
        killer = threading.Timer(changer.dice.uniform(0.0, 0.3), daemon.kill)
        killer.start()
        killer.join()
        daemon.start()
        _until(lambda status=status: _health(daemon)["Status"] == status)  # type: ignore[misc]
        health = _health(daemon)
        assert bool(health["FailingStreak"]) == (status == "unhealthy")
        assert settled(lambda: disagreements(daemon)) == []
    changer.clear()


@pytest.mark.slow
def test_restarts_are_counted_across_kills(changer: Changer) -> None:
    """In the pause before a restart, or in the restart itself: none is lost or made twice."""
    daemon = changer.daemon
    policy = ("--restart", "on-failure:4")
    daemon.cli("run", "-d", "--name", "box", *policy, "busybox", "sh", "-c", "echo >> /n; exit 3")
    for _ in range(KILLS):
        killer = threading.Timer(changer.dice.uniform(0.0, 0.4), daemon.kill)
        killer.start()
        killer.join()
        daemon.start()
    _until(lambda: daemon.inspect("box")["State"]["Status"] == "exited")
    fact = daemon.inspect("box")
    assert (fact["RestartCount"], fact["State"]["ExitCode"]) == (4, 3)
    begun = daemon.cli("cp", "box:/n", "-").stdout.count("\n")
    assert 5 <= begun <= 5 + KILLS, "a start that was cut before it was noted is made again"
    assert settled(lambda: disagreements(daemon)) == []
    changer.clear()


def _health(daemon: Daemon) -> dict[str, Any]:
    health: dict[str, Any] = daemon.inspect("box")["State"]["Health"]
    return health


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)  # nothing tells of it across a daemon's start


def _probed_since(daemon: Daemon, begin: float) -> bool:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begin))
    log = daemon.inspect("probed")["State"]["Health"]["Log"]
    return any(entry["Start"] > moment for entry in log)
