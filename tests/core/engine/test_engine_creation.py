"""What a container becomes: image and request merged, mounts and networks decided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.base import IdMap, IdMapping
from pannier.drivers.network import PortRequest
from pannier.drivers.resources import Limits
from pannier.engine.model import (
    ContainerConfig,
    CreateOptions,
    EndpointOptions,
    HealthCheck,
    HostOptions,
    LogConfig,
    MountKind,
    MountSpec,
)
from pannier.engine.resolve import command_line, complete_limits, merge
from pannier.errors import Conflict, InvalidRequest, NotFound, PannierError
from support.engine_rig import Rig, engine_test

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fakes import FakeStorage


@pytest.mark.parametrize(
    ("asked", "image", "wanted"),
    [
        ((None, None), (("e",), ("c",)), ("e", "c")),
        ((None, ("x",)), (("e",), ("c",)), ("e", "x")),
        ((("y",), None), (("e",), ("c",)), ("y",)),
        ((("y",), ("x",)), (("e",), ("c",)), ("y", "x")),
        (((), None), (("e",), ("c",)), ("c",)),
        ((("",), ("x",)), (("e",), ("c",)), ("x",)),
        ((None, ("x",)), (None, ("c",)), ("x",)),
        ((None, ()), (("e",), ("c",)), ("e", "c")),
    ],
)
def test_entrypoint_and_cmd(
    asked: tuple[tuple[str, ...] | None, tuple[str, ...] | None],
    image: tuple[tuple[str, ...] | None, tuple[str, ...] | None],
    wanted: tuple[str, ...],
) -> None:
    """Docker's table: an entrypoint that was asked for resets the image's cmd."""
    merged = merge(
        ContainerConfig(entrypoint=asked[0], cmd=asked[1]),
        ContainerConfig(entrypoint=image[0], cmd=image[1]),
    )
    assert command_line(merged) == wanted


def test_nothing_to_execute() -> None:
    """Neither image nor request says what to run."""
    with pytest.raises(InvalidRequest, match="no command specified"):
        command_line(merge(ContainerConfig(entrypoint=("",)), ContainerConfig()))


def test_the_rest_of_an_image() -> None:
    """What was asked wins; sets are united; variables are merged by name."""
    merged = merge(
        ContainerConfig(
            env=("A=mine", "C"),
            labels={"a": "1"},
            exposed_ports=("80/tcp",),
            health_check=HealthCheck(interval=5),
        ),
        ContainerConfig(
            env=("A=image", "B=image", "C=image"),
            labels={"a": "0", "b": "0"},
            exposed_ports=("80/tcp", "81/tcp"),
            volumes=("/v",),
            user="web",
            working_dir="/w",
            stop_signal="SIGINT",
            health_check=HealthCheck(test=("CMD", "x"), interval=9, retries=2),
        ),
    )
    assert merged.env == ("A=mine", "C", "B=image")
    assert merged.labels == {"a": "1", "b": "0"}
    assert merged.exposed_ports == ("80/tcp", "81/tcp")
    assert (merged.volumes, merged.user, merged.working_dir) == (("/v",), "web", "/w")
    assert merged.stop_signal == "SIGINT"
    assert merged.health_check == HealthCheck(test=("CMD", "x"), interval=5, retries=2)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(memory=1 << 20), "Minimum memory limit allowed is 6MB"),
        (Limits(memory_swap=1 << 30), "always set the Memory limit when using Memoryswap"),
        (Limits(memory=1 << 30, memory_swap=1 << 29), "should be larger than memory limit"),
        (Limits(memory=1 << 26, memory_reservation=1 << 27), "less than memory reservation"),
        (Limits(cpu_period=5), "CPU cfs period"),
        (Limits(cpu_quota=5), "CPU cfs quota"),
        (Limits(block_weight=5), "Range of blkio weight"),
        (Limits(swappiness=101), "valid memory swappiness range"),
    ],
)
def test_limits_that_make_no_sense(limits: Limits, words: str) -> None:
    """They are refused in Docker's words."""
    with pytest.raises(InvalidRequest, match=words):
        complete_limits(limits)


def test_limits_without_a_swap_limit() -> None:
    """As much swap as memory is allowed, and none of it where it was said."""
    assert complete_limits(Limits(memory=1 << 26)).memory_swap == 1 << 27
    unlimited = Limits(memory=1 << 26, memory_swap=-1)
    assert complete_limits(unlimited) == unlimited


_REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"working_dir": "srv"}, {}, "working directory 'srv' is invalid"),
    ({"env": ("=x",)}, {}, "invalid environment variable"),
    ({"stop_signal": "NOPE"}, {}, "Invalid signal: NOPE"),
    ({"hostname": "a b"}, {}, "invalid hostname format"),
    ({"hostname": "x"}, {"uts_mode": "host"}, "hostname and the UTS mode"),
    ({"volumes": ("rel",)}, {}, "mount path must be absolute"),
    ({"cmd": ("a\0b",)}, {}, "NUL"),
    ({}, {"cap_add": ("FLY",)}, "invalid CapAdd"),
    ({}, {"cap_drop": ("FLY",)}, "invalid CapDrop"),
    ({}, {"log": LogConfig("syslog")}, "no log driver named 'syslog'"),
    ({}, {"log": LogConfig("files", {"colour": "blue"})}, "unknown log opt"),
    ({}, {"log": LogConfig("", {"shape": "round"})}, "unknown log opt for files log driver"),
    ({}, {"oom_score_adj": 1001}, "range for oom score adj"),
    ({}, {"pid_mode": "container:"}, "invalid PID mode"),
    ({}, {"uts_mode": "container:x"}, "invalid UTS mode"),
    (
        {},
        {"sysctls": {"kernel.core_pattern": "|/x"}},
        "sysctl 'kernel.core_pattern' is not allowed",
    ),
    ({}, {"sysctls": {"net.x/../../kernel/core_pattern": "x"}}, "not allowed"),
    ({}, {"sysctls": {"kernel.sem": "1"}, "ipc_mode": "host"}, "host's IPC namespace"),
    ({}, {"sysctls": {"net.core.x": "1"}, "network_mode": "host"}, "host's network namespace"),
    ({}, {"runtime": "runq"}, "unknown or invalid runtime name: runq"),
    ({}, {"network_mode": "nonet"}, "network nonet not found"),
    ({}, {"network_mode": "tunnel:x"}, "invalid network mode"),
    ({}, {"network_mode": "container:none"}, "No such container: none"),
    ({}, {"volumes_from": ("none",)}, "No such container: none"),
    ({}, {"storage_options": {"size": "much"}}, "invalid size"),
    ({}, {"security_options": ("seccomp={",)}, "seccomp profile is not valid"),
    (
        {},
        {"mounts": (MountSpec(MountKind.BIND, "/x", "/no/such"),)},
        "bind source path does not exist: /no/such",
    ),
    ({}, {"mounts": (MountSpec(MountKind.BIND, "/x", "rel"),)}, "must be absolute"),
    ({}, {"mounts": (MountSpec(MountKind.TMPFS, "/"),)}, "destination can't be '/'"),
    (
        {},
        {"mounts": (MountSpec(MountKind.TMPFS, "/x"), MountSpec(MountKind.TMPFS, "/x/"))},
        "Duplicate mount point: /x",
    ),
    (
        {},
        {"mounts": (MountSpec(MountKind.VOLUME, "/x", "a/b"),)},
        "includes invalid characters for a local volume name",
    ),
]


