"""What every resource driver must hold: groups that are made, entered, found again and removed."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from pannier.drivers.operations import Action, Plan, Step
from pannier.drivers.resources import (
    GroupRequest,
    Limits,
    ResourceCapability,
    ResourceDriver,
    ResourceEvents,
)
from pannier.errors import NotFound, PannierError
from pannier.testing.base import Conformance, Opened, mandatory
from pannier.testing.faults import kill_after_operations
from pannier.testing.leaks import wait_until
from pannier.testing.resource_bench import CHAIN, SAMPLES, WAITING, ResourceBench

__all__ = ["GroupTests", "ResourceTests"]


class ResourceTests(Conformance[ResourceDriver]):
    """What the parts of the resource kit share."""

    contract: ClassVar[type[ResourceDriver]] = ResourceDriver

    _bench: ResourceBench | None = None

    @pytest.fixture
    def bench(self, opened: Opened[ResourceDriver]) -> ResourceBench:
        """Return the driver with what was asked of it."""
        self._bench = ResourceBench(opened)
        return self._bench

    def still_there(self) -> list[str]:
        """Return the control groups beyond those that were there before the test."""
        if self._bench is None:
            return []
        bench = self._bench
        wait_until(lambda: not bench.groups_left(), self.patience)
        return [f"control group: {path}" for path in bench.groups_left()]

    def sweep(self, driver: ResourceDriver) -> None:
        """Delete the groups of the test, each twice."""
        if self._bench is None:
            return
        try:
            self._bench.sweep(driver)
        finally:
            self._bench.give_up()


class GroupTests(ResourceTests):
    """Groups, and the processes in them."""

    @mandatory
    def test_what_is_available_was_declared(self, bench: ResourceBench) -> None:
        """The host's controllers are among the capabilities; the version is 1 or 2."""
        assert bench.driver.available() <= set(bench.opened.capabilities)
        assert bench.driver.version in ("1", "2")

    @mandatory
    def test_hierarchies_are_where_they_are_said_to_be(self, bench: ResourceBench) -> None:
        """Every file that a process enters by is below one of the mount points."""
        points = [Path(point) for point in bench.driver.mount_points().values()]
        bench.create()
        files = bench.driver.procs("box")
        assert files
        for file in files:
            assert file.exists()
            assert any(file.is_relative_to(point) for point in points)
            assert bench.driver.path("box").strip("/") in str(file)

    @mandatory
    def test_describing_makes_nothing(self, bench: ResourceBench) -> None:
        """A plan can be described, and no group is there by that."""
        before = set(bench.driver.groups())
        plan = bench.plan(Limits(pids=9) if bench.has(ResourceCapability.PIDS) else None)
        assert plan.driver == bench.driver.id
        assert [step for step in plan.describe() if step.action and step.subject]
        assert set(bench.driver.groups()) == before
        assert bench.there() == []

    @mandatory
    def test_a_process_enters(self, bench: ResourceBench) -> None:
        """It finds the group in its own cgroup file, and the group lists it, and it alone."""
        bench.create()
        process = bench.start(WAITING)
        lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
        assert any(line.endswith(f":{bench.driver.path('box')}") for line in lines), lines
        assert bench.driver.pids("box") == [process.pid]
        assert bench.driver.usage("box").pids in (0, 1)
        process.communicate("\n")
        assert bench.driver.pids("box") == []

    @mandatory
    def test_a_group_is_created_once(self, bench: ResourceBench) -> None:
        """A second creation is no error and keeps the processes in it; the group is listed once."""
        bench.create()
        process = bench.start(WAITING)
        bench.create()
        assert bench.driver.pids("box") == [process.pid]
        assert [id for id in bench.driver.groups() if id == "box"] == ["box"]
        process.communicate("\n")

    @mandatory
    def test_unknown_groups(self, bench: ResourceBench) -> None:
        """Usage and update do not find them; they have no processes and no events, and no end."""
        driver = bench.driver
        with pytest.raises(NotFound):
            driver.usage("nobody")
        if bench.has(ResourceCapability.PIDS):
            with pytest.raises(NotFound):
                driver.update("nobody", Limits(pids=5))
        assert driver.pids("nobody") == []
        assert driver.events("nobody") == ResourceEvents()
        driver.kill("nobody")
        driver.delete("nobody")

    @mandatory
    @pytest.mark.parametrize("id", ["", ".", "..", "../kit-escape", "a/b"])
    def test_names_that_lead_elsewhere_are_refused(self, bench: ResourceBench, id: str) -> None:
        """An id is one component of a path, and is never taken for more."""
        try:
            bench.opened.run(bench.driver.plan_create(GroupRequest(id)))
        except PannierError:
            return
        bench.driver.delete(id)
        pytest.fail(f"a group was made for the id {id!r}")

    @mandatory
    def test_killing_ends_every_process(self, bench: ResourceBench) -> None:
        """Also those that fork faster than anyone can list them; a second time is no error."""
        bench.create()
        chain = bench.start(CHAIN)
        bench.driver.kill("box")
        assert bench.driver.pids("box") == []
        bench.driver.kill("box")
        # Its output ends with the last process that has it open.
        bench.ended(chain)

    @mandatory
    def test_deleting_kills_and_removes(self, bench: ResourceBench) -> None:
        """A group that is in use goes with its processes; a second time is no error."""
        bench.create()
        process = bench.start(WAITING)
        for _ in range(2):
            bench.driver.delete("box")
        assert bench.ended(process) == -signal.SIGKILL
        assert bench.there() == []
        assert "box" not in list(bench.driver.groups())

    @mandatory
    def test_groups_below_a_group(self, bench: ResourceBench) -> None:
        """A group below another's path is limited and entered; the outer one lists and ends it."""
        bench.create()
        parent = bench.driver.path("box").strip("/")
        limited = bench.has(ResourceCapability.PIDS)
        bench.create(Limits(pids=9) if limited else None, id="inner", parent=parent)
        process = bench.start(WAITING, id="inner", parent=parent)
        assert bench.driver.pids("inner", parent) == [process.pid]
        assert not limited or bench.driver.usage("inner", parent).pids_limit == 9
        assert bench.driver.pids("box") == [process.pid]
        bench.driver.kill("box")
        assert bench.ended(process) == -signal.SIGKILL
        bench.driver.delete("box")
        assert bench.there("inner", parent) == []

    @mandatory
    def test_a_parent_that_is_not_there_is_made(self, bench: ResourceBench) -> None:
        """A container may be given any parent, also one that nobody has made."""
        bench.create(id="outer")
        bench.driver.delete("outer")
        parent = f"{bench.driver.path('outer').strip('/')}/deep"
        bench.create(id="box", parent=parent)
        assert bench.run("print('in')", parent=parent) == (0, "in\n")

    @mandatory
    def test_groups_are_found_again(self, bench: ResourceBench) -> None:
        """A new instance lists them, knows their processes, and can end them."""
        bench.create()
        process = bench.start(WAITING)
        path = bench.driver.path("box")
        bench.opened.reopen()
        assert "box" in list(bench.driver.groups())
        assert bench.driver.path("box") == path
        assert bench.driver.pids("box") == [process.pid]
        bench.driver.delete("box")
        assert bench.ended(process) == -signal.SIGKILL
        assert "box" not in list(bench.driver.groups())

    @mandatory
    def test_a_failure_in_any_step_leaves_nothing(self, bench: ResourceBench) -> None:
        """Whichever operation fails, or what follows them: the group is not there."""

        def fail() -> None:
            raise RuntimeError("injected")

        limits = self._limits(bench)
        count = len(bench.plan(limits).operations)
        for position in range(count + 1):
            plan = bench.plan(limits)
            plan.operations.insert(position, Action(Step("fail", "here"), fail))
            with pytest.raises(RuntimeError, match="injected"):
                bench.opened.run(plan)
            assert bench.there() == [], f"after a failure before operation {position}"
            assert "box" not in list(bench.driver.groups())

    @mandatory
    def test_a_kill_between_any_two_steps_can_be_cleaned_up(self, bench: ResourceBench) -> None:
        """Wherever the daemon was killed, the next one lists what is there and removes it."""
        limits = self._limits(bench)
        bench.remember("box")

        def plan(driver: ResourceDriver) -> Plan[None]:
            return driver.plan_create(GroupRequest("box", limits=limits))

        count = 0
        while kill_after_operations(bench.opened, plan, count):
            assert bool(bench.there()) == ("box" in list(bench.driver.groups()))
            bench.driver.delete("box")
            assert bench.there() == [], f"after a kill behind {count} operations"
            count += 1
        assert "box" in list(bench.driver.groups())

    @mandatory
    def test_groups_are_made_at_once(self, bench: ResourceBench) -> None:
        """Threads that create and delete different groups do not disturb one another."""
        limited = bench.has(ResourceCapability.PIDS)

        def live(number: int) -> int:
            id = f"c{number}"
            bench.create(Limits(pids=number + 1) if limited else None, id=id)
            limit = bench.driver.usage(id).pids_limit
            bench.driver.delete(id)
            return limit

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(live, range(16)))
        assert not limited or found == list(range(1, 17))

    def _limits(self, bench: ResourceBench) -> Limits:
        """Return a limit of each of the usual controllers that are here."""
        memory, cpu, pids = (
            SAMPLES[capability] if bench.has(capability) else Limits()
            for capability in (
                ResourceCapability.MEMORY,
                ResourceCapability.CPU,
                ResourceCapability.PIDS,
            )
        )
        return Limits(
            memory=memory.memory,
            cpu_quota=cpu.cpu_quota,
            cpu_period=cpu.cpu_period,
            pids=pids.pids,
        )
