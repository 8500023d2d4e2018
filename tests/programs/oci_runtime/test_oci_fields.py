"""Fields of the configuration, each seen in the container that has it."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any, cast

import pytest

from pannier.drivers.resources import DeviceLimit, Limits
from pannier.errors import InvalidRequest
from pannier_oci.limits import device_rules, limits_of
from pannier_runtime_native.composing import scheduling_job

if TYPE_CHECKING:
    from support.bundles import Bundle

root = pytest.mark.root


def part(spec: object, name: str) -> dict[str, Any]:
    """Return a part of a configuration, to be changed."""
    return cast("dict[str, Any]", cast("dict[str, Any]", spec)[name])


@root
def test_a_process_is_who_the_configuration_says(bundle: Bundle) -> None:
    """Ids, groups, mask, folder, environment, capabilities, limits, score."""
    script = (
        "id -u; id -g; id -G; umask; pwd; echo $WORD; ulimit -Sn; ulimit -Hn;"
        "cat /proc/self/oom_score_adj; grep -E 'Cap|NoNew' /proc/self/status | cut -f 2"
    )
    spec = bundle.spec("sh", "-c", script)
    sets = {"bounding": ("CHOWN", "KILL", "MKNOD"), "permitted": ("CHOWN", "KILL"),
            "inheritable": ("CHOWN",), "effective": ("CHOWN",), "ambient": ("CHOWN",)}  # fmt: skip
    part(spec, "process").update(
        user={"uid": 1000, "gid": 1001, "umask": 0o027, "additionalGids": [5, 7]},
        cwd="/tmp",
        env=["PATH=/bin", "WORD=word"],
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}],
        oomScoreAdj=500,
        noNewPrivileges=True,
        capabilities={kind: [f"CAP_{name}" for name in names] for kind, names in sets.items()},
    )
    shown = bundle.run(spec).splitlines()
    assert shown[:9] == ["1000", "1001", "1001 5 7", "0027", "/tmp", "word", "64", "128", "500"]
    # Executed as a user, who keeps what is ambient: capabilities(7).
    inheritable, permitted, effective, bounding, ambient, renounced = shown[9:]
    assert [int(mask, 16) for mask in (inheritable, permitted, effective, ambient)] == [1] * 4
    assert int(bounding, 16) == 1 << 0 | 1 << 5 | 1 << 27
    assert renounced == "1"


@root
@pytest.mark.parametrize("kept", [False, True])
def test_a_limit_of_few_descriptors_is_the_programs(bundle: Bundle, *, kept: bool) -> None:
    """Who makes and starts the container has as many as that takes; hooks do, too."""
    spec = bundle.spec("sh", "-c", "ulimit -n; ulimit -Hn; readlink /proc/self/fd/3")
    part(spec, "process")["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 8, "hard": 8}]
    spec["hooks"] = cast("Any", {"startContainer": [{"path": "/bin/true"}]})
    null = os.open("/dev/null", os.O_RDONLY)
    words = ("--preserve-fds", "1") if kept else ()
    output = bundle.create("one", spec, *words, third=null if kept else None)
    os.close(null)
    for _ in range(2):
        assert json.loads(bundle.do("state", "one"))["status"] == "created"
    bundle.do("start", "one")
    assert output.read().split() == ["8", "8", *["/dev/null"] * kept]


@root
def test_who_is_given_no_capabilities_has_none(bundle: Bundle) -> None:
    """Where the configuration is silent, and root starts the program."""
    spec = bundle.spec("grep", "Cap", "/proc/self/status")
    del part(spec, "process")["capabilities"]
    assert set(bundle.run(spec).split()[1::2]) == {"0" * 16}


@root
def test_names_and_what_is_read_only_or_hidden(bundle: Bundle) -> None:
    """Host and domain, the root, paths below it, a kernel parameter of its own."""
    script = (
        "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward;"
        "touch /x /tmp/x /shown/x 2>&1; cat /etc/hidden; ls /secret | wc -l"
    )
    spec = bundle.spec("sh", "-c", script, maskedPaths=["/etc/hidden", "/secret"],
                       readonlyPaths=["/shown"], sysctl={"net.ipv4.ip_forward": "1"})  # fmt: skip
    for name in ("etc/hidden", "secret/x", "shown/y"):
        path = bundle.folder / "rootfs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("text")
    spec["hostname"], spec["domainname"] = "named", "example"
    for place in ("/shown", "/tmp"):
        spec["mounts"].append({"destination": place, "type": "tmpfs", "source": "tmpfs"})
    part(spec, "root")["readonly"] = True
    *names, first, second, hidden = bundle.run(spec).splitlines()
    assert names == ["named", "example", "1"]
    assert first == "touch: /x: Read-only file system"
    assert second == "touch: /shown/x: Read-only file system"
    assert hidden == "0"


@root
def test_devices_are_made_as_asked(bundle: Bundle) -> None:
    """Character and block devices and pipes, with their modes and owners."""
    devices = [
        {"path": "/dev/one", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7},
        {"path": "/dev/in/two", "type": "b", "major": 7, "minor": 200, "gid": 8},
        {"path": "/dev/three", "type": "p", "major": 9, "minor": 9, "fileMode": 0o600},
    ]
    script = "stat -c '%F %a %u %g %t:%T' /dev/one /dev/in/two /dev/three; ls -l /dev/fd"
    shown = bundle.run(bundle.spec("sh", "-c", script, devices=devices)).splitlines()
    assert shown[0] == "character special file 640 7 0 1:3"
    assert shown[1] == "block special file 666 0 8 7:c8"
    assert shown[2] == "fifo 600 0 0 0:0"
    assert shown[3].endswith("/dev/fd -> /proc/self/fd")


@root
def test_a_file_in_a_devices_place_is_an_error(bundle: Bundle) -> None:
    """It is not replaced; the device itself may be there already."""
    inner = bundle.folder / "rootfs/tmp"
    (inner / "taken").write_text("text")
    os.mknod(inner / "there", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for name, fine in (("taken", False), ("there", True)):
        devices = [{"path": f"/tmp/{name}", "type": "c", "major": 1, "minor": 3, "fileMode": 0o644}]
        spec = bundle.spec("stat", "-c", "%a", f"/tmp/{name}", devices=devices)
        if fine:
            assert bundle.run(spec) == "644\n"
            continue
        bundle.write(spec)
        said = bundle.refused("create", "one")
        assert "cannot check device /tmp/taken: a file that is not this device is there" in said
        assert (inner / "taken").read_text() == "text"


MOUNTED = {
    ("tmpfs", "nosuid,noexec,nodev,ro,noatime,size=1m"): "ro,nosuid,nodev,noexec,noatime",
    ("tmpfs", "ro,rw,nosuid,suid,strictatime,nodiratime,nosymfollow"): "rw,nodiratime,nosymfollow",
    ("tmpfs", "rro,rnosuid,defaults,silent"): "ro,nosuid,relatime",
    ("tmpfs", "sync,dirsync,lazytime"): "rw,relatime",
    ("tmpfs", "shared"): "rw,relatime shared",
    ("tmpfs", "slave"): "rw,relatime",
    ("tmpfs", "unbindable"): "rw,relatime unbindable",
    ("mqueue", "nodev"): "rw,nodev,relatime",
    ("bind", "bind,ro,nosuid"): "ro,nosuid",
    ("bind", "rbind,rro,rnoexec,rnodev"): "ro,nodev,noexec",
    ("bind", "bind,rshared"): "rw shared",
}


@root
def test_mounts_have_their_options(bundle: Bundle) -> None:
    """Attributes, recursive ones, propagation; of contradictions the last one counts."""
    data = bundle.folder / "data"
    data.mkdir()
    spec = bundle.spec("cat", "/proc/self/mountinfo")
    for number, (kind, options) in enumerate(MOUNTED):
        spec["mounts"].append(
            {
                "destination": f"/tmp/{number}",
                "type": kind,
                "source": "data" if kind == "bind" else kind,
                "options": options.split(","),
            }
        )
    found = {}
    for line in bundle.run(spec).splitlines():
        fields = line.split()
        tags = fields[6 : fields.index("-")]
        found[fields[4]] = {*fields[5].split(","), *(tag.partition(":")[0] for tag in tags)}
    for number, (mount, wanted) in enumerate(MOUNTED.items()):
        # Binds have their access times from where they come from.
        known = {*wanted.replace(" ", ",").split(",")}
        extra = found[f"/tmp/{number}"] - known
        assert known <= found[f"/tmp/{number}"], mount
        assert extra <= ({"relatime", "noatime", "nodiratime"} if mount[0] == "bind" else set())


@root
def test_the_roots_propagation_is_its_own(bundle: Bundle) -> None:
    """What is mounted in the root keeps what was said of it, unless all of it is meant."""
    script = """awk '$5 ~ "^/(tmp)?$" { print $5, $7 }' /proc/self/mountinfo | cut -d: -f 1"""
    for name, inner in (("shared", "/tmp -"), ("rshared", "/tmp shared"), ("unbindable", "/tmp -")):
        spec = bundle.spec("sh", "-c", script, rootfsPropagation=name)
        spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "options": ["private"]})
        shown = f"/ {name.removeprefix('r')}\n{inner}\n"
        assert bundle.run(spec) == shown, name


@root
def test_a_binds_settings_of_a_filesystem_are_left_out(bundle: Bundle) -> None:
    """With a warning that names them, as mount(2) has it; an unknown word is refused."""
    spec = bundle.spec("true")
    bind: Any = {"destination": "/tmp", "type": "bind", "source": ".", "options": ["mode=755"]}
    spec["mounts"].append(bind)
    bundle.write(spec)
    done = bundle.call("run", "one")
    assert done.returncode == 0
    assert "mount /tmp: a bind has no use for the option mode" in done.stderr
    bind["options"] = ["rpivate"]
    bundle.write(spec)
    assert "mount /tmp: unknown option rpivate" in bundle.refused("create", "two")


@root
def test_a_filter_answers_as_it_says(bundle: Bundle) -> None:
    """With the rule's own number, where the arguments match."""
    rules = [
        {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
         "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]},
        {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71,
         "args": [{"index": 1, "value": 0xFC, "valueTwo": 12, "op": "SCMP_CMP_MASKED_EQ"}]},
    ]  # fmt: skip
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
               "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": rules}  # fmt: skip
    script = "for number in 10 13 0; do kill -$number $$ 2>&1; done"
    shown = bundle.run(bundle.spec("sh", "-c", script, seccomp=seccomp)).splitlines()
    assert [line.rpartition(": ")[2] for line in shown] == [
        "Operation not supported",
        "Protocol error",
    ]


