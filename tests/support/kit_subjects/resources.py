"""What the resource kit is tried on: drivers that each break the contract once.

Not collected by itself: ``test_other_kits`` runs it, and reads how each test went. Each class says
in *meant* which test must fail, and in *because* what that test must say. They break the driver of
whichever version of control groups this host has.
"""

# ruff: noqa: D101, D106, N801 - what each class breaks, its name and *because* say

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pannier.drivers.base import DriverContext
from pannier.drivers.operations import Action, Plan, Step
from pannier.drivers.resources import (
    GroupRequest,
    Limits,
    ResourceDriver,
    ResourceEvents,
    ResourceUsage,
)
from pannier.errors import NotFound
from pannier.testing.resources import ResourceConformance
from pannier_cgroup_v1.driver import CgroupV1, CgroupV1Config
from pannier_cgroup_v1.hierarchies import Hierarchies
from pannier_cgroup_v2.driver import CgroupV2, CgroupV2Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest_plugins = "pannier.testing.plugin"

HAS_V1 = "memory" in Hierarchies.discover().by_controller


class Sound(ResourceDriver):
    """Hands everything on to the real driver of this host."""

    id: ClassVar[str] = "broken"
    version: ClassVar[str] = "1" if HAS_V1 else "2"
    capabilities = (CgroupV1 if HAS_V1 else CgroupV2).capabilities

    @classmethod
    def probe(cls, context: DriverContext, config: Any) -> None:
        """Work anywhere."""

    def __init__(self, context: DriverContext, config: str) -> None:
        self.real: ResourceDriver = (
            CgroupV1(context, CgroupV1Config(config))
            if HAS_V1
            else CgroupV2(context, CgroupV2Config(config))
        )

    def close(self) -> None:
        self.real.close()

    def available(self) -> Any:
        return self.real.available()

    def plan_create(self, request: GroupRequest) -> Plan[None]:
        plan = self.real.plan_create(request)
        plan.driver = self.id
        return plan

    def path(self, id: str, parent: str = "") -> str:
        return self.real.path(id, parent)

    def procs(self, id: str, parent: str = "") -> Any:
        return self.real.procs(id, parent)

    def mount_points(self) -> Any:
        return self.real.mount_points()

    def update(self, id: str, limits: Limits, parent: str = "") -> None:
        self.real.update(id, limits, parent)

    def pids(self, id: str, parent: str = "") -> list[int]:
        return self.real.pids(id, parent)

    def freeze(self, id: str, parent: str = "") -> None:
        self.real.freeze(id, parent)

    def thaw(self, id: str, parent: str = "") -> None:
        self.real.thaw(id, parent)

    def kill(self, id: str, parent: str = "") -> None:
        self.real.kill(id, parent)

    def usage(self, id: str, parent: str = "") -> ResourceUsage:
        return self.real.usage(id, parent)

    def events(self, id: str, parent: str = "") -> ResourceEvents:
        return self.real.events(id, parent)

    def delete(self, id: str, parent: str = "") -> None:
        self.real.delete(id, parent)

    def groups(self) -> Iterator[str]:
        return self.real.groups()


class Subject(ResourceConformance):
    """The kit with a driver that a subclass names."""

    driver: ClassVar[type[Sound]]
    patience = 2.0

    @pytest.fixture
    def open_driver(self, tmp_path: Path) -> Iterator[Callable[[DriverContext], ResourceDriver]]:
        parent = f"pannier-kit-{secrets.token_hex(4)}"
        yield lambda context: self.driver(context, parent)
        sound = Sound(DriverContext(tmp_path, tmp_path), parent)
        for id in sound.groups():
            sound.delete(id)
        sound.close()


class Ignoring(Sound):
    """Leaves some limits out, and says of them what it was told."""

    def plan_create(self, request: GroupRequest) -> Plan[None]:
        return super().plan_create(replace(request, limits=self.less(request.limits)))

    def update(self, id: str, limits: Limits, parent: str = "") -> None:
        super().update(id, self.less(limits), parent)

    def less(self, limits: Limits) -> Limits:
        raise NotImplementedError


class TestIgnoresAMemoryLimit(Subject):
    meant, because = "test_a_memory_limit_bites", "SIGKILL"

    class driver(Ignoring):
        def less(self, limits: Limits) -> Limits:
            return replace(limits, memory=None, memory_swap=None)

        def usage(self, id: str, parent: str = "") -> ResourceUsage:
            return replace(super().usage(id, parent), memory_limit=64 << 20)


class TestIgnoresALimitOfProcesses(Subject):
    meant, because = "test_a_limit_of_processes_bites", "EAGAIN"

    class driver(Ignoring):
        def less(self, limits: Limits) -> Limits:
            return replace(limits, pids=None)

        def usage(self, id: str, parent: str = "") -> ResourceUsage:
            return replace(super().usage(id, parent), pids_limit=3)


class TestIgnoresAQuota(Subject):
    meant, because = "test_a_quota_bites", "never throttled"

    class driver(Ignoring):
        def less(self, limits: Limits) -> Limits:
            return replace(limits, cpu_quota=None, cpu_period=None)


class TestIgnoresASetOfProcessors(Subject):
    meant, because = "test_a_value_that_the_kernel_refuses", "DID NOT RAISE"

    class driver(Ignoring):
        def less(self, limits: Limits) -> Limits:
            return replace(limits, cpuset_cpus=None)


