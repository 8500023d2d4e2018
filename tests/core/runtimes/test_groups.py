"""What a container is shown of its control groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pannier.drivers.runtime import CreateRequest
from pannier.runtimes.groups import ShownGroups, shown_groups

if TYPE_CHECKING:
    from pannier.drivers import oci

SPEC: oci.Spec = {
    "ociVersion": "1.0.2",
    "process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    "root": {"path": "/"},
    "linux": {},
}


def test_a_host_with_v1() -> None:
    """Each hierarchy that it has a group in, by its folder, and a link for each controller."""
    cpu, v2 = Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup/unified")
    request = CreateRequest(
        *("box", SPEC, -1),
        procs=(cpu / "p/box/tasks", v2 / "p/box/cgroup.procs"),
        cgroup_mounts={"cpu,cpuacct": cpu, "": v2, "pids": Path("/sys/fs/cgroup/pids")},
    )
    assert shown_groups(request) == ShownGroups(
        None,
        {"cpu,cpuacct": cpu / "p/box", "unified": v2 / "p/box"},
        {"cpu": "cpu,cpuacct", "cpuacct": "cpu,cpuacct"},
    )


def test_a_host_with_v2() -> None:
    """The one group is all there is."""
    v2 = Path("/sys/fs/cgroup")
    request = CreateRequest(
        *("box", SPEC, -1), procs=(v2 / "p/box/cgroup.procs",), cgroup_mounts={"": v2}
    )
    assert shown_groups(request) == ShownGroups(whole=v2 / "p/box")


def test_a_container_without_groups() -> None:
    """Nothing is shown of what it is not in."""
    request = CreateRequest("box", SPEC, -1, cgroup_mounts={"": Path("/sys/fs/cgroup")})
    assert shown_groups(request) == ShownGroups()
