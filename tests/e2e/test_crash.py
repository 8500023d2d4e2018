"""Processes killed at the worst moments: nothing acknowledged is lost, nothing leaks."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.agreement import disagreements, family, settled
from support.daemon import Daemon, leftovers

if TYPE_CHECKING:
    import subprocess

LIVES = 100


def test_containers_outlive_a_killed_daemon(own_daemon: Daemon) -> None:
    """The next one finds them running, their logs whole, and learns their exit status."""
    cli = own_daemon.cli
    script = "i=0; until [ -e /end ]; do i=$((i + 1)); echo $i; sleep 0.05; done; exit 3"
    cli("run", "-d", "--name", "cc", "busybox", "sh", "-c", script)
    pid = own_daemon.inspect("cc")["State"]["Pid"]
    own_daemon.kill()
    assert Path(f"/proc/{pid}").exists()
    own_daemon.start()
    assert own_daemon.inspect("cc")["State"]["Pid"] == pid
    assert cli("exec", "cc", "echo", "still").stdout == "still\n"
    cli("exec", "cc", "touch", "/end")
    assert cli("wait", "cc").stdout == "3\n"
    logged = cli("logs", "cc").stdout.split()
    assert logged == [str(number) for number in range(1, len(logged) + 1)]
    assert len(logged) > 2


def test_an_exit_while_the_daemon_was_away_is_known(own_daemon: Daemon) -> None:
    """Status, log and --rm are made up for."""
    cli = own_daemon.cli
    cli("run", "-d", "--name", "gone", "busybox", "sh", "-c", "sleep 0.5; echo last; exit 9")
    cli("run", "-d", "--name", "removed", "--rm", "busybox", "sleep", "0.5")
    pids = [own_daemon.inspect(name)["State"]["Pid"] for name in ("gone", "removed")]
    own_daemon.kill()
    for pid in filter(None, pids):  # 0 where it has ended already
        with contextlib.suppress(ProcessLookupError):
            _until_gone(os.pidfd_open(pid))
    own_daemon.start()
    state = own_daemon.inspect("gone")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 9)
    assert cli("logs", "gone").stdout == "last\n"
    assert "removed" not in cli("ps", "-a", "--format", "{{.Names}}").stdout.split()


def test_containers_below_a_parent_of_their_own_outlive_a_killed_daemon(
    own_daemon: Daemon,
) -> None:
    """Also where that parent is beside the groups of the daemon's other containers."""
    cli, parent = own_daemon.cli, f"{own_daemon.group}/web"
    cli("run", "-d", "--name", "deep", "--cgroup-parent", parent, "busybox", "sleep", "1000")
    before = own_daemon.inspect("deep")["State"]
    own_daemon.kill()
    own_daemon.start()
    assert own_daemon.inspect("deep")["State"] == before
    assert cli("exec", "deep", "echo", "still").stdout == "still\n"
    cli("rm", "-f", "deep")
    root = Path("/sys/fs/cgroup")
    for path in (*root.glob(parent), *root.glob(f"*/{parent}")):
        path.rmdir()  # the container's group has gone; its parent stays


def test_daemons_with_the_same_parent_leave_each_others_containers(
    own_daemon: Daemon, busybox: Path
) -> None:
    """Root and state are their own, the control group is not: neither's start ends the other's."""
    other = Daemon()
    other.config.write_text(other.config.read_text().replace(other.group, own_daemon.group))
    try:
        other.start()
        other.cli("load", "-i", str(busybox))
        pids = {}
        for daemon in (own_daemon, other):
            daemon.cli("run", "-d", "--name", "cc", "busybox", "sleep", "1000")
            pids[daemon] = daemon.inspect("cc")["State"]["Pid"]
        for daemon in (own_daemon, other):
            daemon.kill()
            daemon.start()
        for daemon, pid in pids.items():
            assert daemon.inspect("cc")["State"]["Pid"] == pid
            assert daemon.cli("exec", "cc", "echo", "still").stdout == "still\n"
    finally:
        other.close()
    assert leftovers(other) == []


def _until_gone(descriptor: int) -> None:
    """Wait until a process that is not our child has ended: its pidfd polls readable then."""
    select.select([descriptor], [], [], 30)
    os.close(descriptor)


