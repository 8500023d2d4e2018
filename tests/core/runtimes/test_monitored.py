"""Drivers with a monitor of Pannier's: what the kit cannot know of a mechanism that goes wrong."""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from pannier.drivers.base import DriverContext, NoConfig
from pannier.drivers.operations import Step, Transaction
from pannier.drivers.runtime import CreateRequest, ExecRequest, ExitEvent
from pannier.errors import DriverError, StartFailed
from pannier.runtimes.descriptors import DescriptorList
from pannier.runtimes.monitored import Blueprint, MonitoredRuntime
from pannier.runtimes.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.drivers import oci
    from pannier.drivers.runtime import StdioSpec

pytestmark = pytest.mark.root

MECHANISM = """
import os
import sys

from pannier.runtimes.mechanism import Failure, Launched, Mechanism


class Toy(Mechanism):
    def create(self, stdio, streams):
        if self.job == "refuses":
            raise Failure("the toy refuses")
        if self.job == "stumbles":
            raise KeyError("box")
        if self.job == "dies":
            os.kill(os.getpid(), 9)
        self.held, let = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(let)
            os.read(self.held, 1)
            os._exit(7 if "toy" in sys.modules and not hasattr(sys.modules["toy"], "LOADED") else 8)
        self.let = let
        return Launched(self.pid)

    def start(self):
        if self.job == "fails to start":
            raise Failure("no such program", 2)
        if self.job != "waits":
            os.close(self.let)

    def execute(self, process, stdio, streams, procs):
        raise Failure("the toy adds nothing")
"""
PROCESS: oci.Process = {"args": ["toy"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
SPEC: oci.Spec = {"ociVersion": "1.0.2", "process": PROCESS, "root": {"path": "/"}, "linux": {}}


class Toy(MonitoredRuntime):
    """Says to its mechanism how that is to go wrong."""

    id: ClassVar[str] = "toy"
    wanted = "runs"

    @classmethod
    def probe(cls, context: DriverContext, config: NoConfig) -> None:
        pass

    def draw(self, request: CreateRequest, folder: Path) -> Blueprint:  # noqa: ARG002 - the contract's
        return Blueprint(self.wanted, DescriptorList(), [Step("make", request.id)])

    def exec_process(self, process: oci.Process, stdio: StdioSpec) -> object:  # noqa: ARG002 - the contract's
        return dict(process)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    """Return a driver whose package is on the path, as an installed one is."""
    package = tmp_path / "site" / "toy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("LOADED = True\n")
    (package / "mechanism.py").write_text(MECHANISM)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(
        Toy, "mechanism", importlib.import_module("toy.mechanism").Toy, raising=False
    )
    context = DriverContext(tmp_path / "root", tmp_path / "state")
    context.root.mkdir()
    context.state.mkdir()
    toy = Toy(context)
    yield toy
    for id in list(toy.containers()):
        toy.delete(id)
    for name in ("toy", "toy.mechanism"):
        del sys.modules[name]


def create(driver: Toy, wanted: str) -> int:
    """Create the container ``box``; return its first process's id."""
    driver.wanted = wanted
    return Transaction().run(driver.plan_create(CreateRequest("box", SPEC, -1))).pid


def parent_of(pid: int) -> int:
    """Return the id of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("refuses", "cannot create box: the toy refuses"),
        ("stumbles", "cannot create box: KeyError: 'box'"),
        ("dies", "the monitor of box has ended while it created it: it said nothing"),
    ],
)
def test_a_creation_that_fails(driver: Toy, wanted: str, said: str) -> None:
    """What the mechanism said is the error, and there is no container."""
    with pytest.raises(DriverError, match=said):
        create(driver, wanted)
    assert list(driver.containers()) == []


def test_a_mechanism_that_cannot_be_loaded(driver: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says why: its author has nothing else to go by."""
    broken = type("Toy", (), {"__module__": "toy.broken"})
    monkeypatch.setattr(Toy, "mechanism", broken)
    with pytest.raises(DriverError, match=r"ended.*No module named 'toy.broken'"):
        create(driver, "runs")
    assert list(driver.containers()) == []


def test_a_start_that_fails(driver: Toy) -> None:
    """It has execve's number, and the container has stopped."""
    create(driver, "fails to start")
    with pytest.raises(StartFailed, match="no such program") as caught:
        driver.start("box")
    assert caught.value.errno == 2
    wait_for_the_end(driver)
    assert driver.state("box").exit_status == 137


def test_the_packages_own_init_is_not_run(driver: Toy) -> None:
    """It would load what plugins need, into every monitor."""
    create(driver, "runs")
    driver.start("box")
    assert wait_for_the_end(driver).exit_status == 7


def test_what_cannot_be_added(driver: Toy) -> None:
    """The mechanism's word is told, and the container runs on."""
    create(driver, "waits")
    driver.start("box")
    with pytest.raises(DriverError, match="cannot execute in box: the toy adds nothing"):
        driver.exec("box", ExecRequest("x", PROCESS))
    assert driver.state("box").status == "running"


def test_a_monitor_that_is_killed(driver: Toy) -> None:
    """Who asks has the first process ended, and is told that the status is lost."""
    pid = create(driver, "waits")
    driver.start("box")
    kill_the_monitor(driver)
    state = driver.state("box")
    assert (state.status, state.exit_status, state.lost) == ("stopped", 137, True)
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
    event = wait_for_the_end(driver)
    assert (event.exit_status, event.lost, event.finished) == (137, True, state.finished)


def test_a_watch_does_not_wait_for_what_a_killed_monitor_has_left(driver: Toy) -> None:
    """It is read on the event loop: it fails at once, and again; to end the rest is another's."""
    cleared: list[Path] = []
    driver.store = Store(driver.store.folder("x").parent.parent, cleared.append)
    create(driver, "waits")
    driver.start("box")
    watch = driver.watch("box")
    assert watch.read() == []
    kill_the_monitor(driver)
    for _ in range(2):
        assert select.select([watch], [], [], 60)[0], "no end came"
        with pytest.raises(DriverError, match="the monitor of box has ended without a word"):
            watch.read()
    watch.close()
    assert cleared == []
    assert driver.state("box").lost
    assert cleared == [driver.store.folder("box")]


def test_no_container_can_overwrite_the_interpreter(driver: Toy) -> None:
    """A monitor runs from a sealed copy in memory, and its memory is nobody's to look into."""
    monitor = parent_of(create(driver, "waits"))
    assert str(Path(f"/proc/{monitor}/exe").readlink()).startswith("/memfd:")
    with Path(f"/proc/{monitor}/exe").open("rb") as copy, pytest.raises(OSError, match="Text file"):
        os.open(f"/proc/self/fd/{copy.fileno()}", os.O_WRONLY)


def kill_the_monitor(driver: Toy) -> None:
    """Kill the monitor of the container ``box``, and wait for its end."""
    monitor = os.pidfd_open(parent_of(driver.state("box").pid))
    try:
        signal.pidfd_send_signal(monitor, signal.SIGKILL)
        assert select.select([monitor], [], [], 60)[0], "it lives on"
    finally:
        os.close(monitor)


def wait_for_the_end(driver: Toy) -> ExitEvent:
    """Return the event of the first process's end."""
    watch = driver.watch("box")
    try:
        assert select.select([watch], [], [], 60)[0], "no event came"
        (event,) = watch.read()
        assert isinstance(event, ExitEvent)
        return event
    finally:
        watch.close()