RATE = [{"major": 8, "minor": 16, "rate": 1000}]
RATED = (DeviceLimit(8, 16, 1000),)
LIMITS: dict[str, tuple[dict[str, Any], Limits]] = {
    "memory.limit": ({"memory": {"limit": 9}}, Limits(memory=9)),
    "memory.reservation": ({"memory": {"reservation": 9}}, Limits(memory_reservation=9)),
    "memory.swap": ({"memory": {"swap": -1}}, Limits(memory_swap=-1)),
    "memory.swappiness": ({"memory": {"swappiness": 0}}, Limits(swappiness=0)),
    "memory.disableOOMKiller": (
        {"memory": {"disableOOMKiller": True}},
        Limits(oom_kill_disable=True),
    ),
    "memory.useHierarchy": ({"memory": {"useHierarchy": True}}, Limits()),
    "cpu.shares": ({"cpu": {"shares": 9}}, Limits(cpu_shares=9)),
    "cpu.quota": ({"cpu": {"quota": 9}}, Limits(cpu_quota=9)),
    "cpu.period": ({"cpu": {"period": 9}}, Limits(cpu_period=9)),
    "cpu.realtimeRuntime": ({"cpu": {"realtimeRuntime": 9}}, Limits(cpu_realtime_runtime=9)),
    "cpu.realtimePeriod": ({"cpu": {"realtimePeriod": 9}}, Limits(cpu_realtime_period=9)),
    "cpu.cpus": ({"cpu": {"cpus": "0-1"}}, Limits(cpuset_cpus="0-1")),
    "cpu.mems": ({"cpu": {"mems": "0"}}, Limits(cpuset_mems="0")),
    "pids.limit": ({"pids": {"limit": -1}}, Limits(pids=-1)),
    "blockIO.weight": ({"blockIO": {"weight": 9}}, Limits(block_weight=9)),
    "blockIO.weightDevice": (
        {"blockIO": {"weightDevice": [{"major": 8, "minor": 16, "weight": 9}]}},
        Limits(block_weight_device=(DeviceLimit(8, 16, 9),)),
    ),
    "blockIO.throttleReadBpsDevice": (
        {"blockIO": {"throttleReadBpsDevice": RATE}},
        Limits(read_bps=RATED),
    ),
    "blockIO.throttleWriteBpsDevice": (
        {"blockIO": {"throttleWriteBpsDevice": RATE}},
        Limits(write_bps=RATED),
    ),
    "blockIO.throttleReadIOPSDevice": (
        {"blockIO": {"throttleReadIOPSDevice": RATE}},
        Limits(read_iops=RATED),
    ),
    "blockIO.throttleWriteIOPSDevice": (
        {"blockIO": {"throttleWriteIOPSDevice": RATE}},
        Limits(write_iops=RATED),
    ),
    "hugepageLimits": (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 9}]},
        Limits(hugetlb={"2MB": 9}),
    ),
    "memory.kernel": ({"memory": {"kernel": -1, "kernelTCP": -1}}, Limits()),
}


