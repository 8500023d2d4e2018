"""An engine that runs nothing: it keeps values in memory and answers as the real one does.

The server's tests run against it. Its containers are "run" by the test: output, exit and input are
given and taken through :class:`FakeShim`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from pannier.drivers.network import Endpoint, PortBinding, Subnet
from pannier.drivers.operations import Step, Timing
from pannier.drivers.resources import BlockUsage, ResourceUsage
from pannier.drivers.storage import Change, ChangeKind
from pannier.engine.events import Events
from pannier.engine.model import (
    Container,
    ContainerState,
    EndpointOptions,
    MountPoint,
    Network,
    Status,
    Volume,
)
from pannier.engine.results import (
    ContainerUsage,
    CreateResult,
    DiskUsage,
    Event,
    InterfaceCounters,
    LogLine,
    NetworkPruneResult,
    PathStat,
    PlannedStep,
    PruneResult,
    Statistics,
    SystemInfo,
    TopResult,
    VolumeUsage,
    WaitResult,
)
from pannier.engine.sessions import ExecSession
from pannier.errors import Conflict, Forbidden, InvalidRequest, NotFound, NotModified, StartFailed
from pannier.images.config import HistoryEntry, RunConfig, make_config
from pannier.images.load import LoadedImage
from pannier.images.model import (
    DeletedImage,
    HistoryItem,
    Image,
    ImageSize,
    Layer,
    PruneReport,
    UntaggedImage,
)
from pannier.images.model import DiskUsage as ImageDiskUsage
from pannier.images.oci import OCI_CONFIG, OCI_LAYER, Descriptor, Platform
from support.fake_transfers import FakeTransfers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from pannier.drivers.resources import Limits
    from pannier.drivers.runtime import Connection
    from pannier.engine.engine import Engine
    from pannier.engine.model import CreateOptions, LogConfig, RestartPolicy
    from pannier.engine.results import ContainerQuery
    from pannier.engine.sessions import AttachOptions, ExecConfig, LogOptions
    from pannier.images.filters import ImageFilters
    from pannier.images.importing import ImportRequest

__all__ = ["FakeEngine", "FakeShim", "as_engine", "busybox"]

_NOW = 1_795_000_000_123_456_789


def _hex(seed: str) -> str:
    return hashlib.sha256(seed.encode()).hexdigest()


def busybox(name: str = "busybox:latest") -> Image:
    """Return an image of one layer."""
    diff_id = f"sha256:{_hex('layer')}"
    config = make_config(
        RunConfig(env=("PATH=/bin",), cmd=("sh",), labels={"maker": "test"}),
        platform=Platform("linux", "amd64"),
        created="2024-05-18T10:20:30.123456789Z",
        diff_ids=[diff_id],
        history=[HistoryEntry("2024-05-18T10:20:30Z", "ADD layer", comment="made")],
    )
    blob = Descriptor(OCI_LAYER, diff_id, 1000)
    return Image(
        id=config.id,
        manifest=Descriptor(OCI_CONFIG, f"sha256:{_hex('manifest')}", 300),
        config=config,
        layers=(Layer(diff_id, diff_id, blob, 2_000_000),),
        tags=(name,),
        digests=(),
    )


def _completed(log: LogConfig) -> LogConfig:
    return replace(log, driver=log.driver or "json-file")


class FakeShim:
    """The other end of a process's streams: what a runtime's monitor would be."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []
        self.pending: list[bytes] = []
        self.attached = asyncio.Event()

    def add(self, descriptor: int, pending: bytes) -> None:
        """Duplicate a client's socket, as the contract says."""
        connection = socket.socket(fileno=os.dup(descriptor))
        connection.setblocking(False)
        self.connections.append(connection)
        self.pending.append(pending)
        self.attached.set()

    def close(self) -> None:
        """Close every client's connection."""
        for connection in self.connections:
            connection.close()
        self.connections.clear()


