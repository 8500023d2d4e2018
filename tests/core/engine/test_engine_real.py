# ruff: noqa: ASYNC240 - looking at a file for a moment holds nothing up in a test
"""The engine with the built-in drivers: real namespaces, mounts and control groups."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.base import IdMap, IdMapping
from pannier.drivers.network import PortRequest
from pannier.drivers.resources import Limits
from pannier.drivers.runtime import Connection
from pannier.engine.model import (
    ContainerConfig,
    CreateOptions,
    HostOptions,
    MountKind,
    MountSpec,
    RestartPolicy,
    Status,
    Ulimit,
)
from pannier.engine.sessions import AttachOptions, ExecConfig, LogOptions
from pannier.errors import Conflict, InvalidRequest, NotFound, PannierError, StartFailed
from support.engine_rig import chunks, eventually
from support.images import busybox_archive
from support.isolation import Place, fresh_place, in_new_network

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from pannier.engine.engine import Engine

pytestmark = pytest.mark.root


@pytest.fixture
def place() -> Iterator[Place]:
    """Give folders and control groups of the test's own."""
    with fresh_place() as found:
        yield found


@contextlib.asynccontextmanager
async def _engine(place: Place) -> AsyncIterator[Engine]:
    async with place.engine() as engine:
        if engine.images.id_of("busybox") is None:
            async for _ in engine.images.load(chunks(busybox_archive())):
                pass
        yield engine


async def _clear(engine: Engine) -> None:
    for live in list(engine._registry):
        with contextlib.suppress(PannierError):
            await engine.containers.remove(live.container.id, force=True, volumes=True)


