"""Processes that are added to a running container."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import NoConfig
from pannier.drivers.runtime import ExecRequest, StdioSpec
from pannier.errors import Conflict, NotFound, StartFailed
from pannier_runtime_native.driver import NativeRuntime
from support.native import DEFAULT_CAPABILITIES, exec_status, make_spec

if TYPE_CHECKING:
    from pannier.drivers import oci
    from support.native import Box

pytestmark = pytest.mark.root


@pytest.fixture
def running(box: Box) -> str:
    """Give the id of a container that sleeps."""
    box.create("a", make_spec("sleep", "1000"))
    box.driver.start("a")
    return "a"


def test_output_and_status(box: Box, running: str) -> None:
    """Both streams, and the exit status as an event."""
    result = box.exec(running, "sh", "-c", "echo out; echo err >&2; exit 6")
    assert (result.status, result.out, result.err) == (6, "out\n", "err\n")


def test_it_is_inside(box: Box, running: str) -> None:
    """It shares processes, names, mounts and network of the container."""
    result = box.exec(
        running,
        "sh",
        "-c",
        "hostname; tr '\\0' ' ' </proc/1/cmdline; ls /dev/pts; ls /; "
        "for n in mnt pid uts ipc net cgroup; do "
        "test $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) || echo differs $n; done",
    )
    assert result.out.startswith("box\nsleep 1000 ")
    assert "differs" not in result.out


def test_input_ends_with_the_client(box: Box, running: str) -> None:
    """An added process's stdin closes with its client's."""
    assert box.exec(running, "cat").status == 0


def test_a_terminal(box: Box, running: str) -> None:
    """An added process may have one of its own."""
    result = box.exec(
        running,
        "sh",
        "-c",
        "tty; stty size; test -t 1",
        tty=True,
        consoleSize={"height": 7, "width": 9},
    )
    assert result.out.replace("\r", "") == "/dev/pts/0\n7 9\n"
    assert result.status == 0


def test_identity_and_confinement_are_its_own(box: Box, running: str) -> None:
    """User, groups, capabilities, directory and environment are the request's."""
    result = box.exec(
        running,
        "sh",
        "-c",
        "id -u; id -g; id -G; pwd; echo $X; grep -E 'CapEff|NoNewPrivs' /proc/self/status",
        user={"uid": 1000, "gid": 1000, "additionalGids": [5, 6]},
        cwd="/tmp",
        env=["PATH=/bin", "X=y"],
        noNewPrivileges=True,
        capabilities={"bounding": [], "effective": [], "permitted": []},
    )
    assert result.out.split() == [
        "1000",
        "1000",
        "1000",
        "5",
        "6",
        "/tmp",
        "y",
        "CapEff:",
        "0" * 16,
        "NoNewPrivs:",
        "1",
    ]


def test_no_descriptor_leaks_in(box: Box, running: str) -> None:
    """It has its three streams, and the one that ls opens."""
    result = box.exec(running, "ls", "/proc/self/fd")
    assert result.out.split() == ["0", "1", "2", "3"]


def test_a_program_that_does_not_exist(box: Box, running: str) -> None:
    """It is refused with the number and the words; the container runs on."""
    with pytest.raises(StartFailed, match=r"executable file not found in \$PATH") as caught:
        box.exec(running, "nonsense")
    assert caught.value.errno == 2
    assert box.driver.state(running).status == "running"


def test_a_folder_that_does_not_exist(box: Box, running: str) -> None:
    """A working directory that cannot be entered is named, in runc's words."""
    words = r'chdir to cwd \("/none"\) set in config.json failed: no such file or directory'
    with pytest.raises(StartFailed, match=words) as caught:
        box.exec(running, "true", cwd="/none")
    assert caught.value.errno == 2


