"""The kit for resource drivers, on the host's own control groups.

The driver that the author opens must have a parent group of its own in its configuration, so that
nobody else's groups are listed. See :mod:`pannier.testing.base` for how the class is used.
"""

from __future__ import annotations

import select
import signal
import time
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.resources import DeviceRule, Limits, ResourceCapability
from pannier.errors import Conflict, InvalidRequest, PannierError, UnsupportedOperation
from pannier.testing.base import mandatory, refuses, requires
from pannier.testing.leaks import wait_until
from pannier.testing.resource_bench import BUSY, MIB, NOTHING, SAMPLES, WAITING
from pannier.testing.resource_groups import GroupTests

if TYPE_CHECKING:
    from pannier.testing.resource_bench import ResourceBench

__all__ = ["ResourceConformance"]

_CPU = ResourceCapability.CPU
_CPUSET = ResourceCapability.CPUSET
_DEVICES = ResourceCapability.DEVICES
_FREEZE = ResourceCapability.FREEZE
_MEMORY = ResourceCapability.MEMORY
_PIDS = ResourceCapability.PIDS
_SWAP = ResourceCapability.SWAP

_FORKS = """
import errno, signal
children = []
try:
    for _ in range(9):
        pid = os.fork()
        if not pid:
            signal.pause()
        children.append(pid)
except OSError as error:
    print(len(children), errno.errorcode[error.errno])
for pid in children:
    os.kill(pid, 9)
"""

_OPENS = """
for path, flags in (('/dev/null', os.O_RDWR), ('/dev/urandom', os.O_RDONLY),
                    ('/dev/urandom', os.O_WRONLY), ('/dev/zero', os.O_RDONLY)):
    try:
        os.close(os.open(path, flags))
        print('yes')
    except PermissionError:
        print('no')
"""