def _run(place: Place, test: Callable[[Engine], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(90), _engine(place) as engine:
            try:
                await test(engine)
            finally:
                await _clear(engine)

    in_new_network(main)


def _options(
    *cmd: str, name: str = "", host: HostOptions | None = None, **config: Any
) -> CreateOptions:
    made = replace(ContainerConfig(image="busybox", cmd=cmd), **config)
    return CreateOptions(made, host or HostOptions(network_mode="none"), name=name)


async def _output(
    engine: Engine, *cmd: str, host: HostOptions | None = None, **config: Any
) -> tuple[int, str]:
    """Run a container to its end; return its exit code and all of its output."""
    container = (await engine.containers.create(_options(*cmd, host=host, **config))).container
    ended = engine.containers.wait(container.id, "next-exit")
    await engine.containers.start(container.id)
    code = (await ended).exit_code
    lines = [line.data async for line in engine.containers.logs(container.id, LogOptions())]
    await engine.containers.remove(container.id, volumes=True)
    return code, b"".join(lines).decode()


async def _started(engine: Engine, *cmd: str, **more: Any) -> str:
    result = await engine.containers.create(_options(*cmd, **more))
    await engine.containers.start(result.container.id)
    return result.container.id


def test_what_a_container_prints_and_how_it_ends(place: Place) -> None:
    """Both streams are logged, and the exit status is the process's."""

    async def test(engine: Engine) -> None:
        code, output = await _output(engine, "sh", "-c", "echo out; echo err >&2; exit 3")
        assert code == 3
        assert sorted(output.split()) == ["err", "out"]
        code, _ = await _output(engine, "sh", "-c", "sh -c 'kill -9 $$'; exit $?")
        assert code == 137

    _run(place, test)


def test_nothing_is_left_of_a_container(place: Place) -> None:
    """Folders, groups, processes and mounts are gone when the removal returns."""

    async def test(engine: Engine) -> None:
        await _output(engine, "true", host=HostOptions())
        await engine._workers.idle()
        assert list((place.folder / "root/containers").iterdir()) == []
        assert list(engine.drivers.storage.containers()) == []
        assert list(engine.drivers.resources.groups()) == []
        assert list(engine.drivers.runtimes["native"].containers()) == []
        # Others may mount things meanwhile, but nothing of ours is there.
        assert str(place.folder) not in Path("/proc/self/mountinfo").read_text()

    _run(place, test)


def test_who_the_process_is(place: Place) -> None:
    """Users are looked up in the image's own files; HOME and groups follow."""

    async def test(engine: Engine) -> None:
        command = ("sh", "-c", "id; echo $HOME; pwd; hostname")
        code, output = await _output(
            engine, *command, user="operator", working_dir="/srv/app", hostname="box"
        )
        assert output.split("\n")[:4] == [
            "uid=37(operator) gid=37(operator) groups=37(operator),100(users)",
            "/var",
            "/srv/app",
            "box",
        ]
        assert code == 0
        _, output = await _output(engine, "id", user="1234:100")
        assert output == "uid=1234 gid=100(users) groups=100(users)\n"
        with pytest.raises(NotFound, match="unable to find user nope: no matching entries"):
            await _output(engine, "id", user="nope")

    _run(place, test)


def test_what_cannot_be_executed(place: Place) -> None:
    """The error names the program, and the state has a shell's code."""

    async def test(engine: Engine) -> None:
        result = await engine.containers.create(_options("/no/such"))
        with pytest.raises(StartFailed):
            await engine.containers.start(result.container.id)
        state = engine.containers.get(result.container.id).state
        assert (state.exit_code, state.status) == (127, Status.CREATED)
        result = await engine.containers.create(_options("/etc/passwd"))
        with pytest.raises(StartFailed):
            await engine.containers.start(result.container.id)
        assert engine.containers.get(result.container.id).state.exit_code == 126
        assert list(engine.drivers.resources.groups()) == []

    _run(place, test)


def test_networks(place: Place) -> None:
    """Two containers on the bridge reach each other; one joins the other's namespace."""

    async def test(engine: Engine) -> None:
        server = await _started(
            engine,
            "sh",
            "-c",
            "echo hello > /tmp/index.html; httpd -f -p 80 -h /tmp",
            host=HostOptions(ports=(PortRequest(80),)),
        )
        address = engine.containers.get(server).endpoints["bridge"].address
        fetch = ("wget", "-q", "-O", "-", f"http://{address}/")
        code, output = await _output(engine, *fetch, host=HostOptions())
        assert (code, output) == (0, "hello\n")
        joined = HostOptions(network_mode=f"container:{server[:12]}")
        _, output = await _output(engine, "sh", "-c", "hostname; ip -o -4 addr", host=joined)
        assert output.startswith(server[:12])
        assert f"{address}/16" in output
        _, output = await _output(engine, "cat", "/etc/hosts", host=joined)
        assert f"{address}\t{server[:12]}" in output
        # The last one's network goes, and with it its published port.
        await engine.containers.stop(server, timeout=0)
        with pytest.raises(Conflict, match="non running container"):
            await _output(engine, "true", host=joined)

    _run(place, test)


def test_a_users_network_can_be_joined_and_left(place: Place) -> None:
    """Connecting and disconnecting work on a running container."""

    async def test(engine: Engine) -> None:
        from pannier.engine.model import EndpointOptions  # noqa: PLC0415

        await engine.networks.create("lan")
        id = await _started(engine, "sleep", "60", host=HostOptions())
        await engine.networks.connect("lan", id, EndpointOptions())
        container = engine.containers.get(id)
        assert container.endpoints["lan"].interface == "eth1"
        assert container.endpoints["lan"].address != container.endpoints["bridge"].address
        assert [item.id for item in engine.networks.containers_of(engine.networks.get("lan"))] == [
            id
        ]
        hosts = (place.folder / "root/containers" / id / "hosts").read_text()
        assert container.endpoints["lan"].address in hosts
        await engine.networks.disconnect("lan", id)
        assert "lan" not in engine.containers.get(id).endpoints
        await engine.networks.remove("lan")

    _run(place, test)


def test_volumes(place: Place) -> None:
    """A new volume is filled from the image and outlives its container; binds and tmpfs work."""

    async def test(engine: Engine) -> None:
        source = place.folder / "bound"
        mounts = (
            MountSpec(MountKind.VOLUME, "/etc", "etc"),
            MountSpec(MountKind.BIND, "/bound", str(source), create_source=True),
            MountSpec(MountKind.TMPFS, "/scratch", tmpfs_size=1 << 20),
        )
        host = HostOptions(network_mode="none", mounts=mounts)
        script = "ls /etc/passwd; echo x > /etc/new; echo y > /bound/file; stat -f -c %T /scratch"
        _, output = await _output(engine, "sh", "-c", script, host=host)
        assert output == "/etc/passwd\ntmpfs\n"
        assert (source / "file").read_text() == "y\n"
        volume = engine.volumes.get("etc")
        assert (Path(volume.path) / "new").read_text() == "x\n"
        read_only = replace(host, mounts=(replace(mounts[0], read_only=True),))
        code, output = await _output(engine, "sh", "-c", "touch /etc/other", host=read_only)
        assert code == 1
        assert "Read-only file system" in output
        sub = replace(mounts[0], destination="/sub", subpath="passwd", source="etc")
        _, output = await _output(engine, "head", "-n1", "/sub", host=replace(host, mounts=(sub,)))
        assert output.startswith("root:")

    _run(place, test)


def test_a_subpath_cannot_lead_out_of_its_volume(place: Place) -> None:
    """A link that a container put into the volume is not followed out of it."""

    async def test(engine: Engine) -> None:
        whole = MountSpec(MountKind.VOLUME, "/data", "box")
        host = HostOptions(network_mode="none", mounts=(whole,))
        await _output(engine, "ln", "-s", "/etc", "/data/out", host=host)
        hostile = replace(host, mounts=(replace(whole, subpath="out"),))
        with pytest.raises(NotFound, match="cannot access path out"):
            await _output(engine, "ls", "/data", host=hostile)

    _run(place, test)


def test_limits_bite(place: Place) -> None:
    """Memory beyond its limit is a kill that the state tells of; ulimits are set."""

    async def test(engine: Engine) -> None:
        host = HostOptions(network_mode="none", limits=Limits(memory=16 << 20))
        container = (
            await engine.containers.create(
                _options("sh", "-c", "tail -c 100000000 /dev/zero", host=host)
            )
        ).container
        ended = engine.containers.wait(container.id, "next-exit")
        await engine.containers.start(container.id)
        await ended
        state = engine.containers.get(container.id).state
        assert state.oom_killed
        assert state.exit_code == 137
        for soft, hard in ((100, 200), (8, 8)):
            limited = HostOptions(network_mode="none", ulimits=(Ulimit("nofile", soft, hard),))
            _, output = await _output(engine, "sh", "-c", "ulimit -n; ulimit -Hn", host=limited)
            assert output == f"{soft}\n{hard}\n"

    _run(place, test)


def test_exec(place: Place) -> None:
    """A further process has the container's surroundings; its status is known when it ends."""

    async def test(engine: Engine) -> None:
        id = await _started(engine, "sleep", "60", env=("WHO=me",))
        ours, theirs = socket.socketpair()
        config = ExecConfig(
            ("sh", "-c", "echo $WHO $MORE; id -u; exit 4"),
            env=("MORE=too",),
            user="nobody",
            attach_stdout=True,
            attach_stderr=True,
        )
        exec_id = await engine.execs.create(id, config)
        with ours:
            connection = Connection(theirs.fileno(), stdout=True, stderr=True)
            await engine.execs.start(exec_id, connection=connection)
            theirs.close()
            output = await asyncio.to_thread(_read_all, ours)
        assert output == [(1, b"me too\n65534\n")]
        # Who has seen the end of the streams is told the status.
        assert engine.execs.get(exec_id).exit_code == 4
        with pytest.raises(Conflict, match="has already run"):
            await engine.execs.start(exec_id, detach=True)
        failing = await engine.execs.create(id, ExecConfig(("/no/such",)))
        with pytest.raises(StartFailed):
            await engine.execs.start(failing, detach=True)
        assert engine.execs.get(failing).exit_code == 127
        assert engine.execs.ids_of(engine.containers.get(id)) == []

    _run(place, test)


def _read_all(client: socket.socket) -> list[tuple[int, bytes]]:
    client.settimeout(60)
    data = b""
    while chunk := client.recv(65536):
        data += chunk
    frames: list[tuple[int, bytes]] = []
    while data:
        stream, length = data[0], int.from_bytes(data[4:8], "big")
        if frames and frames[-1][0] == stream:
            frames[-1] = (stream, frames[-1][1] + data[8 : 8 + length])
        else:
            frames.append((stream, data[8 : 8 + length]))
        data = data[8 + length :]
    return frames


def test_attach_before_and_after_the_start(place: Place) -> None:
    """Whoever attaches before the start misses nothing; input reaches the process."""

    async def test(engine: Engine) -> None:
        options = _options("sh", "-c", "read line; echo got $line", open_stdin=True)
        container = (await engine.containers.create(options)).container
        ours, theirs = socket.socketpair()
        attach = AttachOptions(stream=True, stdin=True, stdout=True, stderr=True)
        await engine.containers.attach(container.id, attach, theirs.fileno(), b"mo")
        theirs.close()
        await engine.containers.start(container.id)
        with ours:
            ours.sendall(b"re\n")
            assert await asyncio.to_thread(_read_all, ours) == [(1, b"got more\n")]
        # A later client gets what was logged, and the end.
        ours, theirs = socket.socketpair()
        replay = AttachOptions(logs=True, stdout=True)
        await engine.containers.attach(container.id, replay, theirs.fileno())
        with ours, theirs:
            assert await asyncio.to_thread(_read_all, ours) == [(1, b"got more\n")]

    _run(place, test)


def test_logs_are_followed_to_the_end(place: Place) -> None:
    """New lines come as they are written; the iteration ends with the container."""

    async def test(engine: Engine) -> None:
        script = "for i in 1 2 3; do echo line $i; sleep 0.05; done; printf rest"
        id = await _started(engine, "sh", "-c", script)
        follow = LogOptions(follow=True)
        lines = [line.data async for line in engine.containers.logs(id, follow)]
        assert lines == [b"line 1\n", b"line 2\n", b"line 3\n", b"rest"]
        tail = LogOptions(tail=2)
        assert [line.data async for line in engine.containers.logs(id, tail)] == [
            b"line 3\n",
            b"rest",
        ]

    _run(place, test)


def _archive(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.uid = info.gid = 5
            info.mode = 0o640
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("running", [True, False])
def test_copies(place: Place, running: bool) -> None:
    """Files go in and out of running and stopped containers, volumes included."""

    async def test(engine: Engine) -> None:
        mounts = (MountSpec(MountKind.VOLUME, "/data", "box"),)
        host = HostOptions(network_mode="none", mounts=mounts)
        script = "echo inside > /data/file; ln -s /etc /tmp/link; echo; exec sleep 60"
        id = await _started(engine, "sh", "-c", script, host=host)
        lines = engine.containers.logs(id, LogOptions(follow=True))
        await anext(lines)
        await lines.aclose()  # type: ignore[attr-defined]  # it is a generator
        if not running:
            await engine.containers.stop(id, timeout=0)
        stat, content = await engine.containers.archive_get(id, "/data/file")
        assert (stat.name, stat.size) == ("file", 7)
        assert _members(b"".join([chunk async for chunk in content])) == {"file": b"inside\n"}
        await engine.containers.archive_put(id, "/data", chunks(_archive(new=b"from outside")))
        volume = Path(engine.volumes.get("box").path)
        found = (volume / "new").stat()
        assert (volume / "new").read_text() == "from outside"
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (5, 5, 0o640)
        link = await engine.containers.archive_stat(id, "/tmp/link")
        assert link.mode & (1 << 27)
        assert link.link_target == "/etc"
        with pytest.raises(NotFound, match="Could not find the file /none"):
            await engine.containers.archive_stat(id, "/none")
        with pytest.raises(InvalidRequest, match="not a directory"):
            await engine.containers.archive_put(id, "/etc/passwd", chunks(_archive(x=b"")))
        with pytest.raises(NotFound, match="the file /no/where in container"):
            await engine.containers.archive_put(id, "/no/where", chunks(_archive(x=b"")))

    _run(place, test)


def test_copying_to_a_volume_before_the_first_start(place: Place) -> None:
    """Its place in the image is made when it is needed, and what is copied is in the volume."""

    async def test(engine: Engine) -> None:
        mounts = (MountSpec(MountKind.VOLUME, "/not/there/yet", source="box"),)
        host = HostOptions(network_mode="none", mounts=mounts)
        created = await engine.containers.create(_options("cat", "/not/there/yet/new", host=host))
        id = created.container.id
        await engine.containers.archive_put(
            id, "/not/there/yet", chunks(_archive(new=b"from outside"))
        )
        volume = Path(engine.volumes.get("box").path)
        assert (volume / "new").read_text() == "from outside"
        ended = engine.containers.wait(id, "next-exit")
        await engine.containers.start(id)
        assert (await ended).exit_code == 0

    _run(place, test)


def test_attaching_without_frames(place: Place) -> None:
    """Neither what is replayed nor what comes has any, for who asked for none."""

    async def test(engine: Engine) -> None:
        script = "echo before; cat; echo after"
        config = {"open_stdin": True, "stdin_once": True}
        id = await _started(
            engine, "sh", "-c", script, host=HostOptions(network_mode="none"), **config
        )
        lines = engine.containers.logs(id, LogOptions(follow=True))
        await anext(lines)
        await lines.aclose()  # type: ignore[attr-defined]  # it is a generator
        ours, theirs = socket.socketpair()
        with ours:
            options = AttachOptions(logs=True, stream=True, raw=True, stdin=True, stdout=True)
            await engine.containers.attach(id, options, theirs.fileno())
            theirs.close()
            ours.shutdown(socket.SHUT_WR)
            output = await asyncio.to_thread(lambda: b"".join(iter(lambda: ours.recv(100), b"")))
        assert output == b"before\nafter\n"

    _run(place, test)


def test_attaching_with_logs_just_before_the_first_start(place: Place) -> None:
    """Nothing of what comes is missed, however soon it comes and ends."""

    async def test(engine: Engine) -> None:
        options = _options("echo", "hello", host=HostOptions(network_mode="none"))
        id = (await engine.containers.create(options)).container.id
        ours, theirs = socket.socketpair()
        with ours:
            wanted = AttachOptions(logs=True, stream=True, raw=True, stdout=True)
            attaching = asyncio.ensure_future(engine.containers.attach(id, wanted, theirs.fileno()))
            await asyncio.sleep(0)  # as when the start is the next request of the same client
            await engine.containers.start(id)
            await attaching
            theirs.close()
            ours.settimeout(60)
            assert await asyncio.to_thread(ours.recv, 100) == b"hello\n"

    _run(place, test)


def test_a_replayed_log_waits_for_the_head_to_be_read(place: Place) -> None:
    """Clients lose what comes together with the head; who never reads it gets the log anyway."""

    async def test(engine: Engine) -> None:
        id = await _started(engine, "echo", "hello", host=HostOptions(network_mode="none"))
        await engine.containers.wait(id, "not-running")
        for reads in (True, False):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.send(b"head")
                options = AttachOptions(logs=True, stdout=True)
                attaching = asyncio.ensure_future(
                    engine.containers.attach(id, options, theirs.fileno())
                )
                await asyncio.sleep(0.05)  # a client that is slow to read
                if reads:
                    assert ours.recv(1000) == b"head"
                await attaching
                rest = ours.recv(1000)
                assert rest == (b"" if reads else b"head") + b"\x01\0\0\0\0\0\0\x06hello\n"

    _run(place, test)


def _members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            found[member.name] = b"" if file is None else file.read()
        return found


def test_a_copy_stays_inside(place: Place) -> None:
    """Links in a container, absolute or climbing, lead nowhere outside its root."""

    async def test(engine: Engine) -> None:
        script = "ln -s / /tmp/abs; ln -s ../../../../../../.. /tmp/up; ln -s /evil /tmp/gone"
        container = (await engine.containers.create(_options("sh", "-c", script))).container
        ended = engine.containers.wait(container.id, "next-exit")
        await engine.containers.start(container.id)
        await ended
        marker = place.folder / "marker"
        marker.write_text("outside")
        for link in ("abs", "up"):
            path = f"/tmp/{link}{marker}"
            with pytest.raises(NotFound):
                await engine.containers.archive_stat(container.id, path)
            await engine.containers.archive_put(
                container.id, f"/tmp/{link}", chunks(_archive(**{f"put-{link}": b"x"}))
            )
            assert not Path(f"/put-{link}").exists()
            await engine.containers.archive_stat(container.id, f"/put-{link}")

    _run(place, test)


def test_export_and_commit(place: Place) -> None:
    """An export has the root's files and nothing of what is mounted; a commit makes an image."""

    async def test(engine: Engine) -> None:
        id = await _started(engine, "sh", "-c", "echo new > /new; exec sleep 60")
        await eventually(
            lambda: Path(f"/proc/{engine.containers.get(id).state.pid}/root/new").exists()
        )
        names = _members(b"".join([chunk async for chunk in await engine.containers.export(id)]))
        assert names["new"] == b"new\n"
        assert "bin/busybox" in names
        assert not any(name.startswith(("proc/", "sys/")) for name in names)
        changed = {change.path for change in await engine.containers.changes(id)}
        assert "/new" in changed
        image = await engine.containers.commit(
            id, repository="made", tag="1", changes=('CMD ["cat", "/new"]',)
        )
        code, output = await _output(engine, image="made:1")
        assert (code, output) == (0, "new\n")
        assert engine.images.id_of("made:1") == image

    _run(place, test)


def test_top_and_statistics(place: Place) -> None:
    """The host's /proc and the control group say what runs, and what it uses."""

    async def test(engine: Engine) -> None:
        id = await _started(engine, "sleep", "60", host=HostOptions())
        top = await engine.containers.top(id, "-o pid,comm,args")
        assert top.titles == ("PID", "COMMAND", "COMMAND")
        assert [row[1:] for row in top.processes] == [("sleep", "sleep 60")]
        statistics = await engine.containers.statistics(id)
        assert statistics.usage.memory > 0
        assert "eth0" in statistics.networks
        assert statistics.system_cpu_ns > 0

    _run(place, test)


def test_pause_really_stops(place: Place) -> None:
    """A paused container's processes do not go on until it is unpaused."""

    async def test(engine: Engine) -> None:
        id = await _started(engine, "sh", "-c", "while :; do echo tick; sleep 0.01; done")
        await engine.containers.pause(id)
        # What was written before the pause may still be on its way to the log, for a while.
        counts = [-2, -1]
        while counts[-1] != counts[-2] and len(counts) < 100:
            await asyncio.sleep(0.1)
            lines = [line async for line in engine.containers.logs(id, LogOptions())]
            counts.append(len(lines))
        assert counts[-1] == counts[-2]
        with pytest.raises(Conflict, match="is paused, unpause the container before exec"):
            await engine.execs.create(id, ExecConfig(("true",)))
        await engine.containers.unpause(id)
        follow = engine.containers.logs(id, LogOptions(follow=True, tail=0))
        assert (await anext(follow)).data == b"tick\n"
        await follow.aclose()  # type: ignore[attr-defined]  # it is a generator
        await engine.containers.pause(id)
        await engine.containers.stop(id, timeout=5)

    _run(place, test)


def test_namespaces_of_other_containers(place: Place) -> None:
    """Process ids, IPC objects and /dev/shm can be shared with a container that allows it."""

    async def test(engine: Engine) -> None:
        shared = HostOptions(network_mode="none", ipc_mode="shareable")
        donor = await _started(engine, "sh", "-c", "echo x > /dev/shm/file; sleep 60", host=shared)
        await eventually((place.folder / "state/shm" / donor / "file").exists)
        joined = HostOptions(
            network_mode="none", ipc_mode=f"container:{donor}", pid_mode=f"container:{donor}"
        )
        _, output = await _output(engine, "sh", "-c", "cat /dev/shm/file; ps -o args", host=joined)
        assert output.startswith("x\n")
        assert "sleep 60" in output
        private = await _started(engine, "sleep", "60")
        refused = HostOptions(network_mode="none", ipc_mode=f"container:{private}")
        with pytest.raises(Conflict, match="non-shareable IPC"):
            await _output(engine, "true", host=refused)
        await engine.containers.remove(donor, force=True)
        assert not (place.folder / "state/shm" / donor).exists()

    _run(place, test)


def test_privileged_and_host_namespaces(place: Place) -> None:
    """A privileged container has what the engine has; host modes share what they name."""

    async def test(engine: Engine) -> None:
        host = HostOptions(network_mode="host", privileged=True, pid_mode="host", uts_mode="host")
        _, output = await _output(
            engine, "sh", "-c", "grep -E 'CapEff|Seccomp:' /proc/self/status; hostname", host=host
        )
        lines = output.split("\n")
        assert int(lines[0].split()[1], 16) & 1 << 21  # CAP_SYS_ADMIN
        assert lines[1].split()[1] == "0"
        assert lines[2] == socket.gethostname()
        _, output = await _output(engine, "grep", "-E", "CapEff|Seccomp:", "/proc/self/status")
        assert output.split()[1] == "00000000a80425fb"
        assert output.split()[3] == "2"

    _run(place, test)


def test_a_user_namespace(place: Place) -> None:
    """Root inside is nobody in particular outside, and still owns its files and volumes."""
    maps = (IdMapping(0, 100000, 65536),)
    place.idmap = IdMap(maps, maps)

    async def test(engine: Engine) -> None:
        mounts = (MountSpec(MountKind.VOLUME, "/data", "box"),)
        host = HostOptions(mounts=mounts)
        script = "id -u; stat -c %u /bin /data; echo x > /data/file; cat /proc/self/uid_map"
        code, output = await _output(engine, "sh", "-c", script, host=host)
        assert code == 0
        assert output.split()[:3] == ["0", "0", "0"]
        assert output.split()[3:] == ["0", "100000", "65536"]
        assert (Path(engine.volumes.get("box").path) / "file").stat().st_uid == 100000
        id = await _started(engine, "sleep", "60", host=host)
        await engine.containers.archive_put(id, "/tmp", chunks(_archive(new=b"y")))
        _, content = await engine.containers.archive_get(id, "/tmp/new")
        data = b"".join([chunk async for chunk in content])
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert archive.getmember("new").uid == 5
        with pytest.raises(InvalidRequest, match="incompatible with user namespaces"):
            await _output(engine, "true", host=HostOptions(privileged=True))
        _, output = await _output(
            engine, "cat", "/proc/self/uid_map", host=HostOptions(userns_mode="host")
        )
        assert output.split() == ["0", "0", "4294967295"]

    _run(place, test)


def test_containers_outlive_the_engine(place: Place) -> None:
    """A second engine finds them running, their logs whole, and their ends as they were."""

    async def main() -> None:
        async with asyncio.timeout(90):
            async with _engine(place) as engine:
                script = "echo one; read x; echo two"
                lasting = await _started(
                    engine, "sh", "-c", script, open_stdin=True, name="lasting", host=HostOptions()
                )
                ending = await _started(
                    engine, "sh", "-c", "read x; exit 6", open_stdin=True, name="ending"
                )
                address = engine.containers.get(lasting).endpoints["bridge"].address
                pid = engine.containers.get(ending).state.pid
            os.kill(pid, signal.SIGKILL)
            async with _engine(place) as engine:
                try:
                    await eventually(
                        lambda: engine.containers.get("ending").state.status is Status.EXITED
                    )
                    assert engine.containers.get(ending).state.exit_code == 137
                    container = engine.containers.get("lasting")
                    assert container.state.status is Status.RUNNING
                    assert container.endpoints["bridge"].address == address
                    ours, theirs = socket.socketpair()
                    attach = AttachOptions(stream=True, stdin=True, stdout=True)
                    await engine.containers.attach("lasting", attach, theirs.fileno())
                    theirs.close()
                    ended = engine.containers.wait("lasting", "next-exit")
                    with ours:
                        ours.sendall(b"go\n")
                        assert await asyncio.to_thread(_read_all, ours) == [(1, b"two\n")]
                    assert (await ended).exit_code == 0
                    lines = engine.containers.logs("lasting", LogOptions())
                    assert [line.data async for line in lines] == [b"one\n", b"two\n"]
                finally:
                    await _clear(engine)

    in_new_network(main)


def test_a_restart_policy_with_real_processes(place: Place) -> None:
    """A container that fails is started until its tries are used up."""

    async def test(engine: Engine) -> None:
        host = HostOptions(network_mode="none", restart=RestartPolicy("on-failure", 2))
        id = await _started(engine, "sh", "-c", "echo try; exit 1", host=host)
        await eventually(lambda: engine.containers.get(id).state.status is Status.EXITED)
        assert engine.containers.get(id).state.restart_count == 2
        lines = [line.data async for line in engine.containers.logs(id, LogOptions())]
        assert lines == [b"try\n"] * 3

    _run(place, test)


def test_many_at_once(place: Place) -> None:
    """Thirty containers of all networks live at once, and nothing is left of them."""

    async def test(engine: Engine) -> None:
        modes = ["bridge", "none", "host"] * 10
        results = await asyncio.gather(
            *(
                _output(engine, "sh", "-c", f"exit {number}", host=HostOptions(network_mode=mode))
                for number, mode in enumerate(modes)
            )
        )
        assert [code for code, _ in results] == list(range(30))
        assert list(engine.drivers.resources.groups()) == []
        assert list(engine.drivers.storage.containers()) == []

    _run(place, test)
