"""From a container to its OCI specification."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.base import IdMap, IdMapping
from pannier.drivers.resources import DeviceRule
from pannier.engine import caps, devices, security, spec, specmounts
from pannier.engine.joins import Joins
from pannier.engine.model import (
    Container,
    ContainerConfig,
    DeviceMapping,
    HostOptions,
    MountKind,
    MountPoint,
    MountSpec,
    Ulimit,
)
from pannier.engine.spec import Surroundings, build
from pannier.engine.users import UserIds
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pannier.drivers import oci

DOCKERS_MASK = 0xA80425FB
"""What Docker's default capabilities are as a bit mask."""


def _container(
    host: HostOptions | None = None, config: ContainerConfig | None = None, **more: Any
) -> Container:
    return Container(
        id="c" * 64,
        name="web",
        created=1,
        image_id="sha256:" + "a" * 64,
        image_name="small",
        parent="sha256:" + "b" * 64,
        args=("sh", "-c", "true"),
        config=config or ContainerConfig(env=("A=1", "B=2")),
        host=host or HostOptions(),
        networks={},
        **more,
    )


def _build(container: Container, **more: Any) -> oci.Spec:
    around = Surroundings(
        user=UserIds(5, 6, (6, 7), "/home"),
        joins=Joins(),
        hostname="box",
        files={"/etc/hosts": "/run/hosts"},
        cgroup_path="/pannier/c",
    )
    return build(container, replace(around, **more))


@pytest.fixture(autouse=True)
def _all_capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the tests' answers not depend on who runs them."""
    from pannier.linux.capabilities import CAPABILITIES  # noqa: PLC0415

    monkeypatch.setattr(caps, "available", lambda: tuple(CAPABILITIES))
    caps.choose.cache_clear()


def test_the_default_specification() -> None:
    """All of it, as a plain container gets it; the filter is looked at elsewhere."""
    found = _build(_container())
    seccomp = found["linux"].pop("seccomp")
    assert seccomp["defaultAction"] == "SCMP_ACT_ERRNO"
    golden = Path(__file__).with_name("golden_spec.json")
    assert json.loads(json.dumps(found)) == json.loads(golden.read_text())


def test_the_default_capabilities_are_dockers() -> None:
    """Fourteen, the same as Docker's."""
    from pannier.linux.capabilities import CAPABILITIES  # noqa: PLC0415

    assert sum(1 << CAPABILITIES[name] for name in caps.DEFAULT) == DOCKERS_MASK


@pytest.mark.parametrize(
    ("add", "drop", "has", "lacks"),
    [
        ((), ("chown",), {"CAP_KILL"}, {"CAP_CHOWN"}),
        (("SYS_TIME",), (), {"CAP_SYS_TIME", "CAP_CHOWN"}, {"CAP_SYS_ADMIN"}),
        (("cap_sys_time",), ("ALL",), {"CAP_SYS_TIME"}, {"CAP_CHOWN"}),
        (("ALL",), ("CAP_SYS_ADMIN",), {"CAP_SYS_TIME", "CAP_BPF"}, {"CAP_SYS_ADMIN"}),
        ((), ("ALL",), set(), set(caps.DEFAULT)),
    ],
)
def test_capabilities_added_and_dropped(
    add: tuple[str, ...], drop: tuple[str, ...], has: set[str], lacks: set[str]
) -> None:
    """Docker's rules for ALL, in whatever case and with or without CAP_."""
    held = set(caps.choose(add, drop, privileged=False))
    assert has <= held
    assert not lacks & held


def test_unknown_capabilities_are_refused() -> None:
    """With the name that is not known, also one that the engine itself does not have."""
    with pytest.raises(InvalidRequest, match='unknown capability: "CAP_FLY"'):
        caps.choose(("FLY",), (), privileged=False)


def test_a_privileged_container() -> None:
    """Everything the engine has: no filter, no masks, a writable /sys."""
    found = _build(_container(HostOptions(privileged=True)))
    linux = found["linux"]
    assert not {"seccomp", "maskedPaths", "readonlyPaths"} & set(linux)
    [sys] = [item for item in found["mounts"] if item["destination"] == "/sys"]
    assert "rw" in sys["options"]
    assert "CAP_SYS_ADMIN" in found["process"]["capabilities"]["bounding"]
    assert devices.rules(HostOptions(privileged=True)) == ()


def test_namespaces_by_mode() -> None:
    """Host modes leave a namespace out; a joined one has its path."""
    host = HostOptions(pid_mode="host", uts_mode="host", ipc_mode="host", cgroupns_mode="host")
    found = _build(_container(host), joins=Joins(host_network=True))
    assert [item["type"] for item in found["linux"]["namespaces"]] == ["mount"]
    assert "hostname" not in found
    assert "sysctl" not in found["linux"]
    joined = _build(_container(), joins=Joins(network=11, pid=12, ipc=13))
    paths = {item["type"]: item.get("path") for item in joined["linux"]["namespaces"]}
    assert paths == {
        "mount": None,
        "network": "/proc/11/ns/net",
        "pid": "/proc/12/ns/pid",
        "ipc": "/proc/13/ns/ipc",
        "uts": None,
        "cgroup": None,
    }


