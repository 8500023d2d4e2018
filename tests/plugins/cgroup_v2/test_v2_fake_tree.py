"""The v2 driver on a folder that looks like the kernel's, without root."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from pannier.drivers import DriverContext, Transaction
from pannier.drivers.resources import (
    BlockUsage,
    DeviceLimit,
    DeviceRule,
    GroupRequest,
    Limits,
    Pressure,
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
from pannier_cgroup_v2.driver import CgroupV2, CgroupV2Config
from pannier_cgroup_v2.hierarchy import Hierarchy
from pannier_cgroup_v2.limits import weight_of_shares

if TYPE_CHECKING:
    from pathlib import Path

ALL = "cpuset cpu io memory hugetlb pids"
FILES = {
    "cgroup.controllers": ALL,
    "cgroup.subtree_control": "",
    "cgroup.procs": "",
    "cgroup.events": "populated 0\nfrozen 0\n",
    "cgroup.freeze": "0",
    "cpu.max": "max 100000",
    "cpu.weight": "100",
    "cpu.stat": (
        "usage_usec 9000\nuser_usec 6000\nsystem_usec 3000\n"
        "nr_periods 7\nnr_throttled 3\nthrottled_usec 5000"
    ),
    "cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 total=3",
    "cpuset.cpus": "",
    "cpuset.mems": "",
    "io.max": "8:0 rbps=1048576 wbps=max riops=max wiops=max",
    "io.weight": "default 100",
    "io.stat": "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:0 rbytes=1",
    "memory.current": "4096",
    "memory.peak": "8192",
    "memory.max": "max",
    "memory.low": "0",
    "memory.swap.max": "max",
    "memory.events": "low 0\nhigh 0\nmax 2\noom 5\noom_kill 4",
    "memory.stat": "anon 1\nfile 2",
    "pids.max": "max",
    "pids.current": "3",
    "hugetlb.2MB.max": "max",
}


class Tree:
    """A fake tree with the parent ``pannier`` and one container's group, ``box``."""

    def __init__(self, root: Path, without: frozenset[str] = frozenset()) -> None:
        self.root = root
        for group in (root, root / "pannier", root / "pannier/box"):
            group.mkdir(exist_ok=True)
            for file, content in FILES.items():
                if file not in without:
                    (group / file).write_text(content)
        self.hierarchy = Hierarchy(root)
        self.driver = CgroupV2(DriverContext(root, root), CgroupV2Config(), self.hierarchy)

    def box(self, file: str) -> Path:
        """Return a file of the container's group."""
        return self.root / "pannier/box" / file

    def create(self, limits: Limits) -> list[str]:
        """Execute a plan, and return the writes it described."""
        plan = self.driver.plan_create(GroupRequest("box", limits=limits))
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
    """The plan names each file and value; memory and swap are taken apart."""
    disk = (DeviceLimit(8, 0, 7),)
    assert tree.create(
        Limits(
            memory=1 << 20,
            memory_swap=3 << 20,
            memory_reservation=1 << 19,
            cpu_shares=1024,
            cpu_period=50000,
            cpu_quota=25000,
            cpuset_cpus="0-1",
            cpuset_mems="0",
            pids=10,
            block_weight=1000,
            block_weight_device=(DeviceLimit(8, 0, 10),),
            read_bps=disk,
            write_bps=(DeviceLimit(8, 0, 0),),
            read_iops=disk,
            write_iops=disk,
            hugetlb={"2MB": 4194304},
        )
    ) == [
        "memory.max 1048576",
        "memory.swap.max 2097152",
        "memory.low 524288",
        "cpu.weight 100",
        "cpu.max 25000 50000",
        "cpuset.cpus 0-1",
        "cpuset.mems 0",
        "pids.max 10",
        "io.weight default 10000",
        "io.weight 8:0 1",
        "io.max 8:0 rbps=7",
        "io.max 8:0 wbps=max",
        "io.max 8:0 riops=7",
        "io.max 8:0 wiops=7",
        "hugetlb.2MB.max 4194304",
    ]
    assert tree.box("cpu.max").read_text() == "25000 50000"