class FakeContainers:
    """Keeps containers in memory."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.known: dict[str, Container] = {}
        self.shims: dict[str, FakeShim] = {}
        self.calls: list[Any] = []
        self.lines: list[LogLine] = [
            LogLine(_NOW, 1, b"hello\n"),
            LogLine(_NOW + 1, 2, b"oops\n"),
        ]
        self.linked: dict[str, tuple[str, ...]] = {}
        self.start_error: Exception | None = None
        self.archive = b""
        self.uploads: list[bytes] = []
        self.export_chunks = [b"tar" * 10]
        self.gate: asyncio.Event | None = None
        self._waits: dict[str, list[asyncio.Future[WaitResult]]] = {}
        self._ids = itertools.count(1)
        self.closed_streams = 0
        self.script: tuple[bytes, int] | None = None
        """What a started container writes to its clients, and the status that it ends with."""

    def _store(self, container: Container) -> Container:
        self.known[container.id] = container
        return container

    async def _pass_gate(self) -> None:
        if self.gate is not None:
            await self.gate.wait()

    async def create(self, options: CreateOptions) -> CreateResult:
        await asyncio.sleep(0)
        if not options.rootfs and options.config.image not in {"busybox", "busybox:latest"}:
            image = options.config.image
            name = image if ":" in image else f"{image}:latest"
            raise NotFound(f"No such image: {name}", hint="load it")
        number = next(self._ids)
        name = options.name or f"eager_test{number}"
        for other in self.known.values():
            if other.name == name:
                raise Conflict(
                    f'Conflict. The container name "/{name}" is already in use by container '
                    f'"{other.id}". You have to remove (or rename) that container to be able to '
                    "reuse that name."
                )
        id = _hex(f"container {number}")
        config = options.config
        container = Container(
            id=id,
            name=name,
            created=_NOW,
            image_id=busybox().id,
            image_name=config.image,
            parent=None,
            args=(*(config.entrypoint or ()), *(config.cmd or ("sh",))),
            config=replace(
                config,
                hostname=config.hostname or id[:12],
                env=(*config.env, "PATH=/bin"),
                cmd=("sh",) if config.cmd is None else config.cmd,
            ),
            host=replace(options.host, log=_completed(options.host.log)),
            networks=options.networks or {"bridge": EndpointOptions()},
            mounts=tuple(
                MountPoint(spec, name=spec.source, source=f"/v/{spec.source}", driver="local")
                for spec in options.host.mounts
            ),
            rootfs=options.rootfs,
            storage_driver="overlay",
        )
        self._store(container)
        self.shims[id] = FakeShim()
        self._engine.publish("container", "create", id, {"image": config.image, "name": name})
        return CreateResult(container, ("a warning",) if options.host.privileged else ())

    def get(self, ref: str) -> Container:
        if ref in self.known:
            return self.known[ref]
        for container in self.known.values():
            if container.name == ref or container.id.startswith(ref):
                return container
        raise NotFound(f"No such container: {ref}")

    async def settled(self, ref: str) -> Container:
        return self.get(ref)

    async def driver_data(self, container: Container) -> dict[str, str]:
        return self._engine.drivers.storage.driver_data(container.id)

    def linked_names(self) -> dict[str, tuple[str, ...]]:
        return dict(self.linked)

    def links_of(self, container: Container) -> Sequence[str]:
        return container.host.links

    def list(self, query: ContainerQuery) -> Sequence[Container]:
        self.calls.append(("list", query))
        found = [one for one in self.known.values() if query.all or one.state.running]
        names = query.filters.get("name")
        if names:
            found = [one for one in found if any(name in one.name for name in names)]
        labels = query.filters.get("label", ())
        for label in labels:
            key, _, value = label.partition("=")
            found = [one for one in found if one.config.labels.get(key) == value]
        return found[: query.limit or None]

    async def sizes(self, ref: str) -> tuple[int, int]:
        self.get(ref)
        return (123, 456)

    async def start(self, ref: str, *, trace: bool = False) -> None:
        container = self.get(ref)
        await self._pass_gate()
        self.calls.append(("start", container.id, trace))
        if container.state.running:
            raise NotModified(f"Container {container.id} is already running")
        if self.start_error is not None:
            if container.host.auto_remove:
                self.finish(ref, 127)
                del self.known[container.id]
            raise self.start_error
        ports = tuple(
            PortBinding(port.container_port, port.protocol, port.host_ip, port.host_ports[0] or 999)
            for port in container.host.ports
        )
        endpoints = {
            name: Endpoint(
                network=_hex("bridge"),
                interface="eth0",
                address="172.20.0.2",
                prefix=16,
                gateway="172.20.0.1",
                mac="02:42:ac:14:00:02",
                ports=ports,
            )
            for name in container.networks
        }
        state = ContainerState(Status.RUNNING, pid=os.getpid(), started=time.time_ns())
        self._store(replace(container, state=state, endpoints=endpoints))
        if self.script is not None:
            asyncio.get_running_loop().call_soon(self._play, container.id, *self.script)

    def _play(self, id: str, output: bytes, code: int) -> None:
        for connection in self.shims[id].connections:
            connection.sendall(output)
        self.finish(id, code)
        if self.known[id].host.auto_remove:
            del self.known[id]

    def finish(self, ref: str, code: int) -> None:
        """Let a container end."""
        container = self.get(ref)
        state = replace(
            container.state, status=Status.EXITED, pid=0, exit_code=code, finished=time.time_ns()
        )
        self._store(replace(container, state=state, endpoints={}))
        for future in self._waits.pop(container.id, []):
            future.set_result(WaitResult(code))
        self.shims[container.id].close()

    async def stop(
        self,
        ref: str,
        timeout: int | None = None,  # noqa: ASYNC109 - the engine's signature
        signal: str | None = None,
    ) -> None:
        container = self.get(ref)
        self.calls.append(("stop", container.id, timeout, signal))
        if not container.state.running:
            raise NotModified(f"Container {container.id} is not running")
        await self._pass_gate()
        self.finish(ref, 137)

    async def restart(
        self,
        ref: str,
        timeout: int | None = None,  # noqa: ASYNC109 - the engine's signature
        signal: str | None = None,
    ) -> None:
        container = self.get(ref)
        self.calls.append(("restart", container.id, timeout, signal))
        if container.state.running:
            self.finish(ref, 0)
        await self.start(ref)

    def _running(self, ref: str) -> Container:
        container = self.get(ref)
        if not container.state.running:
            raise Conflict(f"Container {container.id} is not running")
        return container

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        self._running(ref)
        self.calls.append(("kill", signal))
        self.finish(ref, 137)

    async def pause(self, ref: str) -> None:
        container = self._running(ref)
        if container.state.status is Status.PAUSED:
            raise Conflict(f"Container {container.id} is already paused")
        self._store(replace(container, state=replace(container.state, status=Status.PAUSED)))

    async def unpause(self, ref: str) -> None:
        container = self.get(ref)
        if container.state.status is not Status.PAUSED:
            raise Conflict(f"Container {container.id} is not paused")
        self._store(replace(container, state=replace(container.state, status=Status.RUNNING)))

    async def rename(self, ref: str, name: str) -> None:
        self._store(replace(self.get(ref), name=name))

    async def update(
        self,
        ref: str,
        limits: Limits,
        restart: RestartPolicy | None = None,
        *,
        by_cpus: bool = False,
    ) -> tuple[str, ...]:
        self.get(ref)
        assert by_cpus == (limits.cpu_quota is not None)
        self.calls.append(("update", limits, restart))
        return ()

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        container = self.get(ref)
        self.calls.append(("remove", container.id, force, volumes))
        if container.state.running:
            if not force:
                raise Conflict(f"You cannot remove a running container {container.id}")
            self.finish(ref, 137)
        await self._pass_gate()
        del self.known[container.id]

    async def remove_link(self, name: str) -> None:
        self.calls.append(("remove_link", name))

    def wait(self, ref: str, condition: str) -> asyncio.Future[WaitResult]:
        container = self.get(ref)
        self.calls.append(("wait", condition))
        future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        if condition == "not-running" and not container.state.running:
            future.set_result(WaitResult(container.state.exit_code, container.state.error))
        else:
            self._waits.setdefault(container.id, []).append(future)
        return future

    async def top(self, ref: str, ps_args: str = "") -> TopResult:
        self._running(ref)
        self.calls.append(("top", ps_args))
        return TopResult(("PID", "CMD"), (("1", "sh"),))

    async def statistics(self, ref: str) -> Statistics:
        container = self.get(ref)
        if not container.state.running:
            return Statistics(time.time_ns(), ResourceUsage())
        usage = ResourceUsage(
            cpu_total=5_000_000,
            cpu_user=3_000_000,
            cpu_system=2_000_000,
            cpu_per_core=(4_000_000, 1_000_000),
            memory=1 << 20,
            memory_peak=2 << 20,
            memory_limit=1 << 62,
            memory_stat={"cache": 4096},
            pids=2,
            blocks=(BlockUsage(8, 0, 100, 200, 1, 2),),
        )
        return Statistics(
            time.time_ns(), usage, {"eth0": InterfaceCounters(rx_bytes=10)}, 2, 1_000_000_000
        )

    async def changes(self, ref: str) -> Sequence[Change]:
        self.get(ref)
        return [
            Change("/etc", ChangeKind.MODIFIED),
            Change("/new", ChangeKind.ADDED),
            Change("/old", ChangeKind.DELETED),
        ]

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        self.get(ref)
        return self._chunks(self.export_chunks)

    async def _chunks(self, chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
        try:
            for chunk in chunks:
                yield chunk
        finally:
            self.closed_streams += 1

    async def archive_stat(self, ref: str, path: str) -> PathStat:
        container = self.get(ref)
        if path == "/missing":
            raise NotFound(f"Could not find the file {path} in container {container.name}")
        return PathStat(path.rpartition("/")[2], 5, 0o644, _NOW, "")

    async def archive_get(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        stat = await self.archive_stat(ref, path)
        return stat, self._chunks([self.archive])

    async def archive_put(
        self,
        ref: str,
        path: str,
        chunks: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool = False,
        copy_uid_gid: bool = False,
    ) -> None:
        await self.archive_stat(ref, path)
        data = b"".join([chunk async for chunk in chunks])
        self.calls.append(("archive_put", path, no_overwrite_dir_non_dir, copy_uid_gid))
        self.uploads.append(data)

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        self._running(ref)
        self.calls.append(("resize", rows, columns))

    async def attach(
        self,
        ref: str,
        options: AttachOptions,
        socket_fd: int,
        pending: bytes = b"",
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        container = self.get(ref)
        announce()
        self.calls.append(("attach", options))
        self.shims[container.id].add(socket_fd, pending)

    async def _lines(self, id: str, options: LogOptions) -> AsyncIterator[LogLine]:
        try:
            for line in self.lines:
                yield line
            if options.follow and self.get(id).state.running:
                await asyncio.Event().wait()
        finally:
            self.closed_streams += 1

    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[LogLine]:
        self.calls.append(("logs", options))
        return self._lines(self.get(ref).id, options)

    async def _framed(self, container: Container, options: LogOptions) -> AsyncIterator[bytes]:
        async for line in self._lines(container.id, options):
            head = bytes((line.stream, 0, 0, 0)) + len(line.data).to_bytes(4, "big")
            yield line.data if container.config.tty else head + line.data

    def framed_logs(self, ref: str, options: LogOptions) -> AsyncIterator[bytes]:
        self.calls.append(("framed_logs", options))
        return self._framed(self.get(ref), options)

    async def prune(self, filters: Mapping[str, tuple[str, ...]]) -> PruneResult:
        self.calls.append(("prune", filters))
        gone = [one.id for one in self.known.values() if not one.state.running]
        for id in gone:
            del self.known[id]
        return PruneResult(tuple(gone), 10)

    async def explain(self, options: CreateOptions) -> Sequence[PlannedStep]:
        self.calls.append(("explain", options))
        return [PlannedStep("overlay", "storage", Step("mount", "/root", "rw"))]

    def trace(self, ref: str) -> Sequence[tuple[str, Timing]]:
        self.get(ref)
        return [("overlay", Timing(Step("mount", "/root"), 10, 20))]

    async def commit(self, ref: str, **options: Any) -> str:
        self.get(ref)
        self.calls.append(("commit", options))
        return f"sha256:{_hex('commit')}"


class FakeExecs:
    """Keeps execs in memory."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.known: dict[str, ExecSession] = {}
        self.shim = FakeShim()
        self.calls: list[Any] = []
        self._ids = itertools.count(1)

    async def create(self, ref: str, config: ExecConfig) -> str:
        container = self._engine.containers.get(ref)
        if not container.state.running:
            raise Conflict(f"Container {container.id} is not running")
        id = _hex(f"exec {next(self._ids)}")
        self.known[id] = ExecSession(id, container.id, config)
        return id

    def get(self, id: str) -> ExecSession:
        if id not in self.known:
            raise NotFound(f"No such exec instance: {id}")
        return self.known[id]

    def startable(self, id: str) -> ExecSession:
        session = self.get(id)
        if session.running or session.exit_code is not None:
            raise Conflict(f"Error: Exec command {id} has already run")
        container = self._engine.containers.get(session.container)
        if not container.state.running:
            raise Conflict(f"Container {container.id} is not running")
        return session

    def ids_of(self, container: Container) -> Sequence[str]:
        return [one.id for one in self.known.values() if one.container == container.id]

    async def start(
        self,
        id: str,
        *,
        detach: bool = False,
        connection: Connection | None = None,
        tty: bool | None = None,
        console_size: tuple[int, int] = (0, 0),
    ) -> None:
        session = self.get(id)
        self.calls.append(("start", detach, tty, console_size, connection))
        if session.config.args[0] == "nope":
            self.known[id] = replace(session, exit_code=127)
            raise StartFailed(
                'unable to start container process: exec: "nope": executable file not found in '
                "$PATH",
                errno=2,
            )
        self.known[id] = replace(session, running=True, pid=77)
        if connection is not None:
            self.shim.add(connection.socket, connection.pending)

    def finish(self, id: str, code: int) -> None:
        """Let an exec end."""
        self.known[id] = replace(self.known[id], running=False, exit_code=code)
        self.shim.close()

    async def resize(self, id: str, rows: int, columns: int) -> None:
        self.get(id)
        self.calls.append(("resize", rows, columns))