@pytest.mark.parametrize("field", LIMITS)
def test_each_limit_reaches_the_driver(field: str) -> None:
    """As the resource drivers take it; their own tests show what they make of it."""
    resources, limits = LIMITS[field]
    assert limits_of(resources) == limits


def test_device_rules_reach_the_driver() -> None:
    """In order, and what every container may use behind them; a malformed one is refused."""
    asked = {"allow": True, "type": "c", "major": 4, "minor": -1, "access": "rm"}
    first, second, *rest = device_rules({"resources": {"devices": [{"allow": False}, asked]}})
    assert (first.allow, first.type, first.access) == (False, "a", "rwm")
    assert (second.allow, second.type, second.major, second.minor) == (True, "c", 4, None)
    assert second.access == "rm"
    assert all(rule.allow for rule in rest)
    with pytest.raises(InvalidRequest, match="malformed rule"):
        device_rules({"resources": {"devices": [{"allow": True, "access": "x"}]}})


def test_scheduling_reaches_the_kernels_call() -> None:
    """Every field of a deadline's, as sched_setattr(2) takes it, and the class of its input."""
    scheduler = {
        "policy": "SCHED_DEADLINE", "nice": 1, "priority": 2, "runtime": 3, "deadline": 4,
        "period": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"],
    }  # fmt: skip
    io_priority = {"class": "IOPRIO_CLASS_RT", "priority": 6}
    affinity = {"initial": "0", "final": "1,3-4"}
    job = scheduling_job(
        {"scheduler": scheduler, "ioPriority": io_priority, "execCPUAffinity": affinity},
        {},
        affinity=True,
    )
    assert job is not None
    assert job["scheduler"] == (6, 1, 2, 3, 3, 4, 5)
    assert job["io_priority"] == (1, 6)
    assert job["affinity"] == [1, 3, 4]
