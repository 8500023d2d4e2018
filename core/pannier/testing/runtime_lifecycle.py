"""The life of a container: created, started, ended, deleted; restarts, kills and failures."""

from __future__ import annotations

import errno
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.operations import Action, Step, Transaction
from pannier.drivers.runtime import ExecRequest, ExitEvent, RuntimeCapability, StdioSpec
from pannier.errors import Conflict, InvalidRequest, NotFound, PannierError, StartFailed
from pannier.testing.base import mandatory, refuses, requires
from pannier.testing.faults import kill_after_operations, killed
from pannier.testing.leaks import wait_until
from pannier.testing.runtime_bench import (
    FOREVER,
    RuntimeBench,
    RuntimeTests,
    events,
    is_alive,
    make_spec,
    wait_for,
)

if TYPE_CHECKING:
    from pannier.drivers.operations import Plan, Timing
    from pannier.drivers.runtime import RuntimeDriver, RuntimeState

__all__ = ["LifecycleTests"]

_INPUT = StdioSpec(stdin=True)
_WAITS = ("sh", "-c", "echo up; read word; exit 12")


class LifecycleTests(RuntimeTests):
    """What every runtime driver holds of a container's life."""

    @mandatory
    @pytest.mark.parametrize("status", [0, 1, 42, 255])
    def test_the_exit_status_is_the_programs(self, bench: RuntimeBench, status: int) -> None:
        """What the first process returns is told by the event and by the state."""
        bench.runs(make_spec("sh", "-c", f"exit {status}"))
        event = bench.wait()
        assert (event.container, event.exec_id) == ("box", None)
        assert (event.exit_status, event.lost) == (status, False)
        assert bench.driver.state("box").exit_status == status

    @mandatory
    def test_a_signal_becomes_128_and_its_number(self, bench: RuntimeBench) -> None:
        """A container that SIGKILL ended has the status 137."""
        bench.runs(make_spec(*FOREVER))
        bench.driver.kill("box", signal.SIGKILL)
        assert bench.wait().exit_status == 128 + signal.SIGKILL

    @mandatory
    def test_a_signal_reaches_its_handler(self, bench: RuntimeBench) -> None:
        """It is delivered to the first process, and not made a SIGKILL."""
        script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"
        client = bench.runs(make_spec("sh", "-c", script))
        client.until(b"up")
        bench.driver.kill("box", signal.SIGTERM)
        assert bench.wait().exit_status == 7

    @mandatory
    def test_the_states_are_the_specifications(self, bench: RuntimeBench) -> None:
        """Created with a pid, running with the same, stopped with none, a status and a time."""
        bench.create(make_spec(*_WAITS), stdio=_INPUT)
        created = bench.driver.state("box")
        assert (created.id, created.status, created.exit_status) == ("box", "created", None)
        assert is_alive(created.pid)
        client = bench.start()
        running = bench.driver.state("box")
        assert (running.status, running.pid) == ("running", created.pid)
        assert running.finished == 0.0
        client.send(b"\n")
        event = bench.wait()
        stopped = bench.driver.state("box")
        assert (stopped.status, stopped.pid, stopped.exit_status) == ("stopped", 0, 12)
        assert stopped.finished == event.finished > 0
        assert list(bench.driver.containers()) == ["box"]

    @mandatory
    def test_nothing_executes_before_the_start(self, bench: RuntimeBench) -> None:
        """A created container has its namespaces and its root, and its program has not run."""
        mark = bench.rootfs / "tmp/ran"
        bench.create(make_spec("touch", "/tmp/ran"))
        assert not mark.exists()
        bench.start()
        bench.wait()
        assert mark.exists()

    @mandatory
    def test_an_id_is_had_once(self, bench: RuntimeBench) -> None:
        """A second container of it is a conflict, and the first stays as it is."""
        bench.create(make_spec(*FOREVER))
        before = bench.driver.state("box")
        with pytest.raises(Conflict):
            bench.create(make_spec(*FOREVER))
        assert bench.driver.state("box") == before
        assert is_alive(before.pid)

    @mandatory
    def test_unknown_containers_are_not_found(self, bench: RuntimeBench) -> None:
        """Every verb says so, but delete, which has nothing to do."""
        driver = bench.driver
        client = bench.client()
        request = ExecRequest("x", make_spec("true")["process"])
        for verb in (
            lambda: driver.state("nobody"),
            lambda: driver.start("nobody"),
            lambda: driver.watch("nobody"),
            lambda: driver.kill("nobody", 9),
            lambda: driver.attach("nobody", client.connection()),
            lambda: driver.resize("nobody", 1, 1),
            lambda: driver.exec("nobody", request),
        ):
            with pytest.raises(NotFound):
                verb()
        driver.delete("nobody")

    @mandatory
    def test_what_has_stopped_conflicts(self, bench: RuntimeBench) -> None:
        """It can be neither started, signalled, attached to nor entered."""
        bench.runs(make_spec("true"))
        bench.wait()
        driver, client = bench.driver, bench.client()
        request = ExecRequest("x", make_spec("true")["process"])
        for verb in (
            lambda: driver.start("box"),
            lambda: driver.kill("box", 15),
            lambda: driver.attach("box", client.connection()),
            lambda: driver.exec("box", request),
        ):
            with pytest.raises(Conflict):
                verb()

    @mandatory
    def test_what_does_not_run_cannot_be_entered(self, bench: RuntimeBench) -> None:
        """A created container takes no further process; a running one no second start."""
        bench.create(make_spec(*FOREVER))
        with pytest.raises(Conflict):
            bench.driver.exec("box", ExecRequest("x", make_spec("true")["process"]))
        bench.start()
        with pytest.raises(Conflict):
            bench.driver.start("box")

    @mandatory
    @pytest.mark.parametrize(
        ("program", "number"),
        [
            ("nonsense", errno.ENOENT),
            ("/bin/nonsense", errno.ENOENT),
            ("/etc/passwd", errno.EACCES),
        ],
    )
    def test_a_program_that_cannot_be_executed(
        self, bench: RuntimeBench, program: str, number: int
    ) -> None:
        """It fails with the number that execve gave: the start, or the creation already.

        A container whose start failed has stopped; one that could not be created is not there.
        """
        with pytest.raises(StartFailed) as caught:
            bench.runs(make_spec(program))
        assert caught.value.errno == number
        assert program in caught.value.message
        if "box" in bench.driver.containers():
            bench.wait()
            assert bench.driver.state("box").status == "stopped"

    @mandatory
    def test_deleting_kills(self, bench: RuntimeBench) -> None:
        """Created or running, its processes have ended when the call returns; twice is fine."""
        for started in (False, True):
            bench.create(make_spec(*FOREVER))
            if started:
                bench.start()
            pid = bench.driver.state("box").pid
            for _ in range(2):
                bench.driver.delete("box")
            assert not is_alive(pid)
            assert list(bench.driver.containers()) == []
            with pytest.raises(NotFound):
                bench.driver.state("box")

    @mandatory
    def test_every_process_ends_with_the_first(self, bench: RuntimeBench) -> None:
        """What it has left behind in its pid namespace does not outlive it."""
        client = bench.runs(make_spec("sh", "-c", "sleep 1000 & read word"), stdio=_INPUT)
        client.send(b"\n")
        assert bench.wait().exit_status == 0
        assert client.raw() == b""

    @mandatory
    def test_an_end_is_told_to_all_and_later(self, bench: RuntimeBench) -> None:
        """Two watches are told of it, and so is one that comes afterwards; then no more comes."""
        client = bench.runs(make_spec(*_WAITS), stdio=_INPUT)
        watches = [bench.driver.watch("box") for _ in range(2)]
        assert watches[0].read() == []
        client.send(b"\n")
        found = [wait_for(watch, None) for watch in watches]
        assert found[0] == found[1] == bench.wait()
        assert found[0].exit_status == 12
        for watch in watches:
            assert watch.read() == []
            watch.close()
            watch.close()

    # Restarts and kills of the driver's process.

    @mandatory
    def test_a_running_container_is_found_again(self, bench: RuntimeBench) -> None:
        """It lives on while the driver is closed; a new instance knows it in all respects."""
        client = bench.runs(make_spec(*_WAITS), stdio=_INPUT)
        client.until(b"up")
        before = bench.driver.state("box")
        bench.opened.reopen()
        assert list(bench.driver.containers()) == ["box"]
        assert bench.driver.state("box") == before
        assert bench.exec("sh", "-c", "echo hello").out == "hello\n"
        client.send(b"\n")
        assert bench.wait().exit_status == 12

    @mandatory
    def test_a_created_container_is_found_again(self, bench: RuntimeBench) -> None:
        """A new instance can start it."""
        bench.create(make_spec("sh", "-c", "echo out; exit 3"))
        bench.opened.reopen()
        assert bench.driver.state("box").status == "created"
        assert bench.start().streams()[1] == b"out\n"
        assert bench.wait().exit_status == 3

    @mandatory
    def test_an_end_while_nobody_was_there(self, bench: RuntimeBench) -> None:
        """The exit status and its time are found by the next instance."""
        client = bench.runs(make_spec(*_WAITS), stdio=_INPUT)
        pid = bench.driver.state("box").pid
        bench.driver.close()
        client.send(b"\n")
        assert wait_until(lambda: not is_alive(pid))
        bench.opened.resume()
        event = bench.wait()
        assert (event.exit_status, event.lost) == (12, False)
        assert bench.driver.state("box").exit_status == 12

    @mandatory
    def test_containers_outlive_a_killed_driver(self, bench: RuntimeBench) -> None:
        """The daemon that had started it was killed: the next one has it, and ends it."""
        bench.made.append("box")

        def live(driver: RuntimeDriver) -> None:
            Transaction().run(driver.plan_create(bench.rooted(make_spec(*FOREVER))))
            driver.start("box")
            signal.raise_signal(signal.SIGKILL)

        assert killed(bench.opened, live)
        state = bench.driver.state("box")
        assert state.status == "running"
        assert is_alive(state.pid)
        bench.pids.append(state.pid)
        bench.driver.kill("box", signal.SIGKILL)
        assert bench.wait().exit_status == 137

    @mandatory
    def test_a_kill_between_any_two_steps_can_be_cleaned_up(self, bench: RuntimeBench) -> None:
        """Wherever the daemon was killed, the next one can delete what is there."""
        bench.made.append("box")

        def plan(driver: RuntimeDriver) -> Plan[RuntimeState]:
            return driver.plan_create(bench.rooted(make_spec(*FOREVER)))

        count = 0
        while kill_after_operations(bench.opened, plan, count):
            bench.driver.delete("box")
            assert list(bench.driver.containers()) == [], f"after a kill behind {count} operations"
            count += 1
        bench.driver.delete("box")
        assert bench.sh("exit 5").status == 5

    @mandatory
    def test_a_failure_in_any_step_leaves_nothing(self, bench: RuntimeBench) -> None:
        """Whichever operation fails, or what follows them: there is no container."""

        def fail() -> None:
            raise RuntimeError("injected")

        bench.made.append("box")  # should it be there after all
        count = len(bench.driver.plan_create(bench.request("box", make_spec("true"))).operations)
        for position in range(count + 1):
            plan = bench.driver.plan_create(bench.rooted(make_spec(*FOREVER)))
            plan.operations.insert(position, Action(Step("fail", "here"), fail))
            with pytest.raises(RuntimeError, match="injected"):
                bench.opened.run(plan)
            assert list(bench.driver.containers()) == [], f"a failure before operation {position}"
        assert bench.sh("exit 5").status == 5

    # Plans.

    @mandatory
    def test_describing_does_nothing(self, bench: RuntimeBench) -> None:
        """A plan without a root can be described, and no container is there by that."""
        plan = bench.driver.plan_create(bench.request("box", make_spec("true")))
        assert plan.driver == bench.driver.id
        assert [step for step in plan.describe() if step.action and step.subject]
        assert list(bench.driver.containers()) == []

    @requires(RuntimeCapability.TIMINGS)
    def test_each_step_has_its_time(self, bench: RuntimeBench) -> None:
        """A recorder is told of more steps than there are operations, each one described."""
        seen: list[Timing] = []

        class Recorder:
            def record(self, driver: str, timing: Timing) -> None:
                del driver
                seen.append(timing)

        bench.made.append("box")
        plan = bench.driver.plan_create(bench.rooted(make_spec(*FOREVER)))
        described = plan.describe()
        Transaction(Recorder()).run(plan)
        assert len(seen) > len(plan.operations)
        for timing in seen:
            assert timing.step in described
            assert 0 < timing.begin <= timing.end

    @mandatory
    def test_containers_are_made_at_once(self, bench: RuntimeBench) -> None:
        """Threads that create, run and delete at the same time do not disturb one another."""

        def life(number: int) -> tuple[int, str]:
            result = bench.sh(f"echo {number}; exit {number}", id=f"c{number}")
            return result.status, result.out

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(life, range(12)))
        assert results == [(number, f"{number}\n") for number in range(12)]

    # What is not offered, and what is malformed.

    @mandatory
    @pytest.mark.parametrize(
        "change",
        [
            {"namespaces": [{"type": "mount"}, {"type": "odd"}]},
            {"namespaces": [{"type": "mount"}], "sysctl": {"vm.nonsense": "1"}},
        ],
        ids=["namespace", "sysctl"],
    )
    def test_a_malformed_specification_is_refused(
        self, bench: RuntimeBench, change: dict[str, Any]
    ) -> None:
        """It is an invalid request, and nothing is left of the attempt."""
        spec = make_spec("true")
        spec["linux"].update(change)  # type: ignore[typeddict-item]
        with pytest.raises(InvalidRequest):
            bench.create(spec)
        assert list(bench.driver.containers()) == []

    @mandatory
    def test_a_mount_that_the_kernel_refuses(self, bench: RuntimeBench) -> None:
        """It is named by its destination, and nothing is left of the attempt."""
        spec = make_spec("true")
        spec["mounts"].append(
            {"destination": "/kit", "type": "tmpfs", "source": "x", "options": ["nonsense=1"]}
        )
        with pytest.raises(PannierError, match="/kit"):
            bench.create(spec)
        assert list(bench.driver.containers()) == []

    @requires(RuntimeCapability.KEEP_DESCRIPTORS)
    def test_kept_descriptors_live_as_long_as_the_container(self, bench: RuntimeBench) -> None:
        """What was to be kept open is open until it stops, also over a restart, and no longer."""
        ours, theirs = socket.socketpair()
        with ours:
            bench.create(make_spec(*FOREVER))
            bench.driver.start("box", keep=[theirs.fileno()])
            theirs.close()
            bench.opened.reopen()
            ours.setblocking(False)
            with pytest.raises(BlockingIOError):
                ours.recv(1)
            ours.settimeout(60)
            bench.driver.kill("box", signal.SIGKILL)
            assert ours.recv(1) == b""

    @refuses(RuntimeCapability.KEEP_DESCRIPTORS)
    def test_keeping_descriptors_is_refused(self, bench: RuntimeBench) -> None:
        """Without the capability nobody believes that a port stays reserved."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            bench.create(make_spec(*FOREVER))
            with self.refused():
                bench.driver.start("box", keep=[theirs.fileno()])

    @mandatory
    def test_a_watch_can_be_polled(self, bench: RuntimeBench) -> None:
        """Its descriptor becomes readable when there is something, and not before."""
        client = bench.runs(make_spec(*_WAITS), stdio=_INPUT)
        client.until(b"up")
        watch = bench.driver.watch("box")
        assert watch.read() == []
        client.send(b"\n")
        (event,) = events(watch)
        assert isinstance(event, ExitEvent)
        assert event.exit_status == 12
        watch.close()
