"""The v1 driver on a folder that looks like the kernel's, without root."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pannier.drivers import DriverContext, Transaction
from pannier.drivers.resources import (
    BlockUsage,
    DeviceLimit,
    DeviceRule,
    GroupRequest,
    Limits,
    ResourceCapability,
    ResourceEvents,
)
from pannier.errors import (
    DriverError,
    DriverUnavailable,
    InvalidRequest,
    NotFound,
    UnsupportedOperation,
)
from pannier_cgroup_v1.driver import CgroupV1, CgroupV1Config
from pannier_cgroup_v1.hierarchies import Hierarchies

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "cpu,cpuacct": {
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "-1",
        "cpu.stat": "nr_periods 7\nnr_throttled 3\nthrottled_time 5000000\n",
        "cpuacct.usage": "9000000",
        "cpuacct.usage_user": "6000000",
        "cpuacct.usage_sys": "3000000",
        "cpuacct.usage_percpu": "4000000 5000000 ",
    },
    "memory": {
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.memsw.limit_in_bytes": "9223372036854771712",
        "memory.soft_limit_in_bytes": "9223372036854771712",
        "memory.usage_in_bytes": "4096",
        "memory.max_usage_in_bytes": "8192",
        "memory.failcnt": "2",
        "memory.swappiness": "60",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4",
        "memory.stat": "cache 1\nrss 2\ntotal_rss 3",
    },
    "pids": {"pids.max": "max", "pids.current": "3"},
    "blkio": {
        "blkio.bfq.weight": "100",
        "blkio.bfq.weight_device": "default 100",
        "blkio.throttle.read_bps_device": "8:0 1048576\n",
        "blkio.throttle.write_bps_device": "",
        "blkio.throttle.read_iops_device": "",
        "blkio.throttle.write_iops_device": "",
        "blkio.throttle.io_service_bytes_recursive": (
            "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 1\nTotal 12288"
        ),
        "blkio.throttle.io_serviced_recursive": "254:0 Read 1\n254:0 Write 2\nTotal 3",
    },
    "devices": {"devices.allow": "", "devices.deny": ""},
    "cpuset": {"cpuset.cpus": "0-3", "cpuset.mems": "0", "cgroup.clone_children": "0"},
    "name=systemd": {},
}


class Tree:
    """A fake tree with the parent ``pannier`` and one container's group, ``box``."""

    def __init__(self, root: Path, without: frozenset[str] = frozenset()) -> None:
        self.root = root
        mounts = {name: root / name for name in FILES if name not in without}
        for name, mount in mounts.items():
            for group in (mount, mount / "pannier", mount / "pannier/box"):
                group.mkdir(parents=True)
                (group / "cgroup.procs").write_text("")
                for file, content in FILES[name].items():
                    if file not in without:
                        (group / file).write_text(content)
        context = DriverContext(root, root)
        self.hierarchies = Hierarchies(mounts)
        self.driver = CgroupV1(context, CgroupV1Config(), self.hierarchies)

    def box(self, controller: str, file: str) -> Path:
        """Return a file of the container's group."""
        return self.root / controller / "pannier/box" / file

    def create(self, limits: Limits, *devices: DeviceRule) -> list[str]:
        """Execute a plan, and return the writes it described."""
        plan = self.driver.plan_create(GroupRequest("box", limits=limits, devices=devices))
        steps = [
            f"{step.subject.rpartition('/')[2]} {step.detail}"
            for step in plan.describe()
            if step.action == "write"
        ]
        Transaction().run(plan)
        return steps


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Return a whole fake tree."""
    return Tree(tmp_path)


def test_every_limit_has_its_file(tree: Tree) -> None:
    """The plan names each file and value; executed, the files say so."""
    disk = (DeviceLimit(8, 0, 7),)
    steps = tree.create(
        Limits(
            memory=1 << 20,
            memory_swap=1 << 21,
            memory_reservation=1 << 19,
            swappiness=10,
            oom_kill_disable=True,
            cpu_shares=512,
            cpu_period=50000,
            cpu_quota=25000,
            cpuset_cpus="0-1",
            cpuset_mems="0",
            pids=10,
            block_weight=300,
            block_weight_device=disk,
            read_bps=disk,
            write_bps=disk,
            read_iops=disk,
            write_iops=disk,
        )
    )
    assert steps == [
        "memory.limit_in_bytes 1048576",
        "memory.memsw.limit_in_bytes 2097152",
        "memory.soft_limit_in_bytes 524288",
        "memory.swappiness 10",
        "memory.oom_control 1",
        "cpu.shares 512",
        "cpu.cfs_quota_us 25000",
        "cpu.cfs_period_us 50000",
        "cpuset.cpus 0-1",
        "cpuset.mems 0",
        "pids.max 10",
        "blkio.bfq.weight 300",
        "blkio.bfq.weight_device 8:0 7",
        "blkio.throttle.read_bps_device 8:0 7",
        "blkio.throttle.write_bps_device 8:0 7",
        "blkio.throttle.read_iops_device 8:0 7",
        "blkio.throttle.write_iops_device 8:0 7",
    ]
    # The fake files are overwritten from their beginning, as no real ones are.
    assert tree.box("memory", "memory.limit_in_bytes").read_text().startswith("1048576")
    assert tree.box("cpu,cpuacct", "cpu.cfs_quota_us").read_text() == "25000"


def test_the_plan_makes_a_group_in_every_hierarchy(tree: Tree) -> None:
    """Co-mounted controllers get one group, the named hierarchy gets one too."""
    plan = tree.driver.plan_create(GroupRequest("new"))
    made = [step.subject for step in plan.describe()]
    assert made == [str(tree.root / name / "pannier/new") for name in FILES]
    Transaction().run(plan)
    assert all((tree.root / name / "pannier/new").is_dir() for name in FILES)
    assert list(tree.driver.groups()) == ["box", "new"]


def test_describing_makes_nothing(tree: Tree) -> None:
    """A plan that is only described leaves the tree as it was."""
    tree.driver.plan_create(GroupRequest("new", limits=Limits(pids=1))).describe()
    assert list(tree.driver.groups()) == ["box"]


def test_no_limit_is_the_kernels_word_for_it(tree: Tree) -> None:
    """-1 lifts a limit; memory without a limit lifts the one with swap too."""
    assert tree.create(Limits(memory=-1, pids=-1, cpu_quota=-1)) == [
        "memory.memsw.limit_in_bytes -1",
        "memory.limit_in_bytes -1",
        "cpu.cfs_quota_us -1",
        "pids.max max",
    ]


@pytest.mark.parametrize(
    ("present", "memory", "swap", "first"),
    [
        (2000, 3000, 4000, "memory.memsw.limit_in_bytes"),
        (2000, 500, 1000, "memory.limit_in_bytes"),
        (2000, 500, -1, "memory.memsw.limit_in_bytes"),
    ],
)
def test_memory_and_swap_move_in_the_order_that_the_kernel_allows(
    tree: Tree, present: int, memory: int, swap: int, first: str
) -> None:
    """When growing the larger limit goes first, when shrinking the smaller one."""
    tree.box("memory", "memory.memsw.limit_in_bytes").write_text(str(present))
    steps = tree.create(Limits(memory=memory, memory_swap=swap))
    assert steps[0].split()[0] == first


def test_an_update_is_all_or_nothing(tree: Tree) -> None:
    """When the last of several writes fails, the earlier ones are taken back."""
    tree.box("memory", "memory.limit_in_bytes").write_text("7777777")
    pids = tree.box("pids", "pids.max")
    pids.unlink()
    pids.symlink_to("/proc/version")  # reads well and refuses writes
    disk = (DeviceLimit(8, 0, 5242880),)
    with pytest.raises(DriverError, match=r"pids\.max"):
        tree.driver.update("box", Limits(memory=1000000, cpu_shares=2048, pids=5, read_bps=disk))
    assert tree.box("memory", "memory.limit_in_bytes").read_text() == "7777777"
    assert tree.box("cpu,cpuacct", "cpu.shares").read_text() == "1024"


def test_a_devices_own_line_is_restored(tree: Tree) -> None:
    """A throttle that was set before comes back; one that was not is taken away."""
    weight = tree.box("blkio", "blkio.throttle.write_iops_device")
    weight.unlink()
    weight.symlink_to("/proc/version")  # reads well and refuses writes
    known, unknown = DeviceLimit(8, 0, 5242880), DeviceLimit(8, 16, 5)
    with pytest.raises(DriverError):
        tree.driver.update(
            "box", Limits(read_bps=(known,), read_iops=(unknown,), write_iops=(known,))
        )
    assert tree.box("blkio", "blkio.throttle.read_bps_device").read_text() == "8:0 1048576\n"
    assert tree.box("blkio", "blkio.throttle.read_iops_device").read_text() == "8:16 0"


def test_without_swap_accounting_a_swap_limit_is_an_error(tmp_path: Path) -> None:
    """What cannot be enforced is said before anything is made, with the mend."""
    tree = Tree(tmp_path, frozenset({"memory.memsw.limit_in_bytes"}))
    assert ResourceCapability.SWAP not in tree.driver.available()
    with pytest.raises(UnsupportedOperation) as caught:
        tree.driver.plan_create(GroupRequest("x", limits=Limits(memory=1, memory_swap=2)))
    assert "swapaccount" in (caught.value.hint or "")
    assert tree.create(Limits(memory=-1, memory_swap=-1)) == ["memory.limit_in_bytes -1"]
    # As the engine asks for where memory alone was limited.
    assert tree.create(Limits(memory=64, memory_swap=-1)) == ["memory.limit_in_bytes 64"]


def test_without_a_controller_its_limit_is_an_error(tmp_path: Path) -> None:
    """A limit whose hierarchy is not mounted names the hierarchy."""
    tree = Tree(tmp_path, frozenset({"pids", "devices"}))
    with pytest.raises(UnsupportedOperation, match="no pids hierarchy"):
        tree.driver.update("box", Limits(pids=5))
    with pytest.raises(UnsupportedOperation, match="no devices hierarchy"):
        tree.create(Limits(), DeviceRule(allow=False))


def test_what_is_available_follows_the_files(tree: Tree) -> None:
    """A host without a freezer and huge pages does not claim them."""
    assert tree.driver.available() == frozenset(ResourceCapability) - {
        ResourceCapability.FREEZE,
        ResourceCapability.HUGETLB,
        ResourceCapability.PRESSURE,
    }


def test_huge_pages_have_a_limit_for_each_size(tree: Tree) -> None:
    """The size is part of the file's name; a size that the host lacks is an error."""
    with pytest.raises(UnsupportedOperation, match="hugetlb"):
        tree.driver.update("box", Limits(hugetlb={"2MB": 4194304}))


