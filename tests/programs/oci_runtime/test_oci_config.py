"""The configuration's fields: honoured, or refused by name; never ignored."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pannier.errors import PannierError
from pannier.linux.cgroupfs import cgroup_mounts
from pannier_oci.arguments import parse
from pannier_oci.bundle import load_spec
from pannier_oci.commands import run_command
from pannier_oci.creating import CreateOptions, create
from pannier_oci.features import features
from pannier_oci.records import Records
from pannier_runtime_native.refusals import HOOKS

if TYPE_CHECKING:
    from support.bundles import Bundle

pytestmark = pytest.mark.root


def group_file(group: str, controller: str, names: tuple[str, str]) -> str:
    """Return what a file of a container's group says: the first name is v1's, the second v2's."""
    for mount in cgroup_mounts():
        for name, version in zip(names, (1, 2), strict=True):
            file = mount.path / group.lstrip("/") / name
            wanted = mount.version == version and (version == 2 or controller in mount.controllers)
            if wanted and file.exists():
                return file.read_text().strip()
    pytest.fail(f"{group} has no {names}")


def test_limits_and_devices_are_the_groups_at_the_path(bundle: Bundle) -> None:
    """The group is made where cgroupsPath says, with the limits; update changes them."""
    resources = {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 64 << 20},
        "cpu": {"quota": 50_000, "period": 100_000, "cpus": "0"},
        "pids": {"limit": 33},
    }
    script = "cat /dev/null && echo fine; mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg"
    output = bundle.create("one", bundle.spec("sh", "-c", script, resources=resources))
    group = bundle.group
    assert group_file(group, "pids", ("pids.max", "pids.max")) == "33"
    memory = ("memory.limit_in_bytes", "memory.max")
    assert group_file(group, "memory", memory) == str(64 << 20)
    assert group_file(group, "cpuset", ("cpuset.cpus", "cpuset.cpus")) == "0"
    assert str(bundle.read_state("one")["pid"]) in group_file(
        group, "pids", ("cgroup.procs", "cgroup.procs")
    )
    bundle.do("update", "--resources", "-", "one", input='{"pids": {"limit": 44}}', stdin=None)
    assert group_file(group, "pids", ("pids.max", "pids.max")) == "44"
    bundle.do("update", "--memory", "32m", "one")
    assert group_file(group, "memory", memory) == str(32 << 20)
    assert "linux.resources.cpu.burst" in bundle.refused("update", "--cpu-burst", "9", "one")
    assert "resources.pids.limit must be a whole number" in bundle.refused(
        "update", "-r", "-", "one", input='{"pids": {"limit": "5"}}', stdin=None
    )
    bundle.do("start", "one")
    said = output.read()
    assert "fine" in said
    assert "can't open '/tmp/kmsg': Operation not permitted" in said


def test_scheduling_and_personality_are_the_processs(bundle: Bundle) -> None:
    """Policy, nice value, priority of input and output, and execution domain."""
    spec = bundle.spec("sh", "-c", "uname -m; cut -d' ' -f 19,41 /proc/self/stat; ionice")
    process = cast("dict[str, Any]", spec["process"])
    process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}
    process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    cast("dict[str, Any]", spec["linux"])["personality"] = {"domain": "LINUX32"}
    machine, nice, policy, io_class = bundle.run(spec).replace(" ", "\n").splitlines()[:4]
    assert machine != "x86_64" or os.uname().machine != "x86_64"
    assert (nice, policy) == ("5", "3")
    assert io_class.startswith("idle")


