"""What the kit cannot know: this driver's groups and configuration, and what it asks of runc."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pannier.drivers.base import DriverContext
from pannier.drivers.operations import Transaction
from pannier.drivers.runtime import CreateRequest, ExecRequest, StdioSpec
from pannier.errors import DriverError, UnsupportedOperation
from pannier.linux.cgroupfs import remove_group
from pannier.linux.mounts import clone_tree

from pannier_runtime_oci.bundle import draw
from pannier_runtime_oci.driver import OciConfig, OciRuntime
from pannier_runtime_oci.groups import group_name, hierarchy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.drivers import oci

_FOREVER: oci.Process = {
    "args": ["sleep", "1000"],
    "cwd": "/",
    "env": ["PATH=/bin"],
    "user": {"uid": 0, "gid": 0},
}


def make_spec() -> oci.Spec:
    """Return the specification of a container that waits."""
    return {
        "ociVersion": "1.2.0",
        "process": _FOREVER.copy(),
        "root": {"path": "/"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": kind} for kind in ("mount", "pid", "cgroup")]},
    }


def make_context(folder: Path) -> DriverContext:
    """Return the folders of a driver."""
    context = DriverContext(folder / "root", folder / "state")
    context.root.mkdir(exist_ok=True)
    context.state.mkdir(exist_ok=True)
    return context


def create(driver: OciRuntime, rootfs: Path, spec: oci.Spec | None = None, **request: Any) -> int:
    """Create the container ``box``; return its first process's id."""
    root = clone_tree(rootfs)
    try:
        plan = driver.plan_create(CreateRequest("box", spec or make_spec(), root, **request))
        return Transaction().run(plan).pid
    finally:
        os.close(root)


def v2_group(pid: int | str) -> str:
    """Return the group of a process in the v2 hierarchy."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    (group,) = [line.removeprefix("0::") for line in lines if line.startswith("0::")]
    return group


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not only waits for its parent to take note of its end."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture
def group() -> Iterator[Path]:
    """Return a group in the v2 hierarchy, as a resource driver for v2 makes one."""
    with hierarchy() as mount:
        path = Path(f"/proc/self/fd/{mount}/pannier-oci-test-{os.getpid()}")
        path.mkdir()
        yield path
        remove_group(path, 60)


@pytest.mark.usefixtures("runc")
def test_added_processes_are_in_the_resource_drivers_group(
    tmp_path: Path, rootfs: Path, group: Path
) -> None:
    """On cgroup v2 runc's own group is out of the way, so that limits hold for all of them."""
    driver = OciRuntime(make_context(tmp_path), OciConfig())
    procs = (group / "cgroup.procs",)
    first = create(driver, rootfs, procs=procs)
    try:
        driver.start("box")
        added = driver.exec("box", ExecRequest("x", _FOREVER, procs=procs))
        assert v2_group(first) == v2_group(added) == f"/{group.name}"
        own = group_name(tmp_path / "state/containers/box")
        assert not (group.parent / own).exists()
    finally:
        driver.delete("box")


@pytest.mark.usefixtures("runc")
def test_a_monitor_that_is_killed_in_mid_creation(tmp_path: Path, rootfs: Path) -> None:
    """What runc had made by then is found by its group, although nobody has noted its process."""
    script = tmp_path / "runtime"
    pids = tmp_path / "pids"
    script.write_text(
        "#!/bin/sh\n"
        f'case " $* " in *" create "*) {shutil.which("runc")} "$@" && '
        f"cat init.pid >{pids} && kill -9 $PPID;; esac\n"
    )
    script.chmod(0o755)
    driver = OciRuntime(make_context(tmp_path), OciConfig(str(script)))
    with pytest.raises(DriverError, match="has ended while it created it"):
        create(driver, rootfs)
    assert list(driver.containers()) == []
    assert not is_alive(int(pids.read_text()))


