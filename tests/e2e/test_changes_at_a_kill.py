"""The daemon is killed while something changes: it is done or it is not, and all goes on."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import random
import select
import tarfile
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import docker
import pytest

from support.agreement import disagreements, settled
from support.changes import BOX, CHANGES, CONTEXT, LAYER, REGISTRY, SECONDS, asked
from support.daemon import Daemon, leftovers
from support.dying import Dying
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

    :param registry: one that has ``made:1``.
    """

    def __init__(self, daemon: Daemon, registry: FaultyRegistry, seed: int) -> None:
        self.daemon = daemon
        self.registry = registry
        self.dice = random.Random(seed)

    def prepare(self, change: Change) -> None:
        """Have everything as it is before the change."""
        for words in change.before:
            self.daemon.cli(*self._named(words))
        for method, path, body in change.asks:
            self._ask(method, path, body)
        assert self.look(change, change.states[:1]) == change.states[0]

    def look(self, change: Change, wanted: tuple[str, ...]) -> str:
        """Return how things are; of what comes by itself, once it is as wanted."""
        deadline = time.monotonic() + SECONDS
        while True:
            told = self._looked(change)
            if told in wanted or not change.by_itself or time.monotonic() > deadline:
                return told
            time.sleep(0.1)  # what is looked at says nothing by itself

    def _looked(self, change: Change) -> str:
        if change.look[0] == "GET":
            return "there" if self._asked("GET", change.look[1], b"")[0] == HTTPStatus.OK else ""
        # Of a container that has gone there is nothing to look at.
        words = self._named(change.look)
        return self.daemon.cli(*words, check=not change.by_itself).stdout.strip()

    def _named(self, words: tuple[str, ...]) -> list[str]:
        return [word.replace(REGISTRY, self.registry.host) for word in words]

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
        target = path.replace(REGISTRY, self.registry.host)
        return asked(self.daemon, method, target, body, {"X-Registry-Auth": "e30="})

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
        for thing in ("networks/net", "volumes/vol", "images/made:1"):
            self._asked("DELETE", f"/{thing}", {})
        for name in ("made", "pushed"):
            self._asked("DELETE", f"/images/{REGISTRY}/{name}:1", {})
        with self.registry.lock:
            self.registry.repositories.pop("pushed", None)
            for place in [place for place in self.registry.manifests if place[0] == "pushed"]:
                del self.registry.manifests[place]
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
        yield Changer(daemon, registry, seed)
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
    # Of the file alone: the archive's own header has lines, too.
    copied = docker.APIClient(base_url=daemon.host, version="1.43")
    with contextlib.closing(copied):
        archive = b"".join(copied.get_archive("box", "/n")[0])
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        notes = found.extractfile("n")
        assert notes is not None
        begun = notes.read().count(b"\n")
    # One that was cut before it was noted cannot be told from one that never began, and is made
    # again: by each kill at most one is.
    assert 5 <= begun <= 5 + KILLS
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


def test_a_prune_of_steps_that_was_cut_can_be_repeated(
    tmp_path: Path, busybox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images of steps are known for what they are until they have gone."""
    removal = "pannier.engine.images:Images.remove"
    dying = Dying(tmp_path, [removal], monkeypatch)
    daemon = Daemon()
    try:
        daemon.start()
        daemon.cli("load", "-i", str(busybox))
        assert asked(daemon, "POST", "/build", CONTEXT)[0] == HTTPStatus.OK
        dying.arm(removal)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            asked(daemon, "POST", "/build/prune", {})
        dying.disarm()
        assert daemon.process is not None
        assert daemon.process.wait(SECONDS) == -9
        daemon.start()
        daemon.cli("builder", "prune", "-f")
        assert daemon.cli("images", "-q", "--filter", "dangling=true").stdout == ""
    finally:
        dying.disarm()
        daemon.close()
    assert leftovers(daemon) == []
