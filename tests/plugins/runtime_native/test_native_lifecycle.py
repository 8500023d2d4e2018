"""The life of a container: created, started, ended, deleted; and what can go wrong."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from errno import EACCES, ENOENT
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.operations import Transaction
from pannier.drivers.runtime import StdioSpec
from pannier.errors import (
    Conflict,
    DriverError,
    InvalidRequest,
    NotFound,
    StartFailed,
    UnsupportedOperation,
)
from pannier_runtime_native.driver import NativeRuntime
from support.native import make_spec

if TYPE_CHECKING:
    from pannier.drivers.operations import Timing
    from support.native import Box

pytestmark = pytest.mark.root


def test_probe_accepts_this_host(box: Box) -> None:
    """On a host with namespaces the driver is usable."""
    NativeRuntime.probe(box.context, NativeRuntime.config_type())


@pytest.mark.parametrize(("args", "status"), [(["true"], 0), (["false"], 1)])
def test_exit_status_is_the_programs(box: Box, args: list[str], status: int) -> None:
    """The status of the program is the container's."""
    assert box.run(make_spec(*args)).status == status


def test_a_signal_becomes_128_and_its_number(box: Box) -> None:
    """A container killed by SIGKILL has the status 137."""
    box.create("a", make_spec("sleep", "100"))
    box.start("a")
    box.driver.kill("a", signal.SIGKILL)
    assert box.wait("a").exit_status == 137


def test_kill_reaches_a_handler(box: Box) -> None:
    """A signal is delivered to the first process."""
    box.create("a", make_spec("sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 1; done"))
    client = box.start("a")
    client.until(b"up")
    box.driver.kill("a", signal.SIGTERM)
    assert box.wait("a").exit_status == 7


def test_states_follow_the_specification(box: Box) -> None:
    """Created with a pid, running with the same, stopped with none and a status."""
    box.create("a", make_spec("sh", "-c", "read _; exit 3"), stdio=StdioSpec(stdin=True))
    created = box.driver.state("a")
    assert created.status == "created"
    assert created.pid > 0
    client = box.start("a")
    running = box.driver.state("a")
    assert (running.status, running.pid) == ("running", created.pid)
    client.send(b"\n")
    event = box.wait("a")
    stopped = box.driver.state("a")
    assert (stopped.status, stopped.pid, stopped.exit_status) == ("stopped", 0, 3)
    assert stopped.finished == event.finished


def test_nothing_executes_before_the_start(box: Box) -> None:
    """A created container has its namespaces, and its program has not run."""
    box.create("a", make_spec("touch", "/tmp/ran"))
    assert not (box.rootfs / "tmp/ran").exists()
    box.start("a")
    box.wait("a")
    assert (box.rootfs / "tmp/ran").exists()


def test_a_second_container_of_an_id_is_refused(box: Box) -> None:
    """And the first one stays as it is."""
    box.create("a", make_spec("sleep", "100"))
    with pytest.raises(Conflict):
        box.create("a", make_spec("sleep", "100"))
    assert box.driver.state("a").status == "created"


def test_unknown_containers_are_not_found(box: Box) -> None:
    """Every verb but delete says so."""
    for verb in (box.driver.state, box.driver.start, box.driver.watch):
        with pytest.raises(NotFound):
            verb("nobody")
    with pytest.raises(NotFound):
        box.driver.kill("nobody", 9)
    box.driver.delete("nobody")


def test_what_has_stopped_conflicts(box: Box) -> None:
    """A stopped container can be neither started nor signalled."""
    box.create("a", make_spec("true"))
    box.start("a")
    box.wait("a")
    with pytest.raises(Conflict):
        box.driver.start("a")
    with pytest.raises(Conflict):
        box.driver.kill("a", 15)


def test_a_second_start_conflicts(box: Box) -> None:
    """A running container cannot be started."""
    box.create("a", make_spec("sleep", "100"))
    box.start("a")
    with pytest.raises(Conflict):
        box.driver.start("a")