def test_a_killed_monitor_ends_its_container_alone(own_daemon: Daemon) -> None:
    """The status is 137 with an error, the others run on, and it can be started again."""
    cli = own_daemon.cli
    cli("run", "-d", "--name", "victim", "busybox", "sleep", "1000")
    cli("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    pid = own_daemon.inspect("victim")["State"]["Pid"]
    os.kill(_parent(pid), signal.SIGKILL)
    assert cli("wait", "victim").stdout == "137\n"
    assert own_daemon.inspect("other")["State"]["Status"] == "running"
    cli("start", "victim")
    assert own_daemon.inspect("victim")["State"]["Status"] == "running"


def test_a_killed_monitor_of_a_paused_container(own_daemon: Daemon) -> None:
    """What is frozen may not end by a signal: nobody else waits for that, and it ends once it can.

    With control groups of version 1 it is thawed first; with those of version 2 it ends at once.
    """
    cli = own_daemon.cli
    cli("run", "-d", "--name", "victim", "busybox", "sleep", "1000")
    cli("pause", "victim")
    pid = own_daemon.inspect("victim")["State"]["Pid"]
    os.kill(_parent(pid), signal.SIGKILL)
    cli("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    cli("unpause", "victim", check=False)
    assert cli("wait", "victim").stdout == "137\n"
    state = own_daemon.inspect("victim")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    assert "monitor was lost" in state["Error"]
    assert own_daemon.inspect("other")["State"]["Status"] == "running"
    assert "did not return within" not in own_daemon.log.read_text()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class _Lives:
    """Containers' lives, one after another, while something is killed in each of them.

    :ivar kept: names of containers that were acknowledged and never asked to go.
    :ivar gone: names of those whose removal was acknowledged.
    """

    def __init__(self, daemon: Daemon, dice: random.Random) -> None:
        self._daemon = daemon
        self._dice = dice
        self._client: subprocess.Popen[str] | None = None
        self.kept: set[str] = set()
        self.gone: set[str] = set()
        self.killed: Counter[str] = Counter()

    def live(self, number: int) -> None:
        """Have one container live, whatever becomes of it."""
        killer = threading.Thread(target=self._kill, args=(self._dice.uniform(0.0, 1.2),))
        killer.start()
        try:
            if number % 5 == 4:
                self._do("run", "--rm", "--name", f"brief{number}", "busybox", "sleep", "0.2")
            else:
                self._whole(f"life{number}", keep=number % 7 == 0)
        finally:
            killer.join()

    def _whole(self, name: str, *, keep: bool) -> None:
        options = ["-p", "0:80", "-v", f"{name}:/data", "-v", "/anonymous", "--name", name]
        made = self._do("run", "-d", *options, "busybox", "sleep", "1000")
        self._do("exec", name, "touch", "/data/here")
        self._do("stop", "-t", "0", name)
        self._do("start", name)
        if keep:
            self.kept |= {name} if made else set()
        elif self._do("rm", "-f", "-v", name) and made:
            self.gone.add(name)

    def _do(self, *words: str) -> bool:
        """Run a command to its end, by whatever; return whether it was acknowledged."""
        self._client = self._daemon.client(*words)
        try:
            self._client.communicate(timeout=60)
        finally:
            self._client.kill()
            self._client.wait()
        return self._client.returncode == 0

    def _kill(self, seconds: float) -> None:
        time.sleep(seconds)  # any instant will do
        what = self._dice.choice(["daemon", "daemon at its start", "helper", "monitor", "client"])
        self.killed[what] += 1
        if what.startswith("daemon"):
            self._daemon.kill()
            if what != "daemon":
                self._daemon.launch()
                time.sleep(self._dice.uniform(0.0, 1.5))
                self._daemon.kill()
            self._daemon.start()
        elif what == "client":
            if self._client is not None:
                self._client.kill()
        else:
            found = family(self._daemon)
            mine = found.helpers if what == "helper" else found.monitors
            with contextlib.suppress(ProcessLookupError):
                for pid in self._dice.sample(sorted(mine), min(1, len(mine))):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_hundred_lives_under_random_kills(own_daemon: Daemon) -> None:
    """Daemon, helpers, monitors and clients are killed at random; after a start all agree."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    lives = _Lives(own_daemon, random.Random(seed))
    for number in range(LIVES):
        lives.live(number)
        if number % 10 == 9:
            own_daemon.kill()
            own_daemon.start()
            _check(own_daemon, lives)
    print(lives.killed)  # noqa: T201 - as above
    everything = own_daemon.cli("ps", "-aq").stdout.split()
    if everything:
        own_daemon.cli("rm", "-f", "-v", *everything)
    _agree(own_daemon)
    assert own_daemon.cli("ps", "-aq").stdout == ""


def _agree(daemon: Daemon) -> None:
    found = settled(lambda: disagreements(daemon))
    assert not found, "\n".join([*found, daemon.log.read_text()[-8000:]])


def _check(daemon: Daemon, lives: _Lives) -> None:
    _agree(daemon)
    rows = daemon.cli("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout.splitlines()
    states = dict(row.split() for row in rows)
    assert lives.kept <= states.keys()
    assert not lives.gone & states.keys()
    # One that was never started waits for its start, as a client that was killed leaves it.
    brief = {state for name, state in states.items() if name.startswith("brief")}
    assert brief <= {"created"}
