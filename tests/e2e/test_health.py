"""Health checks of real containers, through the command line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.daemon import Daemon

pytestmark = pytest.mark.root

_SECONDS = 20


def _health(daemon: Daemon, name: str) -> Any:
    text = daemon.cli("inspect", "--format", "{{json .State.Health}}", name).stdout
    return json.loads(text)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)  # the command line has no way to wait for health


def _run(daemon: Daemon, name: str, command: str, *flags: str) -> str:
    return daemon.cli(
        "run", "-d", "--name", name, "--network", "none", "--health-cmd", command,
        "--health-interval", "200ms", *flags, "busybox", "sleep", "1000",
    ).stdout.strip()  # fmt: skip


def test_healthy_after_a_file_appears(daemon: Daemon) -> None:
    """A container is starting, unhealthy, healthy, as its probe says."""
    _run(daemon, "h1", "echo looked; test -f /ok", "--health-retries", "2")
    _until(lambda: _health(daemon, "h1")["Status"] == "unhealthy")
    assert _health(daemon, "h1")["Log"][0]["Output"] == "looked\n"
    assert "(unhealthy)" in daemon.cli("ps").stdout
    daemon.cli("exec", "h1", "touch", "/ok")
    _until(lambda: _health(daemon, "h1")["Status"] == "healthy")
    assert daemon.cli("ps", "-q", "--filter", "health=healthy").stdout.strip()
    assert len(_health(daemon, "h1")["Log"]) <= 5
    daemon.cli("rm", "-f", "h1")


def test_a_hung_probe_goes_with_its_children(daemon: Daemon) -> None:
    """At the timeout all of the probe is killed, not the shell alone."""
    _run(daemon, "h2", "sleep 4321; true", "--health-timeout", "300ms", "--health-retries", "1")
    _until(lambda: _health(daemon, "h2")["Status"] == "unhealthy")
    log = _health(daemon, "h2")["Log"][0]
    assert (log["ExitCode"], log["Output"]) == (-1, "Health check exceeded timeout (300ms)")
    _until(lambda: len(_health(daemon, "h2")["Log"]) >= 4)
    running = daemon.cli("exec", "h2", "ps").stdout.count("sleep 4321")
    assert running <= 2  # the shell and the sleep of the probe under way
    daemon.cli("rm", "-f", "h2")


def test_a_background_child_does_not_hold_a_probe_up(daemon: Daemon) -> None:
    """What a probe leaves behind with its output open does not make it fail."""
    _run(daemon, "h3", "sleep 1000 & echo done", "--health-timeout", "10s")
    _until(lambda: _health(daemon, "h3")["Status"] == "healthy")
    assert _health(daemon, "h3")["Log"][0]["Output"] == "done\n"
    daemon.cli("rm", "-f", "h3")


def test_health_survives_the_kill_of_the_daemon(own_daemon: Daemon) -> None:
    """The next daemon knows it, goes on probing, and ends the probe that was under way."""
    daemon = own_daemon
    _run(daemon, "h4", "test -f /slow && exec sleep 4321; true", "--health-timeout", "60s")
    _until(lambda: _health(daemon, "h4")["Status"] == "healthy")
    daemon.cli("exec", "h4", "touch", "/slow")
    _until(lambda: "sleep 4321" in daemon.cli("exec", "h4", "ps").stdout)
    daemon.cli("exec", "h4", "rm", "/slow")
    daemon.kill()
    daemon.start()
    before = _health(daemon, "h4")
    assert before["Status"] == "healthy"
    _until(lambda: _health(daemon, "h4")["Log"][-1]["Start"] > before["Log"][-1]["Start"])
    _until(lambda: "sleep 4321" not in daemon.cli("exec", "h4", "ps").stdout)
    daemon.cli("rm", "-f", "h4")


def test_probes_leave_no_descriptor(daemon: Daemon) -> None:
    """After many probes, the timed-out ones among them, the daemon holds as many as before."""

    def count() -> int:
        assert daemon.process is not None
        return sum(1 for _ in Path(f"/proc/{daemon.process.pid}/fd").iterdir())

    daemon.cli("ps")
    before = count()
    _run(daemon, "h5", "true")
    _run(daemon, "h6", "sleep 100", "--health-timeout", "100ms")
    time.sleep(4)  # some ten probes of each
    daemon.cli("rm", "-f", "h5", "h6")
    _until(lambda: count() <= before + 1)