@pytest.mark.parametrize(
    ("program", "number", "message"),
    [
        ("nonsense", ENOENT, 'exec: "nonsense": executable file not found in $PATH'),
        ("/bin/nonsense", ENOENT, "stat /bin/nonsense: no such file or directory"),
        ("/etc/passwd", EACCES, 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_a_program_that_cannot_be_executed(
    box: Box, program: str, number: int, message: str
) -> None:
    """The error has the number, and the words that clients look for."""
    box.create("a", make_spec(program))
    with pytest.raises(StartFailed, match=message.replace("$", r"\$")) as caught:
        box.driver.start("a")
    assert caught.value.errno == number
    box.wait("a")
    assert box.driver.state("a").status == "stopped"


def test_delete_kills_and_is_idempotent(box: Box) -> None:
    """A running container is killed; then there is nothing of it."""
    box.create("a", make_spec("sleep", "100"))
    box.start("a")
    pid = box.driver.state("a").pid
    box.driver.delete("a")
    assert not Path(f"/proc/{pid}").exists()
    assert list(box.driver.containers()) == []
    box.driver.delete("a")


def test_a_created_container_can_be_deleted(box: Box) -> None:
    """Although it was never started."""
    box.create("a", make_spec("sleep", "100"))
    pid = box.driver.state("a").pid
    box.driver.delete("a")
    assert not Path(f"/proc/{pid}").exists()


def test_an_exit_before_the_watch_is_told(box: Box) -> None:
    """A watch that comes late gets the event at once."""
    box.create("a", make_spec("false"))
    box.start("a")
    first = box.wait("a")
    assert box.wait("a") == first
    assert first.exit_status == 1
    assert not first.lost


def test_kept_descriptors_live_as_long_as_the_container(box: Box) -> None:
    """What was to be kept open is open until the container stops, and no longer."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    box.create("a", make_spec("sleep", "100"))
    box.driver.start("a", keep=[theirs.fileno()])
    theirs.close()
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    ours.settimeout(60)
    box.driver.kill("a", signal.SIGKILL)
    assert ours.recv(1) == b""
    ours.close()


def test_a_failing_step_names_itself_and_leaves_nothing(box: Box) -> None:
    """A mount that the kernel refuses is named; the transaction takes everything back."""
    spec = make_spec("true")
    spec["mounts"].append(
        {"destination": "/x", "type": "tmpfs", "source": "x", "options": ["nonsense=1"]}
    )
    with pytest.raises(DriverError, match="cannot mount /x tmpfs"):
        box.create("a", spec)
    assert list(box.driver.containers()) == []


def test_a_missing_bind_source_is_an_invalid_request(box: Box) -> None:
    """It is named, as docker clients expect it."""
    spec = make_spec("true")
    spec["mounts"].append({"destination": "/x", "type": "bind", "source": "/nonsense"})
    with pytest.raises(InvalidRequest, match="bind source path does not exist: /nonsense"):
        box.create("a", spec)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"hooks": {"poststart": [{"path": "/x"}]}}, UnsupportedOperation),
        ({"linux": {"namespaces": [{"type": "mount"}, {"type": "odd"}]}}, InvalidRequest),
        ({"linux": {"namespaces": []}}, UnsupportedOperation),
        ({"linux": {"namespaces": [{"type": "mount"}], "sysctl": {"vm.x": "1"}}}, InvalidRequest),
    ],
)
def test_what_is_not_offered_is_refused_while_planning(
    box: Box, change: dict[str, object], error: type[Exception]
) -> None:
    """Nothing has been touched by then."""
    spec = {**make_spec("true"), **change}
    with pytest.raises(error):
        box.driver.plan_create(box.request("a", spec))  # type: ignore[arg-type] # odd on purpose
    assert list(box.driver.containers()) == []


def test_limits_that_may_not_be_raised_are_named(box: Box) -> None:
    """Without CAP_SYS_RESOURCE, the limit and the reason stand in the error."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    if effective >> 24 & 1:
        pytest.skip("this process has CAP_SYS_RESOURCE: run without it to see the refusal")
    limit = {"type": "RLIMIT_NOFILE", "soft": 1 << 25, "hard": 1 << 25}
    with pytest.raises(DriverError, match="RLIMIT_NOFILE") as caught:
        box.create("a", make_spec("true", rlimits=[limit]))
    assert "CAP_SYS_RESOURCE" in (caught.value.hint or "")


def test_explaining_does_nothing(box: Box) -> None:
    """A plan lists namespaces, mounts, masks, devices, capabilities, and has made none."""
    plan = box.driver.plan_create(box.request("a", make_spec("true")))
    text = "\n".join(map(str, plan.describe()))
    for words in (
        "create namespaces mount, pid, uts, ipc, network, cgroup",
        "mount /proc proc",
        "make device /dev/null c 1:3",
        "mask /proc/kcore",
        "set read-only /proc/sys",
        "set hostname box",
        "CAP_CHOWN",
        "pivot root /",
        "execute true",
    ):
        assert words in text
    assert list(box.driver.containers()) == []


def test_timings_are_those_of_the_described_steps(box: Box) -> None:
    """A recorder is given each step that was carried out, with its times."""
    recorded: list[tuple[str, Timing]] = []

    class Recorder:
        def record(self, driver: str, timing: Timing) -> None:
            recorded.append((driver, timing))

    root = box.root()
    box.made.append("a")
    request = box.request("a", make_spec("true"))
    plan = box.driver.plan_create(type(request)("a", request.spec, root))
    Transaction(Recorder()).run(plan)
    os.close(root)
    steps = [timing.step for _, timing in recorded]
    assert steps == plan.describe()[: len(steps)]
    assert all(0 < timing.begin <= timing.end for _, timing in recorded)
    assert {driver for driver, _ in recorded} == {"native"}


def test_thirty_containers_at_once(box: Box) -> None:
    """Threads that create, run and delete at the same time do not disturb one another."""

    def life(number: int) -> tuple[int, str]:
        result = box.run(make_spec("sh", "-c", f"echo {number}; exit {number}"), id=f"c{number}")
        return result.status, result.out

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(life, range(30)))
    assert results == [(number, f"{number}\n") for number in range(30)]
    assert list(box.driver.containers()) == []