def test_clocks_are_offset_in_a_time_namespace(bundle: Bundle) -> None:
    """As timeOffsets says; a process that is added has the same clocks."""
    if not Path("/proc/self/ns/time").exists():
        pytest.skip("the kernel has no time namespaces (CONFIG_TIME_NS)")
    spec = bundle.spec("sh", "-c", "cut -d. -f1 /proc/uptime; exec sleep 1000")
    namespaces = [*spec["linux"]["namespaces"], {"type": "time"}]
    offsets = {"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 1_000_000}}
    cast("dict[str, Any]", spec["linux"]).update(namespaces=namespaces, timeOffsets=offsets)
    output = bundle.create("one", spec)
    bundle.do("start", "one")
    assert int(output.line()) > 1_000_000
    assert float(bundle.do("exec", "one", "cat", "/proc/uptime").split()[0]) > 1_000_000


def test_namespaces_are_joined_by_their_paths(bundle: Bundle) -> None:
    """Parameters and names are set in them, for they are not the runtime's own."""
    first = bundle.create("one", bundle.spec("sleep", "1000"))
    pid = bundle.read_state("one")["pid"]
    spec = bundle.spec(
        *("sh", "-c", "cat /proc/sys/net/ipv4/ip_forward; hostname; readlink /proc/self/ns/net"),
        cgroupsPath=f"{bundle.group}-two",
        sysctl={"net.ipv4.ip_forward": "1"},
    )
    files = {"network": "net", "ipc": "ipc", "uts": "uts"}
    joined: list[Any] = [
        {"type": kind, "path": f"/proc/{pid}/ns/{file}"} for kind, file in files.items()
    ]
    spec["linux"]["namespaces"] = [*joined, {"type": "mount"}, {"type": "pid"}]
    spec["hostname"] = "joined"
    forward, host, network = bundle.run(spec, "two").split()
    assert (forward, host) == ("1", "joined")
    assert network == str(Path(f"/proc/{pid}/ns/net").readlink())
    bundle.do("kill", "one", "KILL")
    assert first.read() == ""


def test_a_user_namespace_has_the_maps(bundle: Bundle) -> None:
    """Its root is another user outside; without maps, or maps without it, is an error."""
    maps: Any = [{"containerID": 0, "hostID": 1_000_000, "size": 65536}]
    spec = bundle.spec(
        "sh", "-c", "cat /proc/self/uid_map; id -u; echo x > /tmp/x; ls -l /dev/null"
    )
    spec["linux"]["namespaces"].append({"type": "user"})
    bundle.write(spec)
    assert "needs linux.uidMappings" in bundle.refused("create", "one")
    cast("dict[str, Any]", spec["linux"]).update(uidMappings=maps, gidMappings=maps)
    (bundle.folder / "rootfs/tmp").chmod(0o1777)
    for path in (bundle.folder, *bundle.folder.parents[:3]):
        path.chmod(0o755)
    shown = bundle.run(spec)
    assert shown.split()[:4] == ["0", "1000000", "65536", "0"]
    assert (bundle.folder / "rootfs/tmp/x").stat().st_uid == 1_000_000


def test_a_user_namespace_is_joined(bundle: Bundle) -> None:
    """With the others of its owner; its maps need not be said, and must not be said wrongly."""
    maps: Any = [{"containerID": 0, "hostID": 1_000_000, "size": 65536}]
    for path in (bundle.folder, *bundle.folder.parents[:3]):
        path.chmod(0o755)
    first = bundle.spec("sleep", "1000", uidMappings=maps, gidMappings=maps)
    first["linux"]["namespaces"].append({"type": "user"})
    bundle.create("one", first)
    pid = bundle.read_state("one")["pid"]
    script = "id -u; cat /proc/self/uid_map; cat /dev/null; ls -L -i /proc/self/ns/user; sleep 1000"
    spec = bundle.spec("sh", "-c", script, cgroupsPath=f"{bundle.group}-two")
    files = {"user": "user", "network": "net", "ipc": "ipc", "uts": "uts"}
    joined: list[Any] = [
        {"type": kind, "path": f"/proc/{pid}/ns/{file}"} for kind, file in files.items()
    ]
    spec["linux"]["namespaces"] = [*joined, {"type": "mount"}, {"type": "pid"}, {"type": "cgroup"}]
    output = bundle.create("two", spec)
    bundle.do("start", "two")
    assert output.line() == "0"
    assert output.line().split() == ["0", "1000000", "65536"]
    inode = Path(f"/proc/{pid}/ns/user").stat().st_ino
    assert output.line().split()[0] == str(inode)
    inner = Path(f"/proc/{bundle.read_state('two')['pid']}/ns/pid").readlink()
    assert inner != Path(f"/proc/{pid}/ns/pid").readlink()
    assert bundle.do("exec", "two", "sh", "-c", "id -u; ls -Li /proc/self/ns/user").split()[:2] == [
        "0",
        str(inode),
    ]
    cast("dict[str, Any]", spec["linux"])["uidMappings"] = [{**maps[0], "size": 5}]
    bundle.write(spec)
    assert "linux.uidMappings is not what the namespace" in bundle.refused("create", "three")


def test_a_bind_is_idmapped(bundle: Bundle) -> None:
    """With the mount's own maps; a relative source is the bundle's."""
    (bundle.folder / "data").mkdir()
    (bundle.folder / "data/file").write_text("text")
    spec = bundle.spec("sh", "-c", "ls -ln /data/file | tr -s ' ' | cut -d' ' -f 3,4")
    maps: Any = [{"containerID": 0, "hostID": 7000, "size": 1000}]
    spec["mounts"].append(
        {
            "destination": "/data",
            "type": "bind",
            "source": "data",
            "options": ["rbind", "idmap"],
            "uidMappings": maps,
            "gidMappings": maps,
        }
    )
    assert bundle.run(spec) == "7000 7000\n"


def test_capabilities_that_cannot_be_granted_are_left_out(bundle: Bundle) -> None:
    """With a warning each, as the specification wants; what is not inheritable is not ambient."""
    spec = bundle.spec("grep", "-E", "CapEff|CapAmb", "/proc/self/status")
    names = ["CAP_CHOWN", "CAP_NO_SUCH"]
    spec["process"]["capabilities"] = {
        "bounding": names, "effective": names, "permitted": names, "ambient": ["CAP_CHOWN"],
    }  # fmt: skip
    bundle.write(spec)
    done = bundle.call("run", "one")
    assert done.stdout.split()[1::2] == ["0000000000000001", "0000000000000000"]
    assert "CAP_NO_SUCH cannot be granted" in done.stderr
    assert "not made ambient: CAP_CHOWN" in done.stderr


ONE_ID = {"containerID": 0, "hostID": 0, "size": 1}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "linux.intelRdt": ("linux", {"intelRdt": {"closID": "x"}}),
    "linux.mountLabel": ("linux", {"mountLabel": "x"}),
    "linux.netDevices": ("linux", {"netDevices": {"eth0": {}}}),
    "linux.seccomp.listenerPath": (
        "linux",
        {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}},
    ),
    "linux.resources.network": ("linux", {"resources": {"network": {"classID": 1}}}),
    "linux.resources.rdma": ("linux", {"resources": {"rdma": {"x": {"hcaHandles": 1}}}}),
    "linux.resources.unified": ("linux", {"resources": {"unified": {"memory.high": "1"}}}),
    "linux.resources.cpu.burst": ("linux", {"resources": {"cpu": {"burst": 1}}}),
    "process.selinuxLabel": ("process", {"selinuxLabel": "x"}),
    "cannot join a mount namespace": (
        "linux",
        {"namespaces": [{"type": "uts"}, {"type": "mount", "path": "/proc/1/ns/mnt"}]},
    ),
    "cannot join the user namespace /proc/self/ns/uts": (
        "linux",
        {"namespaces": [{"type": "mount"}, {"type": "user", "path": "/proc/self/ns/uts"}]},
    ),
    "linux.namespaces: the path 'x' is not absolute": (
        "linux",
        {"namespaces": [{"type": "mount"}, {"type": "uts", "path": "x"}]},
    ),
    "linux.maskedPaths: the path 'x' is not absolute": ("linux", {"maskedPaths": ["x"]}),
    "annotations: a key must not be empty": ("", {"annotations": {"": "x"}}),
    "device /dev/x: major and minor are missing": (
        "linux",
        {"devices": [{"path": "/dev/x", "type": "c"}]},
    ),
    "weightDevice: weight is missing": (
        "linux",
        {"resources": {"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}},
    ),
    "hugepageLimits[0].limit is missing": (
        "linux",
        {"resources": {"hugepageLimits": [{"pageSize": "2MB"}]}},
    ),
    "'tmpcopyup' is offered for a tmpfs only": (
        "",
        {
            "mounts": [
                {"destination": "/x", "type": "bind", "source": "/", "options": ["tmpcopyup"]}
            ]
        },
    ),
    "syscalls[0].errnoRet: SCMP_ACT_ALLOW takes no number": (
        "linux",
        {
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}],
            }
        },
    ),
    "needs a mount namespace": ("linux", {"namespaces": [{"type": "uts"}]}),
    "names a pid namespace twice": (
        "linux",
        {"namespaces": [{"type": kind} for kind in ("mount", "uts", "pid", "pid")]},
    ),
    "hostname needs a uts namespace": ("linux", {"namespaces": [{"type": "mount"}]}),
    "names a resource limit twice": (
        "process",
        {"rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2},
    ),
    "process.scheduler.policy": ("process", {"scheduler": {"policy": "SCHED_NO"}}),
    "process.ioPriority.class": ("process", {"ioPriority": {"class": "no"}}),
    "linux.personality.domain": ("linux", {"personality": {"domain": "SUN"}}),
    "needs a time namespace": ("linux", {"timeOffsets": {"boottime": {"secs": 1}}}),
    "linux.rootfsPropagation": ("linux", {"rootfsPropagation": "odd"}),
    "is not in a namespace": ("linux", {"sysctl": {"kernel.hostname2": "x"}}),
    "the option 'remount' is not offered": (
        "",
        {"mounts": [{"destination": "/x", "type": "tmpfs", "options": ["remount"]}]},
    ),
    "the filesystem 'ext4' is not offered": (
        "",
        {"mounts": [{"destination": "/x", "type": "ext4", "source": "/dev/x"}]},
    ),
    "are offered for binds only": (
        "",
        {"mounts": [{"destination": "/x", "type": "tmpfs", "uidMappings": [ONE_ID]}]},
    ),
    "'2.0.0' is not supported": ("", {"ociVersion": "2.0.0"}),
    "process.args must not be empty": ("process", {"args": []}),
    "process.cwd must be an absolute path": ("process", {"cwd": "x"}),
    "root.path is missing": ("", {"root": {}}),
    "unknown hooks: preStart": ("", {"hooks": {"preStart": [{"path": "/x"}]}}),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_not_offered_is_refused_by_name(bundle: Bundle, said: str) -> None:
    """Before anything is made: no folder and no group are left."""
    part, fields = REFUSED[said]
    spec: dict[str, Any] = dict(bundle.spec("true"))
    (spec[part] if part else spec).update(fields)
    bundle.write(cast("Any", spec))
    with pytest.raises(PannierError, match=re.escape(said)):
        create(Records(bundle.state), bundle.state, "one", CreateOptions(bundle.folder))
    assert list(Records(bundle.state).all()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--systemd-cgroup", "list"), "--systemd-cgroup is not offered"),
        (("--rootless=true", "list"), "--rootless=true is not offered"),
        (("create", "--no-pivot", "x"), "--no-pivot is not offered"),
        (("checkpoint", "--image-path", "/x", "x"), "the command 'checkpoint' is not offered"),
        (("events", "--stats", "x"), "the command 'events' is not offered"),
        (("nosuch", "x"), "invalid choice: 'nosuch'"),
        (("state",), "the following arguments are required: id"),
        (("list", "--no-such"), "unrecognized arguments: --no-such"),
    ],
)
def test_the_command_line_refuses_by_name(words: tuple[str, ...], said: str) -> None:
    """Options that ask for what is not offered, and those that there are not."""
    with pytest.raises(PannierError, match=re.escape(said)):
        run_command(parse(words))