class ResourceConformance(GroupTests):
    """The contract of :class:`~pannier.drivers.resources.ResourceDriver`, as tests to inherit.

    They need root. A capability that is declared, but that this host has no controller for, is
    tried in one way only: its limits must be refused.
    """

    @mandatory
    @pytest.mark.parametrize("capability", SAMPLES)
    def test_what_is_not_offered_is_refused(
        self, bench: ResourceBench, capability: ResourceCapability
    ) -> None:
        """A limit that is not declared, or has no controller here, is never silently ignored."""
        if bench.has(capability):
            pytest.skip(f"not applicable: {capability} is offered on this host")
        limits = SAMPLES[capability]
        with self.refused():
            bench.create(limits)
        assert bench.there() == []
        bench.create()
        with self.refused():
            bench.driver.update("box", limits)

    @refuses(_DEVICES)
    def test_device_rules_are_refused(self, bench: ResourceBench) -> None:
        """Without the capability nobody believes that devices are denied."""
        with self.refused():
            bench.create(None, NOTHING)

    @refuses(_FREEZE)
    def test_freezing_is_refused(self, bench: ResourceBench) -> None:
        """Without the capability a pause is not pretended."""
        bench.create()
        with self.refused():
            bench.driver.freeze("box")

    # Memory.

    @mandatory
    @requires(_MEMORY)
    def test_a_memory_limit_bites(self, bench: ResourceBench) -> None:
        """A process that takes more is killed, and the kill is counted; it is read back."""
        limits = self._needs(bench, _MEMORY)
        if bench.has(_SWAP):
            limits = Limits(memory=64 * MIB, memory_swap=64 * MIB)
        bench.create(limits)
        assert bench.driver.usage("box").memory_limit == 64 * MIB
        assert bench.driver.events("box").oom_kill == 0
        status, output = bench.run("x = bytearray(b'x' * (256 << 20))")
        assert status == -signal.SIGKILL, output
        events = bench.driver.events("box")
        assert events.oom_kill >= 1
        assert events.oom >= 1

    @requires(_MEMORY)
    def test_memory_is_measured(self, bench: ResourceBench) -> None:
        """What a process holds is counted, and the peak remembered after it."""
        self._needs(bench, _MEMORY)
        bench.create()
        process = bench.start(f"x = bytearray(b'x' * (24 << 20))\n{WAITING}")
        held = bench.driver.usage("box")
        assert held.memory >= 24 * MIB
        assert held.memory_limit == 0
        assert held.memory_stat
        process.communicate("\n")
        assert bench.driver.usage("box").memory_peak >= 24 * MIB

    @requires(_MEMORY)
    def test_a_memory_limit_changes(self, bench: ResourceBench) -> None:
        """It grows, shrinks and goes while the group is in use."""
        self._needs(bench, _MEMORY)
        bench.create(Limits(memory=64 * MIB))
        for memory in (96 * MIB, 48 * MIB, -1):
            swap = memory if bench.has(_SWAP) else None
            bench.driver.update("box", Limits(memory=memory, memory_swap=swap))
            assert bench.driver.usage("box").memory_limit == max(memory, 0)

    # Processes.

    @mandatory
    @requires(_PIDS)
    def test_a_limit_of_processes_bites(self, bench: ResourceBench) -> None:
        """The fork beyond it fails with EAGAIN; it is read back."""
        self._needs(bench, _PIDS)
        bench.create(Limits(pids=3))
        assert bench.driver.usage("box").pids_limit == 3
        assert bench.run(_FORKS) == (0, "2 EAGAIN\n")

    @requires(_PIDS)
    def test_a_limit_of_processes_changes(self, bench: ResourceBench) -> None:
        """It binds a process that runs already, until it is taken away."""
        self._needs(bench, _PIDS)
        bench.create()
        bench.driver.update("box", Limits(pids=2))
        assert bench.run(_FORKS) == (0, "1 EAGAIN\n")
        bench.driver.update("box", Limits(pids=-1))
        assert bench.driver.usage("box").pids_limit == 0
        assert bench.run(_FORKS) == (0, "")

    # Processors.

    @mandatory
    @requires(_CPU)
    def test_a_quota_bites(self, bench: ResourceBench) -> None:
        """A busy process gets its twentieth of a core, by the group's own accounting."""
        bench.create(self._needs(bench, _CPU))
        bench.start(BUSY)
        before, begin = bench.driver.usage("box"), time.monotonic()
        assert wait_until(
            lambda: bench.driver.usage("box").throttled_periods >= before.throttled_periods + 5,
            self.patience,
        ), "a busy process was never throttled"
        after, end = bench.driver.usage("box"), time.monotonic()
        share = (after.cpu_total - before.cpu_total) / 1e9 / (end - begin)
        assert 0 < share < 0.25, f"{share:.2f} of a core, where 0.05 was allowed"

    @requires(_CPU)
    def test_time_is_measured(self, bench: ResourceBench) -> None:
        """A busy process's time is counted, as long as it runs."""
        self._needs(bench, _CPU)
        bench.create()
        bench.start(BUSY)
        before = bench.driver.usage("box").cpu_total
        assert wait_until(lambda: bench.driver.usage("box").cpu_total > before + 20_000_000)

    @requires(_CPUSET)
    def test_a_set_of_processors_binds(self, bench: ResourceBench) -> None:
        """It is the affinity of the processes in the group."""
        bench.create(self._needs(bench, _CPUSET))
        assert bench.run("print(os.sched_getaffinity(0))") == (0, "{0}\n")

    # Freezing.

    @mandatory
    @requires(_FREEZE)
    def test_a_frozen_group_stands_still(self, bench: ResourceBench) -> None:
        """Frozen, it does nothing; thawed, it goes on; each twice is no error."""
        self._needs(bench, _FREEZE)
        bench.create()
        echo = bench.start("print('ready', flush=True)\nprint(input(), flush=True)")
        for _ in range(2):
            bench.driver.freeze("box")
        assert echo.stdin is not None
        assert echo.stdout is not None
        echo.stdin.write("word\n")
        echo.stdin.flush()
        # An answer takes a millisecond; that it does not come cannot be told by anything.
        assert select.select([echo.stdout], [], [], 0.3)[0] == [], "a frozen process answered"
        for _ in range(2):
            bench.driver.thaw("box")
        assert echo.communicate() == ("word\n", "")

    @mandatory
    @requires(_FREEZE)
    def test_a_frozen_group_can_be_killed(self, bench: ResourceBench) -> None:
        """Without being thawed first, and deleted likewise."""
        self._needs(bench, _FREEZE)
        for id, end in (("one", bench.driver.kill), ("two", bench.driver.delete)):
            bench.create(id=id)
            process = bench.start(WAITING, id=id)
            bench.driver.freeze(id)
            end(id)
            assert bench.ended(process) == -signal.SIGKILL

    # Devices.

    @mandatory
    @requires(_DEVICES)
    def test_device_rules_bite(self, bench: ResourceBench) -> None:
        """What no rule allows cannot be opened; what one allows can, for that access alone."""
        self._needs(bench, _DEVICES)
        bench.create(
            None,
            NOTHING,
            DeviceRule(allow=True, type="c", major=1, minor=3),
            DeviceRule(allow=True, type="c", major=1, minor=9, access="r"),
        )
        assert bench.run(_OPENS) == (0, "yes\nyes\nno\nno\n")

    @requires(_DEVICES)
    def test_the_last_device_rule_decides(self, bench: ResourceBench) -> None:
        """All allowed, one of them denied afterwards; without rules nothing is restricted."""
        self._needs(bench, _DEVICES)
        denied = DeviceRule(allow=False, type="c", major=1, minor=5)
        bench.create(None, DeviceRule(allow=True), denied)
        assert bench.run(_OPENS) == (0, "yes\nyes\nyes\nno\n")
        bench.create(id="free")
        assert bench.run(_OPENS, id="free") == (0, "yes\n" * 4)

    @requires(_DEVICES)
    def test_a_denial_is_whole_or_refused(self, bench: ResourceBench) -> None:
        """What two rules allowed one access each of, a wider rule denies; or it is an error."""
        self._needs(bench, _DEVICES)
        rules = [
            DeviceRule(allow=True, type="c", major=1, minor=9, access=access) for access in "rw"
        ]
        denied = DeviceRule(allow=False, type="c", major=1, access="r")
        try:
            bench.create(None, NOTHING, *rules, denied)
        except UnsupportedOperation:
            return
        assert bench.run(_OPENS) == (0, "no\nno\nyes\nno\n")

    # All or nothing.

    @mandatory
    @requires(_MEMORY, _PIDS, _CPU, _CPUSET)
    @pytest.mark.parametrize(
        "bad", [Limits(cpu_quota=1, cpu_period=1), Limits(cpuset_cpus="4000")], ids=["cpu", "set"]
    )
    def test_an_update_is_whole_or_nothing(self, bench: ResourceBench, bad: Limits) -> None:
        """When the kernel refuses one value, those that were good are taken back."""
        for capability in (_MEMORY, _PIDS, _CPU, _CPUSET):
            self._needs(bench, capability)
        bench.create(Limits(memory=64 * MIB, pids=50, cpuset_cpus="0"))
        with pytest.raises((InvalidRequest, Conflict)):
            bench.driver.update(
                "box",
                Limits(
                    memory=48 * MIB,
                    pids=9,
                    cpu_quota=bad.cpu_quota,
                    cpu_period=bad.cpu_period,
                    cpuset_cpus=bad.cpuset_cpus,
                ),
            )
        usage = bench.driver.usage("box")
        assert (usage.memory_limit, usage.pids_limit) == (64 * MIB, 50)
        assert bench.run("print(os.sched_getaffinity(0))") == (0, "{0}\n")

    @mandatory
    @requires(_CPUSET)
    @pytest.mark.parametrize("cpus", ["4000", "nonsense"])
    def test_a_value_that_the_kernel_refuses(self, bench: ResourceBench, cpus: str) -> None:
        """The creation fails with the driver's own error, and no group stays."""
        self._needs(bench, _CPUSET)
        with pytest.raises(PannierError):
            bench.create(Limits(cpuset_cpus=cpus))
        assert bench.there() == []

    @mandatory
    @requires(_PIDS)
    def test_limits_outlive_the_driver(self, bench: ResourceBench) -> None:
        """They hold on while it is closed, and a new instance reads them back."""
        self._needs(bench, _PIDS)
        bench.create(Limits(pids=7))
        bench.opened.reopen()
        assert bench.driver.usage("box").pids_limit == 7
        bench.driver.update("box", Limits(pids=3))
        assert bench.run(_FORKS) == (0, "2 EAGAIN\n")

    # What the tests share.

    def _needs(self, bench: ResourceBench, capability: ResourceCapability) -> Limits:
        """Return a capability's limit; skip where this host has no controller for it."""
        if not bench.has(capability):
            pytest.skip(f"not applicable: this host has no controller for {capability}")
        return SAMPLES.get(capability, Limits())
