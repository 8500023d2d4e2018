"""Limits that really bite, and the figures that the engine reports of them."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import docker

if TYPE_CHECKING:
    from support.daemon import Daemon


def test_memory_beyond_the_limit_is_killed(daemon: Daemon) -> None:
    """The status is 137, and inspect says OOMKilled."""
    script = "head -c 200m /dev/zero | tail"
    done = daemon.cli(
        "run",
        "--name",
        "fat",
        "-m",
        "20m",
        "--memory-swap",
        "20m",
        "busybox",
        "sh",
        "-c",
        script,
        check=False,
    )
    assert done.returncode != 0
    assert daemon.inspect("fat")["State"]["OOMKilled"] is True


def test_memory_that_runs_out_is_told_at_once(daemon: Daemon) -> None:
    """``events`` has ``oom`` while the container goes on without the process that was killed.

    Of processes that are equally small the kernel may take the container's first one as well,
    while the memory of the one it has killed is not free yet; so others are offered to it.
    """
    fat = "(echo 1000 > /proc/self/oom_score_adj; head -c 200m /dev/zero | tail)"
    run = ("run", "-d", "--name", "hungry", "-m", "20m", "--memory-swap", "20m")
    filters = ("--filter", "event=oom", "--filter", "container=hungry", "--since", "0")
    watching = daemon.client("events", *filters, "--format", "{{.Actor.ID}}")
    try:
        made = daemon.cli(*run, "busybox", "sh", "-c", f"{fat} & exec sleep 1000").stdout.strip()
        assert watching.stdout is not None
        assert watching.stdout.readline().strip() == made
    finally:
        watching.terminate()
        watching.communicate()
    assert daemon.inspect(made)["State"]["Running"] is True
    daemon.cli("kill", made)
    seen = daemon.cli("events", "--since", "0", "--until", "0s", "--filter", f"container={made}")
    words = [line.split()[2] for line in seen.stdout.splitlines() if " container " in line]
    assert words.index("oom") < words.index("kill")
    assert words[-2:] == ["kill", "die"]


def test_memory_within_the_limit_is_not_killed(daemon: Daemon) -> None:
    """OOMKilled stays false."""
    daemon.cli("run", "--name", "thin", "-m", "50m", "busybox", "true")
    state = daemon.inspect("thin")["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (False, 0)


def test_processes_beyond_the_limit_cannot_be_made(daemon: Daemon) -> None:
    """Fork fails in the container; the host goes on."""
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait"
    done = daemon.cli(
        "run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script, check=False
    )
    assert "can't fork" in done.stderr


def test_a_cpu_share_is_held(daemon: Daemon) -> None:
    """With ``--cpus 0.25`` a busy loop uses about a quarter of a core, measured by its usage."""
    made = daemon.cli(
        "run", "-d", "--cpus", "0.25", "busybox", "sh", "-c", "while :; do :; done"
    ).stdout.strip()
    begin = time.monotonic()
    first = _cpu_seconds(daemon, made)
    time.sleep(2)  # what is measured is usage over time
    used = _cpu_seconds(daemon, made) - first
    share = used / (time.monotonic() - begin)
    assert 0.1 < share < 0.4


def _cpu_seconds(daemon: Daemon, name: str) -> float:
    client = docker.APIClient(base_url=daemon.host, version="1.41")
    try:
        figures = client.stats(name, stream=False, one_shot=True)
    finally:
        client.close()
    return float(figures["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def test_a_cpuset_is_held(daemon: Daemon) -> None:
    """The process may run on the given core alone."""
    text = daemon.cli(
        "run", "--rm", "--cpuset-cpus", "1", "busybox", "cat", "/proc/self/status"
    ).stdout
    line = next(row for row in text.splitlines() if row.startswith("Cpus_allowed_list"))
    assert line.split()[1] == "1"


def test_limits_change_while_it_runs(daemon: Daemon) -> None:
    """``update`` takes effect at once, and inspect shows it."""
    daemon.cli("run", "-d", "--name", "limited", "-m", "100m", "busybox", "sleep", "100")
    daemon.cli("update", "-m", "50m", "--memory-swap", "50m", "--pids-limit", "7", "limited")
    host = daemon.inspect("limited")["HostConfig"]
    assert (host["Memory"], host["PidsLimit"]) == (50 << 20, 7)
    stats = json.loads(
        daemon.cli("stats", "--no-stream", "--format", "{{json .}}", "limited").stdout
    )
    assert "50MiB" in stats["MemUsage"]


def test_a_paused_container_does_nothing(daemon: Daemon) -> None:
    """While it is paused its usage stands still; afterwards it goes on."""
    made = daemon.cli("run", "-d", "busybox", "sh", "-c", "while :; do :; done").stdout.strip()
    daemon.cli("pause", made)
    assert daemon.inspect(made)["State"]["Status"] == "paused"
    first = _cpu_seconds(daemon, made)
    time.sleep(0.3)  # nothing may happen in this time
    assert _cpu_seconds(daemon, made) - first < 0.02
    daemon.cli("unpause", made)
    assert daemon.inspect(made)["State"]["Status"] == "running"


def test_a_limit_that_makes_no_sense_is_refused(daemon: Daemon) -> None:
    """The error says what is wrong, with status 125, and nothing is left."""
    done = daemon.cli("run", "-m", "1k", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "Minimum memory limit allowed is 6MB" in done.stderr
    assert daemon.cli("ps", "-aq").stdout == ""


def test_the_group_goes_with_the_container(daemon: Daemon) -> None:
    """No control group is left when the container was removed."""
    made = daemon.cli("run", "-d", "busybox", "sleep", "100").stdout.strip()
    found = [top for top, names, _ in os.walk("/sys/fs/cgroup") if made in names]
    assert found
    daemon.cli("rm", "-f", made)
    assert [top for top, names, _ in os.walk("/sys/fs/cgroup") if made in names] == []
