"""Processes killed at the worst moments: nothing acknowledged is lost, nothing leaks."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.daemon import Daemon

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


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_lives_under_random_kills(own_daemon: Daemon) -> None:
    """Daemon, monitors and clients are killed at random; after a start all agree."""
    dice = random.Random(20261124)
    for life in range(LIVES):
        name = f"l{life}"
        timer = threading.Timer(dice.uniform(0.0, 0.35), _kill_something, [own_daemon, dice])
        timer.start()
        for words in (
            ["run", "-d", "--name", name, "-p", "0:80", "busybox", "sleep", "1000"],
            ["exec", name, "true"],
            ["stop", "-t", "0", name],
            ["rm", "-f", name],
        ):
            with contextlib.suppress(Exception):
                own_daemon.cli(*words, check=False, timeout=20)
        timer.join()
        assert own_daemon.process is not None
        if own_daemon.process.poll() is not None:
            own_daemon.start()
    own_daemon.kill()
    own_daemon.start()
    _check_agreement(own_daemon)


def _kill_something(daemon: Daemon, dice: random.Random) -> None:
    assert daemon.process is not None
    mine = _descendants(daemon.process.pid)
    with contextlib.suppress(ProcessLookupError, IndexError):
        if dice.random() < 0.6:
            daemon.kill()
        else:
            os.kill(dice.choice(sorted(mine)), signal.SIGKILL)


def _descendants(pid: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = _parent(int(entry.name))
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def _check_agreement(daemon: Daemon) -> None:
    """Compare what the engine says with what the kernel and the disk have."""
    listed = daemon.cli("ps", "-aq", "--no-trunc").stdout.split()
    running = daemon.cli("ps", "-q", "--no-trunc").stdout.split()
    for id in running:
        assert Path(f"/proc/{daemon.inspect(id)['State']['Pid']}").exists()
    groups = {
        name
        for top, names, _ in os.walk("/sys/fs/cgroup")
        if Path(top).name == daemon.group
        for name in names
    }
    assert groups <= set(running)
    folder = daemon.folder / "root" / "containers"
    if folder.exists():
        assert {path.name for path in folder.iterdir()} <= set(listed)
    if listed:
        daemon.cli("rm", "-f", *listed)
    assert daemon.cli("ps", "-aq").stdout == ""
