"""A real daemon with the runtime driver that ``pannier plugin new runtime`` writes."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.newplugin import new_plugin
from support.daemon import Daemon, leftovers
from support.images import busybox_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

HERMIT = ("--runtime", "hermit", "busybox")
SCRIPT = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Return a daemon beside whose code the skeleton is installed, with the busybox image."""
    made = new_plugin("runtime", "hermit", tmp_path_factory.mktemp("skeleton"))
    info = made / "src" / "pannier_runtime_hermit-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: pannier-runtime-hermit\nVersion: 0.1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[pannier]\npannier_runtime_hermit = pannier_runtime_hermit\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(made / "src"))
        daemon = Daemon()
        try:
            daemon.start()
            daemon.cli("load", input=busybox_archive())
            yield daemon
        finally:
            daemon.close()
    assert leftovers(daemon) == []


def parent_of(pid: int) -> int:
    """Return the id of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_container_runs_and_goes(daemon: Daemon) -> None:
    """Output, input, exit status and a missing program are as with any runtime."""
    assert daemon.cli("run", "--rm", *HERMIT, "echo", "hello").stdout == "hello\n"
    assert daemon.cli("run", "--rm", "-i", *HERMIT, "cat", input="in\n").stdout == "in\n"
    assert daemon.cli("run", "--rm", "-t", *HERMIT, "tty").stdout == "/dev/pts/0\r\n"
    assert daemon.cli("run", "--rm", *HERMIT, "sh", "-c", "exit 42", check=False).returncode == 42
    assert daemon.cli("run", "--rm", *HERMIT, "nonsense", check=False).returncode == 127
    assert daemon.cli("ps", "-aq").stdout == ""


def test_containers_outlive_the_daemon(daemon: Daemon) -> None:
    """After a kill the next one knows how one has ended, enters another, has its log, stops it."""
    daemon.cli("run", "-d", "--name", "lasting", "-v", "/data", *HERMIT, "sh", "-c", SCRIPT)
    daemon.cli("run", "-d", "--name", "brief", *HERMIT, "sh", "-c", "sleep 1; exit 9")
    pidfd = os.pidfd_open(daemon.inspect("brief")["State"]["Pid"])
    daemon.kill()
    try:
        assert select.select([pidfd], [], [], 60)[0]
    finally:
        os.close(pidfd)
    daemon.start()
    assert daemon.cli("wait", "brief").stdout == "9\n"
    assert daemon.inspect("lasting")["State"]["Status"] == "running"
    done = daemon.cli("exec", "lasting", "sh", "-c", "ls -d /data; exit 3", check=False)
    assert (done.stdout, done.returncode) == ("/data\n", 3)
    daemon.cli("stop", "lasting")
    assert daemon.cli("logs", "lasting").stdout == "up\nbye\n"
    assert daemon.inspect("lasting")["State"]["ExitCode"] == 7
    daemon.cli("rm", "-v", "lasting", "brief")


def test_a_killed_monitor_takes_its_container_along(daemon: Daemon) -> None:
    """The status is 137, and the container can be started again."""
    daemon.cli("run", "-d", "--name", "orphan", *HERMIT, "sleep", "1000")
    os.kill(parent_of(daemon.inspect("orphan")["State"]["Pid"]), signal.SIGKILL)
    assert daemon.cli("wait", "orphan").stdout == "137\n"
    daemon.cli("start", "orphan")
    assert daemon.inspect("orphan")["State"]["Running"]
    daemon.cli("rm", "-f", "orphan")


@pytest.mark.parametrize(
    ("option", "name"),
    [("--init", "--init"), ("--privileged", "linux.devices"), ("--pid=host", "pid namespace")],
)
def test_what_it_cannot_do_is_refused_by_name(daemon: Daemon, option: str, name: str) -> None:
    """Nobody believes to have what is not there."""
    done = daemon.cli("run", "--rm", option, *HERMIT, "true", check=False)
    assert done.returncode == 125
    assert name in done.stderr
    assert daemon.cli("ps", "-aq").stdout == ""