@pytest.fixture
def shared_root(tmp_path: Path, rootfs: Path) -> Iterator[Path]:
    """Return a root that is on a shared mount of the host's."""
    folder = tmp_path / "shared"
    folder.mkdir()
    subprocess.run(["mount", "--bind", rootfs, folder], check=True)
    try:
        subprocess.run(["mount", "--make-shared", folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def propagation(pid: int) -> dict[str, list[str]]:
    """Return what a process's table of mounts says of each: its peers and its master."""
    lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {fields[4]: [word.partition(":")[0] for word in fields[6:-4]] for fields in lines}


@pytest.mark.usefixtures("runc")
@pytest.mark.parametrize(("word", "of_the_root"), [("rprivate", []), ("rslave", ["master"])])
def test_a_slave_bind_leaves_the_root_as_it_is_asked_for(
    tmp_path: Path, shared_root: Path, word: str, of_the_root: list[str]
) -> None:
    """Although runc has to be told one word for both."""
    spec = make_spec()
    spec["linux"]["rootfsPropagation"] = word
    bind: list[oci.Mount] = [
        {
            "destination": f"/{name}",
            "type": "bind",
            "source": str(shared_root),
            "options": ["rbind", mode],
        }
        for name, mode in (("tmp", "rslave"), ("sys", "rprivate"))
    ]
    spec["mounts"] = [*spec["mounts"], *bind]
    driver = OciRuntime(make_context(tmp_path), OciConfig())
    found = propagation(create(driver, shared_root, spec))
    driver.delete("box")
    assert (found["/tmp"], found["/sys"]) == (["master"], [])
    assert found["/"] == of_the_root


def test_the_hierarchies_of_a_host_with_v1(tmp_path: Path) -> None:
    """A container is shown its groups where programs look for them, by every controller's name."""
    spec = make_spec()
    spec["mounts"] = [
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "x", "options": ["ro"]}
    ]
    cpu, v2 = Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup/unified")
    request = CreateRequest(
        *("box", spec, -1),
        procs=(cpu / "p/box/tasks", v2 / "p/box/cgroup.procs"),
        cgroup_mounts={"cpu,cpuacct": cpu, "": v2, "pids": Path("/sys/fs/cgroup/pids")},
    )
    bundle = draw(request, tmp_path, "own")
    assert bundle.groups is not None
    assert {bind.place: bind.source for bind in bundle.groups} == {
        "groups/cpu,cpuacct": str(cpu / "p/box"),
        "groups/unified": str(v2 / "p/box"),
    }
    assert bundle.links == {"cpu": "cpu,cpuacct", "cpuacct": "cpu,cpuacct"}
    (mount,) = bundle.config["mounts"]
    assert mount["source"] == str(tmp_path / "groups")
    assert "rro" in mount["options"]


def test_the_group_of_a_host_with_v2(tmp_path: Path) -> None:
    """The container's group is the root of what it is shown."""
    spec = make_spec()
    spec["mounts"] = [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "x"}]
    v2 = Path("/sys/fs/cgroup")
    request = CreateRequest(
        *("box", spec, -1), procs=(v2 / "p/box/cgroup.procs",), cgroup_mounts={"": v2}
    )
    bundle = draw(request, tmp_path, "own")
    assert [bind.source for bind in bundle.binds] == [str(v2 / "p/box")]
    assert bundle.groups is None


@pytest.mark.parametrize(
    ("where", "name"), [("process", "scheduler"), ("linux", "timeOffsets"), ("", "vm")]
)
def test_unknown_fields_are_refused_by_name(tmp_path: Path, where: str, name: str) -> None:
    """Runc passes over what it does not know; this driver does not let that happen."""
    spec: Any = make_spec()
    (spec[where] if where else spec)[name] = {}
    with pytest.raises(UnsupportedOperation, match=rf"{where}\.?{name}"):
        draw(CreateRequest("box", spec, -1), tmp_path, "own")


def test_the_request_stays_as_it_is(tmp_path: Path) -> None:
    """A plan may be drawn twice: what it was drawn from is not changed."""
    spec = make_spec()
    before = json.dumps(spec)
    draw(CreateRequest("box", spec, -1, StdioSpec(terminal=True, size=(3, 4))), tmp_path, "own")
    assert json.dumps(spec) == before
