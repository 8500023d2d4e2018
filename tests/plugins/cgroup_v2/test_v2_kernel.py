"""The v2 driver on a unified hierarchy: limits bite, and nothing is left behind."""

from __future__ import annotations

import secrets
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers import DriverContext, Transaction
from pannier.drivers.resources import DeviceRule, GroupRequest, Limits, ResourceCapability
from pannier.errors import DriverUnavailable, InvalidRequest, NotFound, PannierError
from pannier.linux.cgroupfs import remove_group, write_file
from pannier_cgroup_v2.driver import CgroupV2, CgroupV2Config
from pannier_cgroup_v2.hierarchy import Hierarchy

if TYPE_CHECKING:
    from collections.abc import Iterator


def unusable() -> str:
    """Say what this host lacks; nothing where it has all."""
    hierarchy = Hierarchy.discover()
    missing = {"cpu", "memory", "pids"} - (hierarchy.offered() if hierarchy else frozenset())
    return f"the unified hierarchy has no {', '.join(sorted(missing))}" if missing else ""


pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        bool(unusable()),
        reason=f"{unusable()}: tox -e kernel-6.1-cgroup_v2 runs these in a virtual machine",
    ),
]

MIB = 1 << 20


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[CgroupV2]:
    """Return a driver with a parent of its own, and see that it leaves nothing."""
    parent = f"pannier-test-v2-{secrets.token_hex(4)}"
    made = CgroupV2(DriverContext(tmp_path, tmp_path), CgroupV2Config(parent))
    yield made
    left = list(made.groups())
    for id in left:
        made.delete(id)
    made.close()
    remaining = (made.mount_points()[""] / parent).exists()
    remove_group(made.mount_points()[""] / parent, 5.0)
    assert not remaining


def create(driver: CgroupV2, limits: Limits | None = None, *devices: DeviceRule) -> None:
    """Create the group ``box``."""
    request = GroupRequest("box", limits=limits or Limits(), devices=devices)
    Transaction().run(driver.plan_create(request))


def box(driver: CgroupV2, file: str) -> str:
    """Read a file of the group."""
    (procs,) = driver.procs("box")
    return (procs.parent / file).read_text().strip()