@pytest.mark.parametrize(("config", "host", "words"), _REFUSED)
def test_what_is_refused_leaves_nothing(
    config: dict[str, Any], host: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """Nonsense is refused at creation, in Docker's words, and no part of it is made."""

    @engine_test
    async def check(rig: Rig) -> None:
        with pytest.raises(PannierError) as caught:
            await rig.create(
                "web",
                config=replace(ContainerConfig(), **config),
                host=replace(HostOptions(), **host),
            )
        assert words in str(caught.value)
        assert rig.world.held == set()
        assert rig.engine.volumes.list({}) == []
        assert list((rig.folder / "containers").iterdir()) == []
        # Not even its name is taken.
        await rig.create("web")

    check(tmp_path)


@engine_test
async def test_dockers_own_runtime_means_the_default_one(rig: Rig) -> None:
    """Clients write its name into what they send; it is shown as it was given."""
    for name in ("runc", "io.containerd.runc.v2"):
        container = await rig.create(name, host=HostOptions(runtime=name))
        assert container.host.runtime == name
        await rig.engine.containers.start(name)
        assert rig.engine.containers.get(name).state.running


@engine_test
async def test_an_image_that_is_not_there(rig: Rig) -> None:
    """Docker's words, which its clients answer with a pull."""
    options = CreateOptions(ContainerConfig(image="nope"))
    with pytest.raises(NotFound, match="No such image: nope:latest"):
        await rig.engine.containers.create(options)


@engine_test
async def test_what_else_is_not_there(rig: Rig) -> None:
    """Not "not found": the clients would pull the image, which is there."""
    for host, text in (
        (HostOptions(network_mode="nope"), "network nope not found"),
        (HostOptions(pid_mode="container:nope"), "No such container: nope"),
        (HostOptions(volumes_from=("nope",)), "No such container: nope"),
    ):
        with pytest.raises(InvalidRequest, match=text):
            await rig.engine.containers.create(
                CreateOptions(ContainerConfig(image="busybox", cmd=("true",)), host)
            )


@engine_test
async def test_the_hostname(rig: Rig) -> None:
    """The id's beginning, what was asked, or the host's where its names are shared."""
    plain = await rig.create()
    assert plain.config.hostname == plain.id[:12]
    assert (await rig.create(config=ContainerConfig(hostname="box"))).config.hostname == "box"
    for host in (HostOptions(uts_mode="host"), HostOptions(network_mode="host")):
        assert (await rig.create(host=host)).config.hostname == "testhost"


@engine_test
async def test_a_rootfs_takes_the_place_of_an_image(rig: Rig) -> None:
    """A folder of the host is handed to the storage driver as it is."""
    options = CreateOptions(ContainerConfig(cmd=("x",)), rootfs=str(rig.folder))
    container = (await rig.engine.containers.create(options)).container
    assert (container.image_id, container.parent, container.rootfs) == ("", None, str(rig.folder))
    with pytest.raises(InvalidRequest, match="no absolute path"):
        await rig.engine.containers.create(replace(options, rootfs="here"))


@engine_test
async def test_an_image_in_use_stays(rig: Rig) -> None:
    """A container protects its image; without it the image can go."""
    container = await rig.create("web")
    with pytest.raises(Conflict, match="must"):
        await rig.engine.images.remove("small")
    await rig.engine.containers.remove(container.id)
    await rig.engine.images.remove("small")
    assert rig.actions("image")[-2:] == ["untag", "delete"]


@engine_test
async def test_volumes_are_made_filled_and_protected(rig: Rig) -> None:
    """A named and an anonymous one; each is filled from the image once, and kept while in use."""
    await rig.load(Volumes={"/image": {}})
    roots = rig.storage.roots

    def with_files(inner: Callable[..., Any]) -> Callable[..., Any]:
        def plan(layer: Any) -> Any:
            found = inner(layer)
            found.operations[0].do, do = None, found.operations[0].do

            def create() -> None:
                do()
                (roots / layer.key / "data").mkdir()
                (roots / layer.key / "data/file").write_text("from the image")

            found.operations[0].do = create
            return found

        return plan

    storage: FakeStorage = rig.storage
    storage.plan_create_container = with_files(storage.plan_create_container)  # type: ignore[method-assign]
    mounts = (MountSpec(MountKind.VOLUME, "/data", "box"), MountSpec(MountKind.VOLUME, "/data/sub"))
    container = await rig.create("web", host=HostOptions(mounts=mounts))
    named, anonymous, from_image = container.mounts
    assert (Path(named.source) / "file").read_text() == "from the image"
    assert (named.name, named.anonymous) == ("box", False)
    assert (anonymous.anonymous, len(anonymous.name)) == (True, 64)
    assert (from_image.spec.destination, from_image.anonymous) == ("/image", True)
    with pytest.raises(Conflict, match=f"remove box: volume is in use - .{container.id}"):
        await rig.engine.volumes.remove("box")
    (Path(named.source) / "file").write_text("changed")
    for mode in ("ro,rw", "rw,q", "ro,"):
        with pytest.raises(InvalidRequest, match=f"invalid mode for volumes-from: {mode}"):
            await rig.create(host=HostOptions(volumes_from=(f"web:{mode}",)))
    other = await rig.create("other", host=HostOptions(volumes_from=("web:ro,z",)))
    assert [(point.name, point.spec.read_only) for point in other.mounts] == [
        ("box", True),
        (anonymous.name, True),
        (from_image.name, True),
    ]
    assert (Path(named.source) / "file").read_text() == "changed"
    await rig.engine.containers.remove("web", volumes=True)
    # Still in use by the other, with which they go.
    assert len(rig.engine.volumes.list({})) == 3
    await rig.engine.containers.remove("other", volumes=True)
    assert [volume.name for volume in rig.engine.volumes.list({})] == ["box"]
    assert rig.actions("volume").count("destroy") == 2


@engine_test
async def test_rm_takes_anonymous_volumes_along(rig: Rig) -> None:
    """A container that was run with --rm leaves no volume of its own."""
    mounts = (MountSpec(MountKind.VOLUME, "/anon"), MountSpec(MountKind.VOLUME, "/named", "box"))
    container = await rig.create(host=HostOptions(mounts=mounts, auto_remove=True))
    gone = rig.engine.containers.wait(container.id, "removed")
    rig.runtime.exit_at_once = 0
    await rig.engine.containers.start(container.id)
    await gone
    await rig.engine._workers.idle()
    assert [volume.name for volume in rig.engine.volumes.list({})] == ["box"]


@engine_test
async def test_networks_of_a_container(rig: Rig) -> None:
    """The mode's network first; the default route and the ports at the first one by name."""
    await rig.engine.networks.create("lan")
    host = HostOptions(network_mode="lan", ports=(PortRequest(80),), publish_all=True)
    container = await rig.run(
        "web",
        host=host,
        config=ContainerConfig(exposed_ports=("80/tcp", "53/udp")),
        networks={"bridge": EndpointOptions(), "lan": EndpointOptions(address="172.19.0.9")},
    )
    assert list(container.networks) == ["lan", "bridge"]
    joinings = rig.engine._supervisor.endpoints.joinings(container)
    first, second = (joining.request for joining in joinings)
    assert (first.address, first.ports, first.default_route) == ("172.19.0.9", (), False)
    assert second.ports == (PortRequest(80), PortRequest(53, "udp"))
    assert second.default_route
    networks = {**container.networks, "lan": EndpointOptions(gw_priority=1)}
    joinings = rig.engine._supervisor.endpoints.joinings(
        replace(container, networks=networks, endpoints={})
    )
    assert [joining.request.default_route for joining in joinings] == [True, False]
    assert [len(joining.request.ports) for joining in joinings] == [2, 0]
    assert container.endpoints["lan"].address == "172.19.0.9"
    with pytest.raises(InvalidRequest, match="cannot be connected to network endpoints"):
        await rig.create(networks={"host": EndpointOptions()})
    with pytest.raises(InvalidRequest, match="publishing and the container type network mode"):
        await rig.create(host=replace(host, network_mode="container:web"))


@engine_test
async def test_host_networking_discards_ports(rig: Rig) -> None:
    """With a warning, as Docker does."""
    host = HostOptions(network_mode="host", ports=(PortRequest(80),))
    options = CreateOptions(ContainerConfig(image="small"), host)
    result = await rig.engine.containers.create(options)
    assert result.warnings == ("Published ports are discarded when using host network mode",)
    await rig.engine.containers.start(result.container.id)


@engine_test
async def test_no_oom_killer_and_no_limit(rig: Rig) -> None:
    """A container that could take all of the host's memory is made with a warning."""
    for limits, warned in (
        (Limits(oom_kill_disable=True), 1),
        (Limits(oom_kill_disable=True, memory=64 << 20), 0),
    ):
        options = CreateOptions(ContainerConfig(image="small"), HostOptions(limits=limits))
        result = await rig.engine.containers.create(options)
        assert len(result.warnings) == warned
        assert all("OOM killer is disabled" in text for text in result.warnings)


@engine_test
async def test_references_to_containers_are_kept_as_ids(rig: Rig) -> None:
    """A renamed container is still the one whose namespaces are joined."""
    donor = await rig.run("donor", host=HostOptions(ipc_mode="shareable"))
    mode = "container:donor"
    host = HostOptions(network_mode=mode, pid_mode=mode, ipc_mode=mode)
    container = await rig.create("web", host=host)
    wanted = f"container:{donor.id}"
    found = container.host
    assert (found.network_mode, found.pid_mode, found.ipc_mode) == (wanted, wanted, wanted)
    assert container.networks == {}
    await rig.engine.containers.stop("donor")
    with pytest.raises(Conflict, match="non running container"):
        await rig.engine.containers.start("web")


def test_a_user_namespace_excludes_what_it_cannot_have(tmp_path: Path) -> None:
    """With ids remapped, privileged and host modes need --userns host."""
    maps = (IdMapping(0, 100000, 65536),)

    async def main() -> None:
        rig = Rig(tmp_path, IdMap(maps, maps))
        async with rig.running():
            assert (await rig.create()).idmap == IdMap(maps, maps)
            for host in (
                HostOptions(privileged=True),
                HostOptions(network_mode="host"),
                HostOptions(pid_mode="host"),
            ):
                with pytest.raises(InvalidRequest, match="namespace"):
                    await rig.create(host=host)
                plain = await rig.create(host=replace(host, userns_mode="host"))
                assert plain.idmap is None

    import asyncio  # noqa: PLC0415 - the only use

    asyncio.run(main())