class FakeImages:
    """Has one image."""

    def __init__(self) -> None:
        self.image = busybox()
        self.calls: list[Any] = []
        self.uploads: list[bytes] = []

    async def get(self, name: str) -> Image:
        if name in {"busybox", "busybox:latest", self.image.id, "lib/nested/name"}:
            return self.image
        raise NotFound(f"No such image: {name if ':' in name else name + ':latest'}")

    async def list(
        self, filters: ImageFilters | None = None, *, all: bool = False
    ) -> tuple[Image, ...]:
        self.calls.append(("list", filters, all))
        return (self.image,)

    async def sizes(self, images: Sequence[Image]) -> tuple[ImageSize, ...]:
        return tuple(ImageSize(image.size, 1000) for image in images)

    async def history(self, name: str) -> tuple[HistoryItem, ...]:
        image = await self.get(name)
        return (HistoryItem(image.id, _NOW, "ADD layer", "made", 10, image.tags),)

    async def select(self, name: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        image = await self.get(name)
        return ((image.id, tuple(image.tags)),)

    async def tag(self, name: str, reference: str) -> None:
        await self.get(name)
        self.calls.append(("tag", name, reference))

    async def remove(
        self, name: str, *, force: bool = False, prune: bool = True
    ) -> tuple[UntaggedImage | DeletedImage, ...]:
        image = await self.get(name)
        self.calls.append(("remove", name, force, prune))
        return (UntaggedImage("busybox:latest", image.id), DeletedImage(image.id))

    async def prune(self, filters: ImageFilters) -> PruneReport:
        self.calls.append(("prune", filters))
        return PruneReport((DeletedImage(self.image.id),), 77)

    async def disk_usage(self) -> ImageDiskUsage:
        return ImageDiskUsage(2_000_000, 1_000_000, ((self.image, ImageSize(2_000_000, 0)),))

    async def load(
        self, chunks: AsyncIterator[bytes], platform: Platform | None = None
    ) -> AsyncIterator[LoadedImage]:
        data = b"".join([chunk async for chunk in chunks])
        self.calls.append(("load", platform))
        self.uploads.append(data)
        if data == b"broken":
            raise InvalidRequest("the archive is broken")
        yield LoadedImage(self.image.id, "busybox:latest")
        if data == b"late":
            raise InvalidRequest("the archive broke later")

    async def save(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        for name in names:
            await self.get(name)
        return self._archive(names)

    async def _archive(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        for name in names:
            yield name.encode() * 100_000

    async def import_image(self, chunks: AsyncIterator[bytes], request: ImportRequest) -> Any:
        self.uploads.append(b"".join([chunk async for chunk in chunks]))
        self.calls.append(("import", request))

        class Added:
            image = self.image

        return Added()

    def imported(self, added: Any, request: ImportRequest) -> None:
        self.calls.append(("imported", added.image.id, request.source))


class FakeNetworks:
    """Keeps networks in memory."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.calls: list[Any] = []
        self.known = {
            "bridge": Network(
                _hex("bridge"), "bridge", "bridge", _NOW, subnets=(Subnet("172.20.0.0/16"),)
            ),
            "none": Network(_hex("none"), "none", "none", _NOW),
        }

    def list(self, filters: Mapping[str, tuple[str, ...]]) -> Sequence[Network]:
        self.calls.append(("list", filters))
        return list(self.known.values())

    def get(self, ref: str) -> Network:
        for network in self.known.values():
            if ref == network.name or network.id.startswith(ref):
                return network
        raise NotFound(f"network {ref} not found")

    def containers_of(self, network: Network) -> Sequence[Container]:
        return [
            one for one in self._engine.containers.known.values() if network.name in one.endpoints
        ]

    async def create(self, name: str, **options: Any) -> Network:
        if name in self.known:
            raise Conflict(f"network with name {name} already exists")
        self.calls.append(("create", name, options))
        self.known[name] = Network(
            _hex(name),
            name,
            options["driver"] or "bridge",
            _NOW,
            internal=options["internal"],
            subnets=tuple(options["subnets"]),
            labels=options["labels"],
        )
        return self.known[name]

    async def remove(self, ref: str) -> None:
        network = self.get(ref)
        if network.name in {"bridge", "none"}:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        del self.known[network.name]

    async def connect(self, ref: str, container: str, options: EndpointOptions) -> None:
        self.get(ref)
        self._engine.containers.get(container)
        self.calls.append(("connect", ref, container, options))

    async def disconnect(self, ref: str, container: str, *, force: bool = False) -> None:
        self.get(ref)
        self._engine.containers.get(container)
        self.calls.append(("disconnect", ref, container, force))

    async def prune(self, filters: Mapping[str, tuple[str, ...]]) -> NetworkPruneResult:
        self.calls.append(("prune", filters))
        return NetworkPruneResult(("unused",))


class FakeVolumes:
    """Keeps volumes in memory."""

    def __init__(self) -> None:
        self.known: dict[str, Volume] = {}
        self.calls: list[Any] = []

    def list(self, filters: Mapping[str, tuple[str, ...]]) -> Sequence[Volume]:
        self.calls.append(("list", filters))
        return list(self.known.values())

    def get(self, name: str) -> Volume:
        if name not in self.known:
            raise NotFound(f"get {name}: no such volume")
        return self.known[name]

    async def create(
        self,
        name: str = "",
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        name = name or _hex("anonymous")
        self.known[name] = Volume(
            name, f"/v/{name}", _NOW, driver or "local", labels or {}, options or {}
        )
        return self.known[name]

    async def remove(self, name: str, *, force: bool = False) -> None:
        self.calls.append(("remove", name, force))
        self.get(name)
        del self.known[name]

    async def prune(self, filters: Mapping[str, tuple[str, ...]]) -> PruneResult:
        self.calls.append(("prune", filters))
        return PruneResult(tuple(self.known), 5)

    async def usage(self, name: str) -> VolumeUsage:
        self.get(name)
        return VolumeUsage(100, 1)


class FakeSystem:
    """Says what a small host would."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    async def info(self) -> SystemInfo:
        return SystemInfo(
            id="one",
            hostname="host",
            containers=len(self._engine.containers.known),
            running=0,
            paused=0,
            stopped=0,
            images=1,
            storage_driver="overlay",
            resource_driver="v1",
            cgroup_version="1",
            default_runtime="native",
            runtimes=("native",),
            default_network="bridge",
            networks=("bridge", "host", "none"),
            default_log="json-file",
            logs=("json-file", "local", "none"),
            resources=frozenset({"memory", "swap", "cpu", "cpuset", "pids"}),
            kernel="6.18",
            operating_system="Debian",
            architecture="x86_64",
            cpus=2,
            memory=1 << 34,
            root="/var/lib/pannier",
            security=("name=seccomp,profile=builtin",),
            ipv4_forwarding=True,
            listeners=0,
            open_files=10,
            threads=3,
        )

    async def disk_usage(self) -> DiskUsage:
        volumes = self._engine.volumes.known.values()
        return DiskUsage(
            2_000_000,
            tuple(ContainerUsage(one, 1, 2) for one in self._engine.containers.known.values()),
            tuple((one, VolumeUsage(100, 1)) for one in volumes),
        )


class FakeStorage:
    """Knows what a storage driver says of a layer."""

    id = "overlay"

    def driver_data(self, key: str) -> dict[str, str]:
        return {"UpperDir": f"/upper/{key}"}


class FakeDrivers:
    """Has a storage driver."""

    storage = FakeStorage()


class FakeEngine:
    """All services."""

    def __init__(self) -> None:
        self.events = Events()
        self.volumes = FakeVolumes()
        self.containers = FakeContainers(self)
        self.execs = FakeExecs(self)
        self.images = FakeImages()
        self.transfers = FakeTransfers(self.images.image)
        self.networks = FakeNetworks(self)
        self.system = FakeSystem(self)
        self.drivers = FakeDrivers()

    def publish(self, kind: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        """Tell of an event."""
        self.events.publish(Event(kind, action, actor, attributes))

    def close(self) -> None:
        """Let go of what tests left open."""
        self.execs.shim.close()
        for shim in self.containers.shims.values():
            shim.close()


def as_engine(fake: FakeEngine) -> Engine:
    """Return the fake as what the server's signature asks for."""
    return cast("Engine", fake)


@contextlib.contextmanager
def closing(fake: FakeEngine) -> Iterator[FakeEngine]:
    """Close a fake at the end of a block."""
    try:
        yield fake
    finally:
        fake.close()