def test_signals_reach_it(box: Box, running: str) -> None:
    """And it alone."""
    watch = box.driver.watch(running)
    pid = box.driver.exec(running, ExecRequest("x", make_spec("sleep", "1000")["process"]))
    assert pid > 0
    box.driver.kill_exec(running, "x", signal.SIGKILL)
    assert exec_status(watch, "x") == 137
    watch.close()
    box.driver.kill_exec(running, "x", signal.SIGKILL)
    assert box.driver.state(running).status == "running"


def test_an_end_that_nobody_watched_is_told_later(box: Box, running: str) -> None:
    """The event waits for the first watch."""
    box.driver.exec(running, ExecRequest("x", make_spec("sh", "-c", "exit 8")["process"]))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            box.driver.resize(running, 1, 1, "x")
        except NotFound:
            break
    watch = box.driver.watch(running)
    assert exec_status(watch, "x") == 8
    watch.close()


def test_after_a_new_driver_has_opened(box: Box, running: str) -> None:
    """A container that an earlier driver started is found and can be entered."""
    box.driver.close()
    box.driver = NativeRuntime(box.context, NoConfig())
    assert list(box.driver.containers()) == [running]
    assert box.exec(running, "echo", "hello").out == "hello\n"


def test_what_has_stopped_cannot_be_entered(box: Box) -> None:
    """Nor what has not started."""
    request = ExecRequest("x", make_spec("true")["process"])
    box.create("a", make_spec("true"))
    with pytest.raises(Conflict):
        box.driver.exec("a", request)
    box.driver.start("a")
    box.wait("a")
    with pytest.raises(Conflict):
        box.driver.exec("a", request)


def test_it_ends_with_the_container(box: Box, running: str) -> None:
    """Its event comes before the container's, or with it."""
    box.driver.exec(running, ExecRequest("x", make_spec("sleep", "1000")["process"], StdioSpec()))
    box.driver.kill(running, signal.SIGKILL)
    assert box.wait(running).exit_status == 137


SPY = """
n=2
while :; do
  if [ -d /proc/$n ]; then
    kill -STOP $n
    echo seen $n: /proc/$n/root/* /proc/$n/cwd/../../* /proc/$n/fd/*/../../../../*
    kill -CONT $n
    : >/tmp/$n
    n=$((n + 1))
  fi
done
"""
"""Stops every process that comes, and lists what it has of the filesystem."""

SPIED = "until [ -e /tmp/$$ ]; do :; done"


def spying() -> oci.Spec:
    """Return a specification of a container that looks into each process that is added."""
    spec = make_spec("sh", "-c", SPY)
    capabilities = [*DEFAULT_CAPABILITIES, "CAP_SYS_PTRACE"]
    spec["process"]["capabilities"] = {
        "bounding": capabilities,
        "effective": capabilities,
        "permitted": capabilities,
    }
    return spec


def test_nothing_of_the_hosts_is_seen_through_it(box: Box) -> None:
    """Not even by who may trace it: it is born with the container's root and no folder else."""
    box.create("a", spying())
    client = box.start("a")
    seen = ""
    for number in range(20):
        assert box.exec("a", "sh", "-c", SPIED, exec_id=f"x{number}").status == 0
        seen += client.until(b"\n").decode()
    assert "/root/bin" in seen
    assert "sysfs" not in seen
    assert not re.search(r"/fd/\d", seen)


def test_it_is_in_the_pid_namespace_that_its_container_has_joined(box: Box, running: str) -> None:
    """Beside the processes of the container whose namespace that is."""
    pid = box.driver.state(running).pid
    spec = make_spec("sleep", "1001")
    spaces = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != "pid"]
    spec["linux"]["namespaces"] = [*spaces, {"type": "pid", "path": f"/proc/{pid}/ns/pid"}]
    box.create("b", spec)
    box.driver.start("b")
    result = box.exec("b", "sh", "-c", "readlink /proc/self/ns/pid; cat /proc/1/cmdline")
    assert result.out == f"{Path(f'/proc/{pid}/ns/pid').readlink()}\nsleep\x001000\x00"