def start(driver: CgroupV2, code: str) -> subprocess.Popen[str]:
    """Start a Python program inside the group ``box``."""
    (procs,) = driver.procs("box")
    enter = "import os, sys\nopen(sys.argv[1], 'w').write('0')\n"
    return subprocess.Popen(
        [sys.executable, "-S", "-c", enter + code, str(procs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(driver: CgroupV2, code: str) -> tuple[int, str]:
    """Run a Python program in the group; return its status and output."""
    process = start(driver, code)
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


def started(driver: CgroupV2, code: str) -> subprocess.Popen[str]:
    """Start a program and wait until it runs in the group."""
    process = start(driver, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


WAITING = "print('ready', flush=True)\ninput()"
BUSY = "print('ready', flush=True)\nwhile True: pass"
FORK_BOMB = """
print('ready', flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def test_this_host_is_usable(driver: CgroupV2, tmp_path: Path) -> None:
    """The probe succeeds, and what a 6.1 kernel offers is all there."""
    CgroupV2.probe(DriverContext(tmp_path, tmp_path), CgroupV2Config())
    assert driver.available() <= driver.capabilities
    assert driver.available() >= {
        ResourceCapability.MEMORY,
        ResourceCapability.CPU,
        ResourceCapability.PIDS,
        ResourceCapability.FREEZE,
        ResourceCapability.DEVICES,
    }


def test_a_process_enters_the_group(driver: CgroupV2) -> None:
    """The process sees its group in its own cgroup file, and is listed."""
    create(driver)
    process = started(driver, WAITING)
    lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    assert f"0::{driver.path('box')}" in lines
    assert driver.pids("box") == [process.pid]
    driver.kill("box")
    assert process.wait(10) == -signal.SIGKILL
    process.communicate()


def test_memory_is_limited_and_the_kill_counted(driver: CgroupV2) -> None:
    """A process that takes more than the limit is killed, and the event seen."""
    create(driver, Limits(memory=32 * MIB, memory_swap=32 * MIB))
    assert driver.events("box").oom_kill == 0
    status, _ = run(driver, "x = bytearray(200 << 20)")
    assert status == -signal.SIGKILL
    assert driver.events("box").oom_kill == 1
    usage = driver.usage("box")
    assert usage.memory_limit == 32 * MIB
    assert usage.memory_failures > 0


def test_running_out_of_memory_is_told(driver: CgroupV2) -> None:
    """The watch polls readable when a process is killed, once; a group that has gone says 0."""
    create(driver, Limits(memory=32 * MIB, memory_swap=32 * MIB))
    watch = driver.oom_watch("box")
    assert watch is not None
    poller = select.poll()
    poller.register(watch.fileno(), select.POLLIN)
    status, _ = run(driver, "x = bytearray(200 << 20)")
    assert status == -signal.SIGKILL
    assert poller.poll(10_000)
    assert watch.read() == 1
    assert (poller.poll(0), watch.read()) == ([], 0)
    driver.delete("box")
    assert watch.read() == 0
    watch.close()


def test_processes_are_limited(driver: CgroupV2) -> None:
    """The fork beyond the limit fails with EAGAIN."""
    create(driver, Limits(pids=3))
    code = """
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
    assert run(driver, code) == (0, "2 EAGAIN\n")


def test_cpu_time_is_limited(driver: CgroupV2) -> None:
    """A busy process gets its fifth of a core: measured by the accounting, and throttled."""
    create(driver, Limits(cpu_quota=20000, cpu_period=100000))
    process = started(driver, BUSY)
    before, begin = driver.usage("box"), time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    after, end = driver.usage("box"), time.monotonic()
    share = (after.cpu_total - before.cpu_total) / 1e9 / (end - begin)
    assert 0.0 < share < 0.3
    assert after.throttled_periods > before.throttled_periods
    driver.kill("box")
    process.communicate(timeout=60)


def test_processes_stay_on_their_cpus(driver: CgroupV2) -> None:
    """The set of CPUs is the process's affinity."""
    create(driver, Limits(cpuset_cpus="0"))
    assert run(driver, "print(os.sched_getaffinity(0))") == (0, "{0}\n")


DEVICES = """
for path, flags in (('/dev/null', os.O_RDWR), ('/dev/urandom', os.O_RDONLY),
                    ('/dev/urandom', os.O_WRONLY), ('/dev/zero', os.O_RDONLY)):
    try:
        os.close(os.open(path, flags))
        print('yes')
    except PermissionError:
        print('no')
"""
NULL = DeviceRule(allow=True, type="c", major=1, minor=3)
NOTHING = DeviceRule(allow=False)


def test_devices_are_denied(driver: CgroupV2) -> None:
    """What no rule allows cannot be opened; what one allows can, for that access."""
    read = DeviceRule(allow=True, type="c", major=1, minor=9, access="r")
    create(driver, None, NOTHING, NULL, read)
    assert run(driver, DEVICES) == (0, "yes\nyes\nno\nno\n")


def test_making_a_device_is_an_access(driver: CgroupV2) -> None:
    """The right to make nodes is one of its own."""
    make = DeviceRule(allow=True, type="c", access="m")
    create(driver, None, NOTHING, make, DeviceRule(allow=False, type="c", major=1, minor=7))
    code = """
import stat
for minor in (3, 7):
    path = f'/tmp/pannier-test-node-{os.getpid()}'
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, minor))
        os.unlink(path)
        print('yes')
    except PermissionError:
        print('no')
"""
    assert run(driver, code) == (0, "yes\nno\n")


def test_a_new_device_filter_replaces_the_old(driver: CgroupV2) -> None:
    """Creating again with other rules leaves those alone in force; without rules, all is open."""
    create(driver, None, NOTHING)
    assert run(driver, DEVICES) == (0, "no\n" * 4)
    create(driver, None, NOTHING, NULL)
    assert run(driver, DEVICES) == (0, "yes\nno\nno\nno\n")
    driver.delete("box")
    create(driver)
    assert run(driver, DEVICES) == (0, "yes\n" * 4)


def test_a_frozen_group_stands_still(driver: CgroupV2) -> None:
    """Frozen, the group uses no time; thawed, it goes on; frozen, it can be killed."""
    create(driver)
    process = started(driver, BUSY)
    driver.freeze("box")
    before = driver.usage("box").cpu_total
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    assert driver.usage("box").cpu_total == before
    driver.thaw("box")
    deadline = time.monotonic() + 60
    while driver.usage("box").cpu_total == before:
        assert time.monotonic() < deadline
    driver.freeze("box")
    driver.kill("box")
    assert process.wait(10) == -signal.SIGKILL
    process.communicate()


def test_a_fork_bomb_dies(driver: CgroupV2) -> None:
    """Killing ends all, however fast they fork; the group can then be removed."""
    create(driver, Limits(pids=64))
    process = started(driver, FORK_BOMB)
    driver.kill("box")
    assert driver.pids("box") == []
    driver.delete("box")
    process.communicate(timeout=60)


def test_a_fork_bomb_dies_without_the_kernels_help(
    driver: CgroupV2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On kernels without ``cgroup.kill`` freezing and signalling does the same."""

    def without_kill(path: str, value: str) -> None:
        if path.endswith("cgroup.kill"):
            raise FileNotFoundError
        write_file(path, value)

    monkeypatch.setattr("pannier_cgroup_v2.processes.write_file", without_kill)
    create(driver, Limits(pids=64))
    process = started(driver, FORK_BOMB)
    driver.kill("box")
    assert driver.pids("box") == []
    process.communicate(timeout=60)


def test_deleting_kills_and_removes_what_is_below(driver: CgroupV2) -> None:
    """Processes and nested groups go; a second time is no error."""
    create(driver)
    (procs,) = driver.procs("box")
    process = started(driver, WAITING)
    inner = procs.parent / "inner"
    inner.mkdir()
    (inner / "cgroup.procs").write_text(str(process.pid))
    (procs.parent / "cgroup.subtree_control").write_text("+memory")
    assert driver.procs("box") == (inner / "cgroup.procs",)
    assert driver.pids("box") == [process.pid]
    driver.delete("box")
    assert process.wait(10) == -signal.SIGKILL
    process.communicate()
    assert list(driver.groups()) == []
    driver.delete("box")


def test_limits_change_while_in_use(driver: CgroupV2) -> None:
    """The group's files follow an update, in the kernel's units."""
    create(driver, Limits(memory=64 * MIB, memory_swap=64 * MIB))
    driver.update(
        "box",
        Limits(memory=128 * MIB, pids=7, cpu_shares=1024, cpu_quota=50000, cpu_period=100000),
    )
    usage = driver.usage("box")
    assert (usage.memory_limit, usage.pids_limit) == (128 * MIB, 7)
    assert box(driver, "cpu.max") == "50000 100000"
    assert box(driver, "cpu.weight") == "100"
    driver.update("box", Limits(memory=-1, pids=-1, cpu_quota=-1))
    usage = driver.usage("box")
    assert (usage.memory_limit, usage.pids_limit) == (0, 0)
    assert box(driver, "cpu.max") == "max 100000"


def test_a_refused_update_changes_nothing(driver: CgroupV2) -> None:
    """When the kernel refuses one value, those written before are taken back."""
    create(driver, Limits(memory=64 * MIB, pids=5))
    with pytest.raises(InvalidRequest, match=r"cpu\.max"):
        driver.update("box", Limits(memory=32 * MIB, cpu_quota=1, cpu_period=1))
    usage = driver.usage("box")
    assert (usage.memory_limit, usage.pids_limit) == (64 * MIB, 5)


def test_a_failed_plan_leaves_nothing(driver: CgroupV2) -> None:
    """When a write is refused, the group that was made before it is gone."""
    with pytest.raises(PannierError, match=r"cpuset\.cpus"):
        create(driver, Limits(cpuset_cpus="nonsense"))
    assert list(driver.groups()) == []


def test_usage_grows(driver: CgroupV2) -> None:
    """Time, memory and pressure are counted."""
    create(driver)
    status, _ = run(driver, "x = bytearray(b'x' * (16 << 20))\nsum(range(1000000))")
    assert status == 0
    usage = driver.usage("box")
    assert usage.cpu_total > 0
    assert usage.cpu_total >= usage.cpu_user
    assert usage.memory_peak > 16 * MIB
    assert usage.memory_stat["file"] >= 0


def test_a_parent_of_the_users_choice(driver: CgroupV2) -> None:
    """A group may be made below any path; missing parents are made, and hand controllers down."""
    parent = f"{driver._config.parent}/deep/deeper"
    request = GroupRequest("box", parent=parent, limits=Limits(pids=4))
    Transaction().run(driver.plan_create(request))
    assert driver.usage("box", parent).pids_limit == 4
    driver.delete("box", parent)
    with pytest.raises(NotFound):
        driver.usage("box", parent)
    driver.delete("deep")


def test_a_process_in_the_way_is_named(driver: CgroupV2, tmp_path: Path) -> None:
    """A parent that has processes of its own cannot hand controllers down: the error says so."""
    create(driver)
    process = started(driver, WAITING)
    inner = CgroupV2(
        DriverContext(tmp_path, tmp_path), CgroupV2Config(driver.path("box").lstrip("/"))
    )
    with pytest.raises(PannierError, match="subtree_control") as caught:
        inner.plan_create(GroupRequest("inner"))
    assert "processes sit in that group" in (caught.value.hint or "")
    process.communicate("\n", timeout=60)


def test_a_probe_restores_what_was_handed_down(driver: CgroupV2) -> None:
    """Probing a group that hands nothing down leaves it so."""
    create(driver)
    hierarchy = Hierarchy(driver.procs("box")[0].parent)
    CgroupV2.probe_hierarchy(hierarchy, CgroupV2Config())
    assert hierarchy.enabled() == frozenset()
    (hierarchy.root / "sub").mkdir()
    with pytest.raises(DriverUnavailable, match="not handed down"):
        CgroupV2.probe_hierarchy(Hierarchy(hierarchy.root / "sub"), CgroupV2Config())


def test_closing_leaves_the_groups_that_live(driver: CgroupV2, tmp_path: Path) -> None:
    """A container's group outlives the driver; the next one finds it, and removes the parent."""
    create(driver)
    driver.close()
    assert list(driver.groups()) == ["box"]
    parent = driver.path("box").strip("/").rpartition("/")[0]
    heir = CgroupV2(DriverContext(tmp_path, tmp_path), CgroupV2Config(parent))
    heir.delete("box")
    heir.close()
    assert not (heir.mount_points()[""] / parent).exists()
    # Nothing needs to be there for the next container.
    create(heir)