class TestIgnoresDeviceRules(Subject):
    meant, because = "test_device_rules_bite", "yes"

    class driver(Sound):
        def plan_create(self, request: GroupRequest) -> Plan[None]:
            return super().plan_create(replace(request, devices=()))


class TestForgetsADenial(Subject):
    meant, because = "test_a_denial_is_whole_or_refused", "yes"

    class driver(Sound):
        def plan_create(self, request: GroupRequest) -> Plan[None]:
            return super().plan_create(replace(request, devices=request.devices[:-1]))


class TestFreezesNothing(Subject):
    meant, because = "test_a_frozen_group_stands_still", "a frozen process answered"

    class driver(Sound):
        def freeze(self, id: str, parent: str = "") -> None:
            self.thaw(id, parent)


class TestCountsNoKills(Subject):
    meant, because = "test_a_memory_limit_bites", "oom_kill"

    class driver(Sound):
        def events(self, id: str, parent: str = "") -> ResourceEvents:
            return replace(super().events(id, parent), oom=0, oom_kill=0)


class TestForgetsAtReopen(Subject):
    meant, because = "test_groups_are_found_again", "'box' in"

    class driver(Sound):
        def __init__(self, context: DriverContext, config: str) -> None:
            super().__init__(context, config)
            self.mine: set[str] = set()

        def plan_create(self, request: GroupRequest) -> Plan[None]:
            self.mine.add(request.id)
            return super().plan_create(request)

        def groups(self) -> Iterator[str]:
            return (id for id in super().groups() if id in self.mine)


class TestUpdatesHalf(Subject):
    meant, because = "test_an_update_is_whole_or_nothing", "assert"

    class driver(Sound):
        def update(self, id: str, limits: Limits, parent: str = "") -> None:
            for name in ("memory", "pids", "cpu_quota", "cpuset_cpus"):
                value = getattr(limits, name)
                period = limits.cpu_period if name == "cpu_quota" else None
                super().update(id, replace(Limits(cpu_period=period), **{name: value}), parent)


class TestLeavesAGroupBehind(Subject):
    meant, because = "test_a_process_enters", "control group: .*/box-beside"

    class driver(Sound):
        def plan_create(self, request: GroupRequest) -> Plan[None]:
            plan = super().plan_create(request)
            step = Step("make", "a group beside")
            plan.operations.append(Action(step, lambda: self.make_beside(request.id)))
            return plan

        def make_beside(self, id: str) -> None:
            for file in self.procs(id):
                (file.parent.parent / f"{id}-beside").mkdir(exist_ok=True)


class TestSecondDeleteRaises(Subject):
    meant, because = "test_deleting_kills_and_removes", "NotFound"

    class driver(Sound):
        def delete(self, id: str, parent: str = "") -> None:
            if not any(file.exists() for file in self.procs(id, parent)):
                raise NotFound("no such group")
            super().delete(id, parent)


class TestDeletesOnlyWhatIsEmpty(Subject):
    meant, because = "test_deleting_kills_and_removes", "Device or resource busy"

    class driver(Sound):
        def delete(self, id: str, parent: str = "") -> None:
            for file in self.procs(id, parent):
                with contextlib.suppress(FileNotFoundError):
                    file.parent.rmdir()


class TestKillsAListOnce(Subject):
    meant, because = "test_killing_ends_every_process", r"== \[\]"

    class driver(Sound):
        def kill(self, id: str, parent: str = "") -> None:
            for pid in self.pids(id, parent):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


class TestListsItsOwnGroupAlone(Subject):
    meant, because = "test_groups_below_a_group", r"\[\] == \["

    class driver(Sound):
        def pids(self, id: str, parent: str = "") -> list[int]:
            found: set[int] = set()
            for file in self.procs(id, parent):
                with contextlib.suppress(FileNotFoundError):
                    found.update(map(int, file.read_text().split()))
            return sorted(found)


class TestUndoesNothing(Subject):
    meant, because = "test_a_failure_in_any_step_leaves_nothing", "before operation 1"

    class driver(Sound):
        def plan_create(self, request: GroupRequest) -> Plan[None]:
            plan = super().plan_create(request)
            plan.operations[:] = [
                Action(operation.describe()[0], operation.execute) for operation in plan.operations
            ]
            return plan


class TestActsWhilePlanning(Subject):
    meant, because = "test_describing_makes_nothing", "box"

    class driver(Sound):
        def plan_create(self, request: GroupRequest) -> Plan[None]:
            plan = super().plan_create(request)
            plan.operations[0].execute()
            return plan


class TestFindsWhatIsNotThere(Subject):
    meant, because = "test_unknown_groups", "DID NOT RAISE"

    class driver(Sound):
        def usage(self, id: str, parent: str = "") -> ResourceUsage:
            try:
                return super().usage(id, parent)
            except NotFound:
                return ResourceUsage()


class TestTakesAnyName(Subject):
    meant, because = "test_names_that_lead_elsewhere_are_refused", "a group was made"

    class driver(Sound):
        def plan_create(self, request: GroupRequest) -> Plan[None]:
            return super().plan_create(replace(request, id=request.id.strip("./") or "x"))

        def delete(self, id: str, parent: str = "") -> None:
            super().delete(id.strip("./") or "x", parent)


class TestClaimsWhatItHasNot(Subject):
    meant, because = "test_what_is_available_was_declared", "capabilities"

    class driver(Sound):
        capabilities = frozenset()