def test_no_limit_is_max(tree: Tree) -> None:
    """-1 lifts a limit; the reservation's word for none is 0."""
    assert tree.create(Limits(memory=-1, memory_reservation=-1, pids=-1, cpu_quota=-1)) == [
        "memory.max max",
        "memory.swap.max max",
        "memory.low 0",
        "cpu.max max",
        "pids.max max",
    ]


def test_half_of_the_cpu_bandwidth_keeps_the_other_half(tree: Tree) -> None:
    """A period alone keeps the quota that the group has."""
    tree.box("cpu.max").write_text("30000 100000")
    assert tree.create(Limits(cpu_period=50000)) == ["cpu.max 30000 50000"]


def test_swap_needs_to_be_at_least_memory(tree: Tree) -> None:
    """Together less than alone, and together without alone, contradict themselves."""
    with pytest.raises(InvalidRequest, match="less than memory alone"):
        tree.create(Limits(memory=2000, memory_swap=1000))
    with pytest.raises(InvalidRequest, match="needs one of memory"):
        tree.create(Limits(memory_swap=1000))
    tree.box("memory.max").write_text("600")
    assert tree.create(Limits(memory_swap=1000)) == ["memory.swap.max 400"]
    assert tree.create(Limits(memory=600, memory_swap=600))[1] == "memory.swap.max 0"


@pytest.mark.parametrize(
    "limits",
    [
        Limits(swappiness=0),
        Limits(oom_kill_disable=True),
        Limits(cpu_realtime_period=1),
        Limits(cpu_realtime_runtime=1),
    ],
)
def test_what_only_v1_has_is_refused(tree: Tree, limits: Limits) -> None:
    """It is an error, not silence; but asking for the ordinary OOM killer is nothing."""
    with pytest.raises(UnsupportedOperation, match="v2 does not offer"):
        tree.create(limits)
    assert tree.create(Limits(oom_kill_disable=False)) == []


def test_shares_become_weights() -> None:
    """Ends and defaults correspond; more shares are never less weight."""
    assert [weight_of_shares(n) for n in (0, 2, 1024, 262144, 1 << 20)] == [1, 1, 100, 10000, 10000]
    weights = [weight_of_shares(n) for n in range(2, 262145, 97)]
    assert weights == sorted(weights)
    assert 1 <= weights[0] < weights[-1] <= 10000


def test_a_weight_out_of_range_is_refused(tree: Tree) -> None:
    """The contract's range is checked, since the conversion would hide it from the kernel."""
    for weight in (9, 1001):
        with pytest.raises(InvalidRequest, match=str(weight)):
            tree.create(Limits(block_weight=weight))


def test_bfq_has_its_own_weight(tree: Tree) -> None:
    """Where the BFQ scheduler is there its file is used, on its own scale."""
    (tree.root / "pannier/io.bfq.weight").write_text("default 100")
    tree.box("io.bfq.weight").write_text("default 100")
    assert tree.create(Limits(block_weight=300)) == ["io.bfq.weight default 300"]


def test_an_update_is_all_or_nothing(tree: Tree) -> None:
    """When the last of several writes fails, the earlier ones are taken back."""
    pids = tree.box("pids.max")
    pids.unlink()
    pids.symlink_to("/proc/version")  # reads well and refuses writes
    with pytest.raises(DriverError, match=r"pids\.max"):
        tree.driver.update("box", Limits(memory=100, cpu_quota=5, cpu_period=6, pids=5))
    assert tree.box("memory.max").read_text() == "max"
    assert tree.box("cpu.max").read_text() == "max 100000"


def test_lines_for_devices_are_restored(tree: Tree) -> None:
    """A device's earlier line comes back; for one that had none all is unset."""
    group = tree.driver._group("box", "")
    known, unknown = DeviceLimit(8, 0, 5), DeviceLimit(8, 16, 5)
    weight = DeviceLimit(8, 0, 10)
    limits = Limits(read_bps=(known, unknown), block_weight=10, block_weight_device=(weight,))
    plan = tree.driver.plan_create(GroupRequest("box", limits=limits))
    assert plan.describe()[1].subject.endswith("io.weight")
    from pannier_cgroup_v2.limits import writes  # noqa: PLC0415 - white-box

    assert [group.previous(write).value for write in writes(limits, group)] == [
        "default 100",
        "8:0 default",
        "8:0 rbps=1048576 wbps=max riops=max wiops=max",
        "8:16 rbps=max wbps=max riops=max wiops=max",
    ]