def test_usual_options_are_taken() -> None:
    """Those that engines pass without asking for anything."""
    found = parse(["--systemd-cgroup=false", "--rootless=auto", "--debug", "state", "x"])
    assert (found.command, found.id) == ("state", "x")
    found = parse(["exec", "x", "ls", "-l", "--all"])
    assert found.args == ["ls", "-l", "--all"]


@pytest.mark.parametrize("version", ["1.0.0-rc5", "1.0.2-dev", "1.2.0+dev", "1.9.7"])
def test_versions_are_compared_as_the_specification_wants(bundle: Bundle, version: str) -> None:
    """Of the first major version any is taken, with what SemVer hangs behind it."""
    spec = bundle.spec("true")
    spec["ociVersion"] = version
    bundle.write(spec)
    assert load_spec(bundle.folder)["ociVersion"] == version


def test_features_are_what_the_specification_wants() -> None:
    """Versions, hooks, mount options, namespaces and the rest, by the specification's names."""
    document = features()
    assert document["ociVersionMin"] == "1.0.0"
    assert set(document["hooks"]) == set(HOOKS)
    assert {"rbind", "rro", "idmap", "nosymfollow"} <= set(document["mountOptions"])
    assert "time" in document["linux"]["namespaces"]
    assert document["linux"]["cgroup"]["systemd"] is False
    assert "SCMP_ACT_ERRNO" in document["linux"]["seccomp"]["actions"]