def test_a_user_namespace() -> None:
    """Its map is in the specification; with another's namespaces its user namespace is joined."""
    maps = (IdMapping(0, 100000, 65536),)
    container = _container(idmap=IdMap(maps, maps))
    linux = _build(container)["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 100000, "size": 65536}]
    joined = _build(container, joins=Joins(network=11))["linux"]
    assert {"type": "user", "path": "/proc/11/ns/user"} in joined["namespaces"]
    assert "uidMappings" not in joined


def test_mounts_of_the_user_come_last_and_win() -> None:
    """Outer before inner ones; in the place of a default mount they replace it."""
    points = (
        MountPoint(MountSpec(MountKind.BIND, "/a/b", "/x", read_only=True), source="/x"),
        MountPoint(MountSpec(MountKind.VOLUME, "/a/", "v"), name="v", source="/vol"),
        MountPoint(MountSpec(MountKind.TMPFS, "/dev/shm", tmpfs_size=4096)),
        MountPoint(
            MountSpec(MountKind.BIND, "/etc/hosts", "/h", propagation="rshared"), source="/h"
        ),
    )
    found = _build(_container(mounts=points))["mounts"]
    places = [item["destination"] for item in found]
    assert len(places) == len(set(places))
    assert places[-4:] == ["/a", "/a/b", "/dev/shm", "/etc/hosts"] or places.index(
        "/a"
    ) < places.index("/a/b")
    by_place = {item["destination"]: item for item in found}
    assert by_place["/a/b"]["options"] == ["rbind", "rprivate", "rro"]
    assert by_place["/etc/hosts"] == {
        "destination": "/etc/hosts",
        "type": "bind",
        "source": "/h",
        "options": ["rbind", "rshared", "rw"],
    }
    assert by_place["/dev/shm"]["options"] == [
        "nosuid",
        "nodev",
        "noexec",
        "size=4096",
        "mode=1777",
    ]


def test_the_environment() -> None:
    """What was asked wins over the defaults; a name alone takes a variable away."""
    config = ContainerConfig(env=("PATH=/mine", "HOSTNAME", "HOME=/elsewhere", "E="), tty=True)
    env = _build(_container(config=config))["process"]["env"]
    assert env == ["PATH=/mine", "TERM=xterm", "HOME=/elsewhere", "E="]


def test_security_options() -> None:
    """Both separators, and both spellings of no-new-privileges."""
    assert security.parse(("no-new-privileges",)).no_new_privileges
    assert security.parse(("no-new-privileges:true",)).no_new_privileges
    assert not security.parse(("no-new-privileges=false",)).no_new_privileges
    assert security.parse(("seccomp:unconfined",)).seccomp == "unconfined"
    assert security.parse(("label=disable", "apparmor=unconfined")) == security.Security()
    for option in ("nonsense", "seccomp", "no-new-privileges=maybe"):
        with pytest.raises(InvalidRequest, match="invalid --security-opt"):
            security.parse((option,))


def test_seccomp_profiles() -> None:
    """None, the default, and one's own; a broken one is refused at creation."""
    assert (
        "seccomp"
        not in _build(_container(HostOptions(security_options=("seccomp=unconfined",))))["linux"]
    )
    own = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}'
    linux = _build(_container(HostOptions(security_options=(f"seccomp={own}",))))["linux"]
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ALLOW"
    broken = _container(HostOptions(security_options=("seccomp={",)))
    with pytest.raises(InvalidRequest, match="the seccomp profile is not valid"):
        spec.check(broken, ())


def test_devices() -> None:
    """A device's numbers come from the host; it is made, and allowed as was asked."""
    host = HostOptions(
        devices=(DeviceMapping("/dev/null", "/dev/nothing", "r"),),
        device_rules=(DeviceRule(allow=True, type="c", major=9),),
    )
    [node] = _build(_container(host))["linux"]["devices"]
    assert (node["path"], node["type"], node["major"], node["minor"]) == ("/dev/nothing", "c", 1, 3)
    assert devices.rules(host)[-2:] == (
        DeviceRule(allow=True, type="c", major=1, minor=3, access="r"),
        DeviceRule(allow=True, type="c", major=9),
    )
    for wrong in (
        DeviceMapping("/dev/none-such", "/x"),
        DeviceMapping("/etc/passwd", "/x"),
        DeviceMapping("/dev/null", "/x", "q"),
    ):
        with pytest.raises(InvalidRequest):
            devices.rules(HostOptions(devices=(wrong,)))


def test_ulimits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's defaults are cut to what it may set; what was asked for is not."""
    monkeypatch.setattr(spec, "_ceiling", lambda _: 1000)
    defaults = (Ulimit("nofile", 5000, -1), Ulimit("nproc", 10, 20))
    asked = HostOptions(ulimits=(Ulimit("nproc", -1, -1),))
    process = spec.process(_container(asked), UserIds(), defaults, [])
    assert process["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 1000},
        {"type": "RLIMIT_NPROC", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1},
    ]
    with pytest.raises(InvalidRequest, match="invalid ulimit type: files"):
        spec.check(_container(HostOptions(ulimits=(Ulimit("files", 1, 1),))), ())


def test_shared_memory_modes() -> None:
    """A size of its own, none at all, or another's folder."""

    def shm(host: HostOptions, shared: str | None = None) -> list[oci.Mount]:
        found = _build(_container(host), shared_memory=shared)["mounts"]
        return [item for item in found if item["destination"] == "/dev/shm"]

    assert "size=99" in shm(HostOptions(shm_size=99))[0]["options"]
    assert shm(HostOptions(ipc_mode="none")) == []
    assert shm(HostOptions(ipc_mode="shareable"), "/run/x")[0]["source"] == "/run/x"


@pytest.mark.parametrize("mounted", [True, False])
def test_the_hosts_message_queues_need_no_mount_of_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, mounted: bool
) -> None:
    """With the host's IPC namespace its mount is bound, or a fresh one shows the same queues."""
    place = tmp_path / "mqueue"
    if mounted:
        place.mkdir()
    monkeypatch.setattr(specmounts, "_QUEUES", str(place))
    spec = _build(_container(HostOptions(ipc_mode="host")))
    (found,) = [mount for mount in spec["mounts"] if mount["destination"] == str(place)]
    assert found["type"] == ("bind" if mounted else "mqueue")