def test_without_swap_accounting_a_swap_limit_is_an_error(tmp_path: Path) -> None:
    """What cannot be enforced is said before anything is made; no limit needs no file."""
    tree = Tree(tmp_path, frozenset({"memory.swap.max"}))
    assert ResourceCapability.SWAP not in tree.driver.available()
    with pytest.raises(UnsupportedOperation) as caught:
        tree.driver.update("box", Limits(memory=1, memory_swap=2))
    assert "swapaccount" in (caught.value.hint or "")
    assert tree.create(Limits(memory=-1, memory_swap=-1)) == ["memory.max max"]


def test_what_is_available_follows_the_files(tmp_path: Path) -> None:
    """A host without block I/O control and pressure does not claim them."""
    tree = Tree(tmp_path, frozenset({"io.max", "io.weight", "cpu.pressure"}))
    assert tree.driver.available() | {ResourceCapability.DEVICES} == frozenset(
        ResourceCapability
    ) - {
        ResourceCapability.BLOCK_THROTTLE,
        ResourceCapability.BLOCK_WEIGHT,
        ResourceCapability.PRESSURE,
    }


def test_controllers_are_handed_down(tree: Tree) -> None:
    """Every group on the way to a container hands down all that it has; once is enough."""
    (tree.root / "cgroup.subtree_control").write_text("")
    tree.hierarchy.prepare("pannier")
    wanted = "+cpu +cpuset +hugetlb +io +memory +pids"
    assert (tree.root / "cgroup.subtree_control").read_text() == wanted
    (tree.root / "cgroup.subtree_control").write_text(ALL)
    tree.hierarchy.prepare("pannier")
    assert (tree.root / "cgroup.subtree_control").read_text() == ALL


def _parent(tree: Tree) -> Path:
    """Make a parent as an administrator would, with a container's group in it."""
    web = tree.root / "web"
    for group in (web, web / "box"):
        group.mkdir()
        for file, content in FILES.items():
            (group / file).write_text(content)
    return web


def test_a_parent_that_is_there_already_hands_down_too(tree: Tree) -> None:
    """Otherwise a limit below it had no file; one that does so already is not written to."""
    web = _parent(tree)
    request = GroupRequest("box", parent="/web", limits=Limits(pids=9))
    Transaction().run(tree.driver.plan_create(request))
    wanted = "+cpu +cpuset +hugetlb +io +memory +pids"
    assert (web / "cgroup.subtree_control").read_text() == wanted
    (web / "cgroup.subtree_control").write_text(ALL)
    Transaction().run(tree.driver.plan_create(request))
    assert (web / "cgroup.subtree_control").read_text() == ALL


def test_a_parent_with_processes_in_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can hand down nothing, which is an error only where a limit is asked for."""
    web = _parent(tree)

    def write(path: Path, value: str) -> None:
        if path == web / "cgroup.subtree_control":
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        path.write_text(value)

    monkeypatch.setattr("pannier_cgroup_v2.hierarchy.write_file", write)
    Transaction().run(tree.driver.plan_create(GroupRequest("free", parent="web")))
    assert (web / "free").is_dir()
    limited = GroupRequest("box", parent="web", limits=Limits(pids=9))
    with pytest.raises(DriverError, match="cannot be handed down") as caught:
        Transaction().run(tree.driver.plan_create(limited))
    assert "processes sit in that group" in (caught.value.hint or "")


def test_usage_is_read_from_every_counter(tree: Tree) -> None:
    """The counters arrive in the contract's units."""
    usage = tree.driver.usage("box")
    assert (usage.cpu_total, usage.cpu_user, usage.cpu_system) == (9000000, 6000000, 3000000)
    assert (usage.periods, usage.throttled_periods, usage.throttled_time) == (7, 3, 5000000)
    assert (usage.memory, usage.memory_peak, usage.memory_limit) == (4096, 8192, 0)
    assert (usage.memory_failures, usage.memory_stat) == (2, {"anon": 1, "file": 2})
    assert (usage.pids, usage.pids_limit) == (3, 0)
    assert usage.blocks == (BlockUsage(8, 0, 1, 0, 0, 0), BlockUsage(254, 0, 4096, 8192, 1, 2))
    assert usage.pressure == {"cpu": Pressure(1.5, 12)}
    assert tree.driver.events("box") == ResourceEvents(oom=5, oom_kill=4)
    assert tree.driver.events("gone") == ResourceEvents()


