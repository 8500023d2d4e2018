"""What happens when one of our processes is killed."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import NoConfig
from pannier.drivers.runtime import LogSpec, StdioSpec
from pannier.errors import DriverError
from pannier_runtime_native.driver import NativeRuntime
from support.native import make_spec, next_events

if TYPE_CHECKING:
    from support.native import Box

pytestmark = pytest.mark.root


def shim_of(pid: int) -> int:
    """Return the parent of a container's first process."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[1])


def wait_gone(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 30)[0], f"{pid} lives on"
    os.close(descriptor)


def test_the_helper_is_replaced(box: Box) -> None:
    """After SIGKILL of the zygote, running containers live and new ones can be made."""
    box.create("a", make_spec("sleep", "1000"))
    box.driver.start("a")
    helper = box.driver._zygotes.pid
    os.kill(helper, signal.SIGKILL)
    # The first is served by the spare that is left, the second by a new helper.
    for _ in range(2):
        assert box.sh("echo again").out == "again\n"
    assert box.driver._zygotes.pid not in (0, helper)
    assert box.driver.state("a").status == "running"


def test_a_killed_monitor_is_a_lost_container(box: Box) -> None:
    """The first process dies with it; its state, and a new watch, tell 137 and that it was lost."""
    box.create("a", make_spec("sleep", "1000"))
    box.driver.start("a")
    pid = box.driver.state("a").pid
    watch = box.driver.watch("a")
    os.kill(shim_of(pid), signal.SIGKILL)
    with pytest.raises(DriverError, match="the monitor of a has ended without a word"):
        next_events(watch)
    watch.close()
    state = box.driver.state("a")
    assert (state.status, state.exit_status, state.lost) == ("stopped", 137, True)
    wait_gone(pid)
    watch = box.driver.watch("a")
    (event,) = next_events(watch)
    watch.close()
    assert (event.exec_id, event.exit_status, event.lost) == (None, 137, True)
    assert state.finished == event.finished


def test_a_monitor_killed_before_the_start(box: Box) -> None:
    """The process that was held back ends too, and the container can be deleted."""
    box.create("a", make_spec("sleep", "1000"))
    pid = box.driver.state("a").pid
    os.kill(shim_of(pid), signal.SIGKILL)
    wait_gone(pid)
    assert box.driver.state("a").status == "stopped"
    box.driver.delete("a")
    assert list(box.driver.containers()) == []


def test_containers_outlive_the_driver(box: Box, tmp_path: Path) -> None:
    """A new driver finds state, log and exit status."""
    log = LogSpec(tmp_path / "log")
    stdio = StdioSpec(stdin=True, log=log)
    box.create("a", make_spec("sh", "-c", "read x; echo got $x; exit 12"), stdio=stdio)
    client = box.start("a")
    box.driver.close()
    box.driver = NativeRuntime(box.context, NoConfig())
    assert box.driver.state("a").status == "running"
    client.send(b"word\n")
    assert box.wait("a").exit_status == 12
    assert b"got word" in log.path.read_bytes()


def test_an_exit_while_no_driver_was_there(box: Box) -> None:
    """Its status and time are found by the next one."""
    box.create("a", make_spec("sh", "-c", "read x; exit 13"), stdio=StdioSpec(stdin=True))
    client = box.start("a")
    pid = box.driver.state("a").pid
    shim = shim_of(pid)
    box.driver.close()
    client.send(b"\n")
    wait_gone(shim)
    box.driver = NativeRuntime(box.context, NoConfig())
    event = box.wait("a")
    assert (event.exit_status, event.lost) == (13, False)


def test_a_folder_that_nothing_came_of_is_cleaned_up(box: Box) -> None:
    """As a driver leaves it that was killed just before it asked for a shim."""
    (box.context.state / "containers" / "half").mkdir()
    assert list(box.driver.containers()) == ["half"]
    assert box.driver.state("half").status == "stopped"
    box.driver.delete("half")
    assert list(box.driver.containers()) == []


def test_no_process_is_left(box: Box) -> None:
    """After its end a container's monitor is gone, and nobody is a zombie."""
    box.create("a", make_spec("sh", "-c", "read x"), stdio=StdioSpec(stdin=True))
    client = box.start("a")
    shim = shim_of(box.driver.state("a").pid)
    client.send(b"\n")
    box.wait("a")
    wait_gone(shim)
    helper = box.driver._zygotes.pid
    children = Path(f"/proc/{helper}/task/{helper}/children")
    deadline = time.monotonic() + 60
    # One is left: the spare that waits for the next container.
    while len(children.read_text().split()) != 1 and time.monotonic() < deadline:
        os.sched_yield()
    (spare,) = children.read_text().split()
    assert Path(f"/proc/{spare}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
