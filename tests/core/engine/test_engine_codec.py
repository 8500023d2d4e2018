"""Values go into the database and come back as they were."""

from __future__ import annotations

import json
from dataclasses import replace

from pannier.drivers.base import IdMap, IdMapping
from pannier.drivers.network import Endpoint, PortBinding, PortRequest
from pannier.drivers.resources import DeviceRule, Limits
from pannier.engine import codec
from pannier.engine.model import (
    Container,
    ContainerConfig,
    ContainerState,
    EndpointOptions,
    HealthCheck,
    HostOptions,
    MountKind,
    MountPoint,
    MountSpec,
    RestartPolicy,
    Status,
    Ulimit,
)

FULL = Container(
    id="c" * 64,
    name="web",
    created=1,
    image_id="sha256:x",
    image_name="small",
    parent=None,
    args=("sh", "-c", "ü\udcff"),
    config=ContainerConfig(
        cmd=(), entrypoint=None, labels={"a": ""}, health_check=HealthCheck(("CMD", "x"), 5)
    ),
    host=HostOptions(
        mounts=(MountSpec(MountKind.TMPFS, "/x", tmpfs_options=("ro",)),),
        ports=(PortRequest(80, "udp", "127.0.0.1", (1, 2)),),
        restart=RestartPolicy("on-failure", 3),
        limits=Limits(memory=1 << 40, oom_kill_disable=False, hugetlb={"2MB": 1}),
        device_rules=(DeviceRule(allow=False),),
        ulimits=(Ulimit("nofile", 1, -1),),
        masked_paths=(),
        init=False,
        console_size=(24, 80),
    ),
    networks={"lan": EndpointOptions(aliases=("a",)), "bridge": EndpointOptions()},
    mounts=(MountPoint(MountSpec(MountKind.VOLUME, "/v", "box"), "box", "/p", "local"),),
    endpoints={"lan": Endpoint("n", ports=(PortBinding(80, "udp", "0.0.0.0", 4000),))},
    state=ContainerState(Status.EXITED, exit_code=3, manually_stopped=True),
    idmap=IdMap((IdMapping(0, 1, 2),), ()),
)


def test_a_container_comes_back_as_it_was() -> None:
    """Empty and absent values are told apart, also where neither is the default."""
    assert codec.loads(Container, codec.dumps(FULL)) == FULL
    bare = replace(FULL, host=HostOptions(), config=ContainerConfig(cmd=None), mounts=())
    assert codec.loads(Container, codec.dumps(bare)) == bare


def test_defaults_are_left_out() -> None:
    """So that a field which is added later has its default in old rows."""
    assert json.loads(codec.dumps(HostOptions(privileged=True))) == {"privileged": True}
    assert codec.dumps(ContainerState()) == "{}"
    # Required fields are always there, whatever their value.
    assert json.loads(codec.dumps(MountPoint(MountSpec(MountKind.BIND, "")))) == {
        "spec": {"kind": "bind", "destination": ""}
    }


def test_what_is_not_known_any_more_is_ignored() -> None:
    """A row of another version can still be read."""
    assert codec.loads(RestartPolicy, '{"name": "always", "colour": "red"}') == RestartPolicy(
        "always"
    )
