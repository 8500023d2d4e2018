"""The v1 driver on this host's own hierarchies: limits bite, and nothing is left behind."""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers import DriverContext, Transaction
from pannier.drivers.resources import DeviceRule, GroupRequest, Limits, ResourceCapability
from pannier.errors import Conflict, InvalidRequest, NotFound, PannierError
from pannier.linux.cgroupfs import remove_group
from pannier_cgroup_v1.driver import CgroupV1, CgroupV1Config
from pannier_cgroup_v1.hierarchies import Hierarchies

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        "memory" not in Hierarchies.discover().by_controller,
        reason="needs a host whose memory controller is bound to cgroup v1",
    ),
]

MIB = 1 << 20


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[CgroupV1]:
    """Return a driver with a parent of its own, and see that it leaves nothing."""
    parent = f"pannier-test-v1-{secrets.token_hex(4)}"
    made = CgroupV1(DriverContext(tmp_path, tmp_path), CgroupV1Config(parent))
    yield made
    for id in list(made.groups()):
        made.delete(id)
    made.close()
    left = [mount for mount in made.mount_points().values() if (mount / parent).exists()]
    for mount in left:
        remove_group(mount / parent, 5.0)
    assert left == []


def create(driver: CgroupV1, limits: Limits | None = None, *devices: DeviceRule) -> None:
    """Create the group ``box``."""
    request = GroupRequest("box", limits=limits or Limits(), devices=devices)
    Transaction().run(driver.plan_create(request))