def test_usage_is_read_from_every_controller(tree: Tree) -> None:
    """The counters arrive in the contract's units."""
    usage = tree.driver.usage("box")
    assert (usage.cpu_total, usage.cpu_user, usage.cpu_system) == (9000000, 6000000, 3000000)
    assert usage.cpu_per_core == (4000000, 5000000)
    assert (usage.periods, usage.throttled_periods, usage.throttled_time) == (7, 3, 5000000)
    assert (usage.memory, usage.memory_peak, usage.memory_limit) == (4096, 8192, 0)
    assert (usage.memory_failures, usage.memory_stat["total_rss"]) == (2, 3)
    assert (usage.pids, usage.pids_limit) == (3, 0)
    assert usage.blocks == (BlockUsage(254, 0, 4096, 8192, 1, 2),)


def test_oom_kills_of_nested_groups_count(tree: Tree) -> None:
    """A process that was killed in a group of the container's own making is counted."""
    below = tree.box("memory", "inner")
    below.mkdir()
    (below / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2")
    assert tree.driver.events("box") == ResourceEvents(oom=6, oom_kill=6)
    assert tree.driver.events("gone") == ResourceEvents()


def test_a_group_that_is_not_there(tree: Tree) -> None:
    """Updating and measuring it is NotFound; listing is empty; deleting is nothing."""
    with pytest.raises(NotFound):
        tree.driver.usage("gone")
    with pytest.raises(NotFound):
        tree.driver.update("gone", Limits(pids=1))
    assert tree.driver.pids("gone") == []
    tree.driver.kill("gone")
    tree.driver.delete("gone")


def test_paths_follow_the_parent(tree: Tree) -> None:
    """A parent given in any form of a path is below the mount point; a leading dot-dot is not."""
    assert tree.driver.path("box") == "/pannier/box"
    assert tree.driver.path("box", "/web/front/") == "/web/front/box"
    assert tree.driver.procs("box")[1] == tree.root / "memory/pannier/box/tasks"
    for parent, id in (("../x", "box"), ("a//b", "box"), ("", ".."), ("", "a/b"), ("", "")):
        with pytest.raises(InvalidRequest):
            tree.driver.path(id, parent)


def test_device_rules_keep_their_order(tree: Tree) -> None:
    """The denial of everything goes first, as given; wildcards are stars."""
    steps = tree.create(
        Limits(),
        DeviceRule(allow=False),
        DeviceRule(allow=True, type="c", major=1, minor=3),
        DeviceRule(allow=True, type="c", major=136),
        DeviceRule(allow=True, type="b", access="m"),
    )
    assert steps == [
        "devices.deny a",
        "devices.allow c 1:3 rwm",
        "devices.allow c 136:* rwm",
        "devices.allow b *:* m",
    ]


@pytest.mark.parametrize(
    "rules",
    [
        # The kernel would silently keep the wider permission.
        (
            DeviceRule(allow=False),
            DeviceRule(allow=True, type="c", major=1),
            DeviceRule(allow=False, type="c", major=1, minor=3),
        ),
        (
            DeviceRule(allow=True),
            DeviceRule(allow=False, type="b"),
            DeviceRule(allow=True, type="b", major=8, minor=0),
        ),
        # It adds up what is allowed of one device: both accesses would stay.
        (
            DeviceRule(allow=False),
            DeviceRule(allow=True, type="c", major=1, minor=3, access="r"),
            DeviceRule(allow=True, type="c", major=1, minor=3, access="w"),
            DeviceRule(allow=False, type="c", major=1, access="r"),
        ),
        (DeviceRule(allow=False, access="w"),),
    ],
)
def test_device_rules_that_the_kernels_list_cannot_express(
    tree: Tree, rules: tuple[DeviceRule, ...]
) -> None:
    """They are refused, and not half obeyed."""
    with pytest.raises(UnsupportedOperation):
        tree.create(Limits(), *rules)


def test_what_a_rule_takes_away_again_is_no_exception_any_more(tree: Tree) -> None:
    """Of one device accesses are added and taken one by one; what overlaps with none is fine."""
    both = DeviceRule(allow=True, type="c", major=1, minor=3, access="rw")
    read = replace(both, allow=False, access="r")
    steps = tree.create(
        Limits(),
        DeviceRule(allow=False),
        both,
        read,
        DeviceRule(allow=False, type="c", major=1, access="r"),
    )
    assert steps[-1] == "devices.deny c 1:* r"
    with pytest.raises(UnsupportedOperation):
        tree.create(
            Limits(),
            DeviceRule(allow=False),
            both,
            read,
            DeviceRule(allow=False, type="c", major=1, access="w"),
        )


def test_a_malformed_device_rule(tree: Tree) -> None:
    """An unknown access is the caller's mistake."""
    with pytest.raises(InvalidRequest, match="malformed"):
        tree.create(Limits(), DeviceRule(allow=True, type="c", access="x"))


def test_a_new_cpuset_is_filled_from_its_parent(tree: Tree) -> None:
    """An empty group, which would take no process, gets its parent's CPUs and nodes."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        tree.box("cpuset", file).write_text("")
    plan = tree.driver.plan_create(GroupRequest("box", parent="/pannier"))
    tree.driver._inheriting.clear()
    Transaction().run(plan)
    assert tree.box("cpuset", "cpuset.cpus").read_text() == "0-3"
    assert tree.box("cpuset", "cpuset.mems").read_text() == "0"


def test_a_parent_whose_cpuset_is_empty_is_filled(tree: Tree) -> None:
    """An administrator's mkdir leaves it so: what is below could otherwise get nothing."""
    for group in ("web", "web/inner", "web/inner/new"):
        folder = tree.root / "cpuset" / group
        folder.mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            (folder / file).write_text("")
    for name in FILES:
        (tree.root / name / "web/inner").mkdir(parents=True, exist_ok=True)
    Transaction().run(tree.driver.plan_create(GroupRequest("new", parent="web/inner")))
    for group in ("web", "web/inner", "web/inner/new"):
        assert (tree.root / "cpuset" / group / "cpuset.cpus").read_text() == "0-3"
        assert (tree.root / "cpuset" / group / "cpuset.mems").read_text() == "0"


def test_a_host_without_v1_is_unavailable(tree: Tree, tmp_path: Path) -> None:
    """The reason names what is missing, or what is read-only; nothing is left by a probe."""
    config = CgroupV1Config()
    with pytest.raises(DriverUnavailable, match="memory, cpu, pids"):
        CgroupV1.probe_hierarchies(Hierarchies({}), config)
    locked = Hierarchies(tree.hierarchies.mounts, frozenset({"memory"}))
    with pytest.raises(DriverUnavailable, match="read-only"):
        CgroupV1.probe_hierarchies(locked, config)
    CgroupV1.probe_hierarchies(tree.hierarchies, config)
    assert not list(tmp_path.glob("*/*probe*"))