def test_running_out_of_memory_is_told_by_kernels_only(tree: Tree) -> None:
    """A file that does not tell of its changes offers no watch; no group is NotFound."""
    assert tree.driver.oom_watch("box") is None
    with pytest.raises(NotFound):
        tree.driver.oom_watch("gone")


def test_a_group_that_is_not_there(tree: Tree) -> None:
    """Updating, measuring, freezing are NotFound; listing is empty; deleting is nothing."""
    for act in (tree.driver.usage, tree.driver.freeze, tree.driver.thaw):
        with pytest.raises(NotFound):
            act("gone")
    with pytest.raises(NotFound):
        tree.driver.update("gone", Limits(pids=1))
    assert tree.driver.pids("gone") == []
    tree.driver.kill("gone")
    tree.driver.delete("gone")


def test_paths_follow_the_parent(tree: Tree) -> None:
    """A parent is below the mount point, however it is written; dots lead nowhere."""
    assert tree.driver.path("box") == "/pannier/box"
    assert tree.driver.path("box", "/web/front/") == "/web/front/box"
    assert tree.driver.mount_points() == {"": tree.root}
    for parent, id in (("../x", "box"), ("a//b", "box"), ("", ".."), ("", "a/b"), ("", "")):
        with pytest.raises(InvalidRequest):
            tree.driver.path(id, parent)


def test_one_enters_where_the_first_process_is(tree: Tree) -> None:
    """A container with a service manager hands controllers down: its own group takes no one."""
    assert tree.driver.procs("box") == (tree.box("cgroup.procs"),)
    tree.box("cgroup.subtree_control").write_text("memory")
    for name, populated in (("a.slice", 0), ("init.scope", 1)):
        below = tree.box(name)
        below.mkdir()
        (below / "cgroup.events").write_text(f"populated {populated}\nfrozen 0")
        (below / "cgroup.subtree_control").write_text("")
    assert tree.driver.procs("box") == (tree.box("init.scope/cgroup.procs"),)


def test_the_plan_shows_the_device_filter(tree: Tree) -> None:
    """Rules are one operation, described in full; a malformed one is refused at once."""
    rules = (DeviceRule(allow=False), DeviceRule(allow=True, type="c", major=136, access="rw"))
    plan = tree.driver.plan_create(GroupRequest("new", devices=rules))
    assert [(step.action, step.detail) for step in plan.describe()] == [
        ("create group", ""),
        ("attach device filter", "deny a *:* rwm; allow c 136:* rw"),
    ]
    with pytest.raises(InvalidRequest, match="malformed"):
        tree.driver.plan_create(GroupRequest("new", devices=(DeviceRule(allow=True, access="x"),)))
    assert list(tree.driver.groups()) == ["box"]


def test_an_unusable_host_is_unavailable(tree: Tree) -> None:
    """The reason names what is offered and where the rest is; a probe leaves nothing."""
    config = CgroupV2Config()
    with pytest.raises(DriverUnavailable, match="no cgroup v2 hierarchy"):
        CgroupV2.probe_hierarchy(None, config)
    with pytest.raises(DriverUnavailable, match="read-only"):
        CgroupV2.probe_hierarchy(Hierarchy(tree.root, read_only=True), config)
    (tree.root / "cgroup.subtree_control").write_text(ALL)
    CgroupV2.probe_hierarchy(tree.hierarchy, config)
    assert not list(tree.root.glob("*probe*"))
    (tree.root / "cgroup.controllers").write_text("hugetlb")
    hybrid = Hierarchy(tree.root, elsewhere=frozenset({"cpu", "memory", "pids"}))
    with pytest.raises(DriverUnavailable) as caught:
        CgroupV2.probe_hierarchy(hybrid, config)
    assert "offers only hugetlb: cpu, memory, pids are bound to v1" in caught.value.message