def start(driver: CgroupV1, code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python program inside the group ``box``."""
    files = [str(path) for path in driver.procs("box")]
    enter = "import os, sys\nfor path in sys.argv[1].split(): open(path, 'w').write('0')\n"
    return subprocess.Popen(
        [sys.executable, "-c", enter + code, "\n".join(files), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(driver: CgroupV1, code: str) -> tuple[int, str]:
    """Run a Python program in the group; return its status and output."""
    process = start(driver, code)
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


WAITING = "print('ready', flush=True)\ninput()"
FORK_BOMB = """
import signal
print('ready', flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def started(driver: CgroupV1, code: str = WAITING) -> subprocess.Popen[str]:
    """Start a program and wait until it runs in the group."""
    process = start(driver, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def test_this_host_is_usable(driver: CgroupV1, tmp_path: Path) -> None:
    """The probe succeeds, and what is declared is really here."""
    CgroupV1.probe(DriverContext(tmp_path, tmp_path), CgroupV1Config())
    assert driver.available() <= driver.capabilities
    assert {ResourceCapability.MEMORY, ResourceCapability.PIDS} <= driver.available()


def test_a_process_enters_every_hierarchy(driver: CgroupV1) -> None:
    """The process sees its group in each line of its own cgroup file, and is listed."""
    create(driver)
    process = started(driver)
    lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    assert driver.pids("box") == [process.pid]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers:
            assert path.endswith(driver.path("box")), line
    driver.kill("box")
    assert process.wait(10) == -signal.SIGKILL
    process.communicate()


def test_memory_is_limited_and_the_kill_counted(driver: CgroupV1) -> None:
    """A process that takes more than the limit is killed, and the event seen."""
    create(driver, Limits(memory=32 * MIB, memory_swap=32 * MIB))
    assert driver.events("box").oom_kill == 0
    status, _ = run(driver, "x = bytearray(200 << 20)")
    assert status == -signal.SIGKILL
    assert driver.events("box").oom_kill == 1
    assert driver.usage("box").memory_limit == 32 * MIB


def test_running_out_of_memory_is_told(driver: CgroupV1) -> None:
    """The watch polls readable when a process is killed; the group's removal says nothing."""
    create(driver, Limits(memory=32 * MIB, memory_swap=32 * MIB))
    watch = driver.oom_watch("box")
    assert watch is not None
    poller = select.poll()
    poller.register(watch.fileno(), select.POLLIN)
    assert (poller.poll(0), watch.read()) == ([], 0)
    status, _ = run(driver, "x = bytearray(200 << 20)")
    assert status == -signal.SIGKILL
    assert poller.poll(10_000)
    assert watch.read() >= 1
    assert (poller.poll(0), watch.read()) == ([], 0)
    driver.delete("box")
    assert poller.poll(10_000)
    assert watch.read() == 0
    watch.close()
    watch.close()
    with pytest.raises(NotFound):
        driver.oom_watch("box")


def test_processes_are_limited(driver: CgroupV1) -> None:
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


def test_cpu_time_is_limited(driver: CgroupV1) -> None:
    """A busy process gets its fifth of a core: measured by the accounting, and throttled."""
    create(driver, Limits(cpu_quota=20000, cpu_period=100000))
    process = started(driver, "print('ready', flush=True)\nwhile True: pass")
    before, begin = driver.usage("box"), time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    after, end = driver.usage("box"), time.monotonic()
    share = (after.cpu_total - before.cpu_total) / 1e9 / (end - begin)
    assert 0.0 < share < 0.3
    assert after.throttled_periods > before.throttled_periods
    assert sum(after.cpu_per_core) > 0
    driver.kill("box")
    process.communicate(timeout=60)


def test_processes_stay_on_their_cpus(driver: CgroupV1) -> None:
    """The set of CPUs is the process's affinity."""
    create(driver, Limits(cpuset_cpus="0"))
    assert run(driver, "print(os.sched_getaffinity(0))") == (0, "{0}\n")


def test_devices_are_denied(driver: CgroupV1) -> None:
    """What no rule allows cannot be opened nor made; what one allows can."""
    create(
        driver,
        None,
        DeviceRule(allow=False),
        DeviceRule(allow=True, type="c", major=1, minor=3),
        DeviceRule(allow=True, type="c", major=1, minor=9, access="r"),
    )
    code = """
for path, flags in (('/dev/null', os.O_RDWR), ('/dev/urandom', os.O_RDONLY),
                    ('/dev/urandom', os.O_WRONLY), ('/dev/zero', os.O_RDONLY)):
    try:
        os.close(os.open(path, flags))
        print('yes')
    except PermissionError:
        print('no')
"""
    assert run(driver, code) == (0, "yes\nyes\nno\nno\n")


def test_a_frozen_group_stands_still(driver: CgroupV1) -> None:
    """Frozen, the group uses no time; thawed, it goes on."""
    create(driver)
    process = started(driver, "print('ready', flush=True)\nwhile True: pass")
    driver.freeze("box")
    before = driver.usage("box").cpu_total
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    assert driver.usage("box").cpu_total == before
    driver.thaw("box")
    deadline = time.monotonic() + 60
    while driver.usage("box").cpu_total == before:
        assert time.monotonic() < deadline
    driver.freeze("box")
    driver.kill("box")
    assert process.wait(10) == -signal.SIGKILL
    process.communicate()


def test_a_fork_bomb_dies(driver: CgroupV1) -> None:
    """Killing ends all, however fast they fork; the group can then be removed."""
    create(driver, Limits(pids=64))
    process = started(driver, FORK_BOMB)
    driver.kill("box")
    assert driver.pids("box") == []
    driver.delete("box")
    process.communicate(timeout=60)


def test_deleting_kills_and_removes_what_is_below(driver: CgroupV1) -> None:
    """Processes and nested groups go; a second time is no error."""
    create(driver)
    process = started(driver)
    for file in driver.procs("box"):
        inner = file.parent / "inner"
        inner.mkdir()
        if "cpuset" not in str(file):
            (inner / "cgroup.procs").write_text(str(process.pid))
    driver.delete("box")
    assert process.wait(10) == -signal.SIGKILL
    process.communicate()
    assert list(driver.groups()) == []
    driver.delete("box")


def test_limits_change_while_in_use(driver: CgroupV1) -> None:
    """Growing and shrinking both work, together with swap; the group's files say so."""
    create(driver, Limits(memory=64 * MIB, memory_swap=64 * MIB))
    driver.update("box", Limits(memory=128 * MIB, memory_swap=256 * MIB, pids=7, cpu_shares=2048))
    usage = driver.usage("box")
    assert (usage.memory_limit, usage.pids_limit) == (128 * MIB, 7)
    driver.update("box", Limits(memory=32 * MIB, memory_swap=32 * MIB, pids=-1))
    usage = driver.usage("box")
    assert (usage.memory_limit, usage.pids_limit) == (32 * MIB, 0)
    driver.update("box", Limits(memory=-1))
    assert driver.usage("box").memory_limit == 0


def test_a_refused_update_changes_nothing(driver: CgroupV1) -> None:
    """More memory than memory with swap is refused by the kernel; the rest is taken back."""
    create(driver, Limits(memory=64 * MIB, memory_swap=64 * MIB, pids=5))
    with pytest.raises(InvalidRequest, match=r"memory\.limit_in_bytes"):
        driver.update("box", Limits(memory=128 * MIB, pids=9))
    with pytest.raises(InvalidRequest, match=r"cpu\.cfs_quota_us"):
        driver.update("box", Limits(memory=32 * MIB, cpu_quota=1))
    usage = driver.usage("box")
    assert (usage.memory_limit, usage.pids_limit) == (64 * MIB, 5)


def test_a_limit_below_what_is_in_use(driver: CgroupV1) -> None:
    """The kernel cannot take away what a process holds: Conflict, and the old limit stays."""
    create(driver, Limits(memory=64 * MIB, memory_swap=64 * MIB))
    process = started(
        driver, "x = bytearray(b'x' * (24 << 20))\nprint('ready', flush=True)\ninput()"
    )
    with pytest.raises(Conflict):
        driver.update("box", Limits(memory=8 * MIB, memory_swap=8 * MIB))
    assert driver.usage("box").memory_limit == 64 * MIB
    process.communicate("\n", timeout=60)


def test_a_failed_plan_leaves_nothing(driver: CgroupV1) -> None:
    """When a write is refused, the groups that were made before it are gone."""
    with pytest.raises(PannierError, match=r"cpuset\.cpus"):
        create(driver, Limits(cpuset_cpus="4000"))
    assert list(driver.groups()) == []


def test_creating_twice_is_the_same(driver: CgroupV1) -> None:
    """A plan may be executed for a group that exists, with the same or other limits."""
    create(driver, Limits(memory=64 * MIB, memory_swap=64 * MIB))
    create(driver, Limits(memory=64 * MIB, memory_swap=64 * MIB))
    create(driver, Limits(memory=128 * MIB, memory_swap=128 * MIB))
    assert driver.usage("box").memory_limit == 128 * MIB


def test_a_parent_of_the_users_choice(driver: CgroupV1) -> None:
    """A group may be made below any path; missing parents are made as well."""
    parent = f"{driver._config.parent}/deep/deeper"
    Transaction().run(driver.plan_create(GroupRequest("box", parent=parent)))
    assert driver.usage("box", parent).pids == 0
    driver.delete("box", parent)
    with pytest.raises(NotFound):
        driver.usage("box", parent)
    driver.delete("deep")


def test_a_parent_that_somebody_has_made(driver: CgroupV1) -> None:
    """A process enters below it, though nobody has given it CPUs and memory nodes."""
    create(driver)
    parent = f"{driver.path('box').strip('/')}/web"
    for mount in driver.mount_points().values():
        (mount / parent).mkdir()
    cpusets = Path(driver._hierarchies.by_controller["cpuset"]) / parent
    (cpusets / "cpuset.cpus").write_text("\n")
    (cpusets / "cpuset.mems").write_text("\n")
    Transaction().run(driver.plan_create(GroupRequest("inner", parent=parent)))
    for file in driver.procs("inner", parent):
        assert subprocess.run(["sh", "-c", f"echo 0 > {file}"], check=False).returncode == 0, file


def test_a_parent_that_was_removed_is_made_again(driver: CgroupV1) -> None:
    """Someone else may tidy up an empty parent; the next container makes it anew."""
    create(driver)
    driver.delete("box")
    for mount in driver.mount_points().values():
        remove_group(mount / driver._config.parent, 5.0)
    create(driver, Limits(pids=4))
    assert driver.usage("box").pids_limit == 4
    assert run(driver, "print(1)") == (0, "1\n")


def test_containers_are_made_at_once(driver: CgroupV1) -> None:
    """Threads that create and delete different containers do not disturb one another."""
    for mount in driver.mount_points().values():
        remove_group(mount / driver._config.parent, 5.0)

    def live(number: int) -> int:
        request = GroupRequest(f"c{number}", limits=Limits(pids=number + 1))
        Transaction().run(driver.plan_create(request))
        limit = driver.usage(f"c{number}").pids_limit
        driver.delete(f"c{number}")
        return limit

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(live, range(40))) == list(range(1, 41))
    assert list(driver.groups()) == []


def test_entering_costs_no_grace_period(driver: CgroupV1) -> None:
    """The files given for entering do not make the kernel wait for all processors.

    Through ``cgroup.procs`` a first move takes a read-copy-update grace period, 5 ms and more; all
    hierarchies together take a tenth of that here. The best of several tries is judged.
    """
    create(driver)
    code = """
import time
begin = time.perf_counter()
for path in sys.argv[1].split():
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, b'0')
    os.close(descriptor)
print(time.perf_counter() - begin)
"""
    best = min(float(run(driver, code)[1]) for _ in range(5))
    assert best < 0.004
    assert os.getpid() not in driver.pids("box")


def test_closing_leaves_the_groups_that_live(driver: CgroupV1, tmp_path: Path) -> None:
    """A container's group outlives the driver; the next one finds it, and removes the parent."""
    create(driver)
    driver.close()
    assert list(driver.groups()) == ["box"]
    parent = driver.path("box").strip("/").rpartition("/")[0]
    heir = CgroupV1(DriverContext(tmp_path, tmp_path), CgroupV1Config(parent))
    heir.delete("box")
    heir.close()
    assert not any((mount / parent).exists() for mount in heir.mount_points().values())
    # Nothing needs to be there for the next container.
    create(heir)
