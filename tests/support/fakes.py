# ruff: noqa: ARG002, D401 - the methods have the contracts' signatures and docstrings
"""Drivers that keep everything in memory, for tests of the engine without root.

Each records what it holds in one shared :class:`World`, so that a test can ask what is left, and
each operation passes through it, so that a test can have any of them fail.
"""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pannier.drivers.log import (
    LogCapability,
    LogDriver,
    LogEntry,
    LogForm,
    LogSink,
    LogSource,
)
from pannier.drivers.network import (
    Attachment,
    Endpoint,
    EndpointRequest,
    Namespace,
    NetworkCapability,
    NetworkDriver,
    NetworkSpec,
    PortBinding,
    Subnet,
)
from pannier.drivers.operations import Action, Plan, Step
from pannier.drivers.resources import (
    GroupRequest,
    Limits,
    OomWatch,
    ResourceCapability,
    ResourceDriver,
    ResourceEvents,
    ResourceUsage,
)
from pannier.drivers.runtime import (
    Connection,
    CreateRequest,
    DetachEvent,
    ExecRequest,
    ExitEvent,
    RuntimeCapability,
    RuntimeDriver,
    RuntimeState,
    RuntimeWatch,
)
from pannier.drivers.storage import Change, ContainerLayer, StorageCapability, StorageDriver, Usage
from pannier.driverset import DriverSet
from pannier.errors import Conflict, DriverError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path
    from typing import BinaryIO

    from pannier.drivers.base import DriverContext, IdMap

__all__ = [
    "FakeNetwork",
    "FakeResources",
    "FakeRuntime",
    "FakeStorage",
    "FarLog",
    "World",
    "fake_drivers",
]


@dataclass
class World:
    """What the fake drivers hold, and which of their operations is to fail.

    :param held: ``runtime:ID``, ``group:ID``, ``endpoint:NETWORK:ID`` and so on.
    :param fail_at: the operation, counted from 0 since :attr:`count` was, that fails.
    :param fail_with: what it raises.
    """

    folder: Path
    held: set[str] = field(default_factory=set)
    count: int = 0
    fail_at: int | None = None
    fail_with: Callable[[], BaseException] = lambda: DriverError("made to fail")
    fail_halfway: bool = False
    log: list[str] = field(default_factory=list)
    undo_fails: bool = False

    def act(self, step: Step, do: Callable[[], object], undo: Callable[[], object]) -> Action:
        """Return an operation that can be made to fail, before or after it was carried out."""

        def execute() -> object:
            number, self.count = self.count, self.count + 1
            if number == self.fail_at and not self.fail_halfway:
                raise self.fail_with()
            result = do()
            if number == self.fail_at:
                raise self.fail_with()
            return result

        return Action(step, execute, undo)

    def hold(self, what: str) -> None:
        """Note that something is there."""
        self.held.add(what)

    def drop(self, what: str) -> None:
        """Note that something has gone."""
        self.held.discard(what)


class FakeStorage(StorageDriver):
    """Layers as names, container roots as plain folders."""

    id: ClassVar[str] = "fake"
    capabilities: ClassVar[AbstractSet[StorageCapability]] = frozenset(StorageCapability)

    @classmethod
    def probe(cls, context: DriverContext, config: Any) -> None:
        """Always usable."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.layer_sizes: dict[str, int] = {}
        self.parents: dict[str, str | None] = {}
        self.roots = world.folder / "roots"
        self.roots.mkdir(exist_ok=True)
        self.remove_error: DriverError | None = None

    def create_layer(self, chain_id: str, parent: str | None, diff: BinaryIO) -> Usage:
        size = len(diff.read())
        self.layer_sizes[chain_id] = size
        self.parents[chain_id] = parent
        return Usage(size, 1)

    def has_layer(self, chain_id: str) -> bool:
        return chain_id in self.layer_sizes

    def layers(self) -> Iterator[str]:
        yield from tuple(self.layer_sizes)

    def layer_usage(self, chain_id: str) -> Usage:
        return Usage(self.layer_sizes[chain_id], 1)

    def open_layer(self, chain_id: str) -> int:
        raise NotFound(chain_id)

    def remove_layer(self, chain_id: str) -> None:
        if chain_id in self.parents.values():
            raise Conflict("a layer stands on it")
        self.layer_sizes.pop(chain_id, None)
        self.parents.pop(chain_id, None)

    def plan_create_container(self, layer: ContainerLayer) -> Plan[None]:
        def create() -> None:
            (self.roots / layer.key / "etc").mkdir(parents=True)
            (self.roots / layer.key / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
            self.world.hold(f"layer:{layer.key}")

        action = self.world.act(
            Step("create layer", layer.key), create, lambda: self.remove_container(layer.key)
        )
        return Plan(self.id, [action], lambda: None)

    def containers(self) -> Iterator[str]:
        yield from (path.name for path in self.roots.iterdir())

    def plan_open_root(self, key: str, *, idmap: IdMap | None = None) -> Plan[int]:
        opened: list[int] = []

        def execute() -> None:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            opened.append(os.open(self.roots / key, flags))

        def undo() -> None:
            while opened:
                os.close(opened.pop())

        action = self.world.act(Step("mount root", key), execute, undo)
        return Plan(self.id, [action], opened.pop)

    def changes(self, key: str) -> list[Change]:
        return []

    def write_diff(self, key: str, out: BinaryIO) -> None:
        out.write(bytes(1024))

    def usage(self, key: str) -> Usage:
        return Usage(100, 1)

    def remove_container(self, key: str) -> None:
        import shutil  # noqa: PLC0415 - the only use

        if self.remove_error is not None:
            raise self.remove_error
        shutil.rmtree(self.roots / key, ignore_errors=True)
        self.world.drop(f"layer:{key}")


class FakeOomWatch(OomWatch):
    """A counter that a test adds to."""

    def __init__(self) -> None:
        self.event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self.event

    def read(self) -> int:
        try:
            return os.eventfd_read(self.event)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        if self.event >= 0:
            os.close(self.event)
            self.event = -1


class FakeResources(ResourceDriver):
    """Groups as names, behind their parent's; every one has this process in it, for /proc."""

    id: ClassVar[str] = "fake"
    version: ClassVar[str] = "2"
    capabilities: ClassVar[AbstractSet[ResourceCapability]] = frozenset(ResourceCapability)

    @classmethod
    def probe(cls, context: DriverContext, config: Any) -> None:
        """Always usable."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.requests: dict[str, GroupRequest] = {}
        self.limits: dict[str, Limits] = {}
        self.frozen: set[str] = set()
        self.oom: set[str] = set()
        self.watches: dict[str, FakeOomWatch] = {}

    def available(self) -> AbstractSet[ResourceCapability]:
        return self.capabilities

    def plan_create(self, request: GroupRequest) -> Plan[None]:
        def create() -> None:
            self.requests[request.id] = request
            self.world.hold(_group(request.id, request.parent))

        action = self.world.act(
            Step("create group", request.id),
            create,
            lambda: self.delete(request.id, request.parent),
        )
        return Plan(self.id, [action], lambda: None)

    def path(self, id: str, parent: str = "") -> str:
        return f"/fake/{id}"

    def procs(self, id: str, parent: str = "") -> tuple[Path, ...]:
        return ()

    def mount_points(self) -> Mapping[str, Path]:
        return {}

    def update(self, id: str, limits: Limits, parent: str = "") -> None:
        self.limits[id] = limits

    def pids(self, id: str, parent: str = "") -> list[int]:
        return [os.getpid()]

    def freeze(self, id: str, parent: str = "") -> None:
        self.frozen.add(id)

    def thaw(self, id: str, parent: str = "") -> None:
        self.frozen.discard(id)

    def kill(self, id: str, parent: str = "") -> None:
        self.world.log.append(f"kill group {id}")

    def usage(self, id: str, parent: str = "") -> ResourceUsage:
        return ResourceUsage(cpu_total=5, memory=7, pids=1)

    def oom_watch(self, id: str, parent: str = "") -> OomWatch | None:
        self.watches[id] = FakeOomWatch()
        return self.watches[id]

    def events(self, id: str, parent: str = "") -> ResourceEvents:
        return ResourceEvents(1, 1) if id in self.oom else ResourceEvents()

    def delete(self, id: str, parent: str = "") -> None:
        self.requests.pop(id, None)
        self.world.drop(_group(id, parent))

    def groups(self) -> Iterator[str]:
        yield from (
            name.removeprefix("group:")
            for name in tuple(self.world.held)
            if name.startswith("group:") and "/" not in name
        )


def _group(id: str, parent: str) -> str:
    return f"group:{parent}/{id}" if parent else f"group:{id}"


class FakeNetwork(NetworkDriver):
    """A network driver of any id and kind of namespace."""

    id = "bridge"
    capabilities: ClassVar[AbstractSet[NetworkCapability]] = frozenset(NetworkCapability)

    @classmethod
    def probe(cls, context: DriverContext, config: Any) -> None:
        """Always usable."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reconciled: list[tuple[EndpointRequest, Endpoint]] | None = None
        self.created: dict[str, NetworkSpec] = {}
        self.asked: list[EndpointRequest] = []

    def namespace(self, argument: str) -> Namespace:
        return Namespace("new")

    def create_network(self, network: NetworkSpec) -> NetworkSpec:
        from dataclasses import replace  # noqa: PLC0415 - the only use

        if not network.subnets:
            number = 18 + len(self.created)
            subnet = Subnet(f"172.{number}.0.0/16", f"172.{number}.0.1")
            network = replace(network, subnets=(subnet,))
        self.created[network.id] = network
        return network

    def remove_network(self, network: NetworkSpec) -> None:
        self.created.pop(network.id, None)

    def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
        name = f"endpoint:{request.network.name}:{request.container}"
        self.asked.append(request)
        sockets: list[int] = []

        def attach() -> None:
            assert netns is not None
            self.world.hold(name)
            if request.ports:
                sockets.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))

        def result() -> Attachment:
            endpoint = Endpoint(
                request.network.id,
                "eth0",
                request.address or "172.18.0.2",
                16,
                "172.18.0.1",
                mac="02:42:ac:12:00:02",
                ports=tuple(
                    PortBinding(port.container_port, port.protocol, "0.0.0.0", 40000)
                    for port in request.ports
                ),
            )
            handed_over = tuple(sockets)
            sockets.clear()
            return Attachment(endpoint, handed_over)

        def undo() -> None:
            while sockets:
                os.close(sockets.pop())
            self.detach(request, None)

        action = self.world.act(Step("attach", request.network.name), attach, undo)
        return Plan(self.id, [action], result)

    def detach(self, request: EndpointRequest, netns: int | None) -> None:
        self.world.drop(f"endpoint:{request.network.name}:{request.container}")

    def reconcile(self, endpoints: Iterable[tuple[EndpointRequest, Endpoint]]) -> None:
        self.reconciled = list(endpoints)
        used = {
            f"endpoint:{request.network.name}:{request.container}" for request, _ in self.reconciled
        }
        prefix = tuple(f"endpoint:{spec.name}:" for spec in self.created.values())
        for name in tuple(self.world.held):
            if name.startswith(prefix) and name not in used:
                self.world.drop(name)


class FakeHost(FakeNetwork):
    """Shares the host's namespace."""

    id = "host"
    capabilities: ClassVar[AbstractSet[NetworkCapability]] = frozenset()

    def namespace(self, argument: str) -> Namespace:
        return Namespace("host")

    def create_network(self, network: NetworkSpec) -> NetworkSpec:
        self.created[network.id] = network
        return network


class FakeNone(FakeHost):
    """A namespace with nothing in it."""

    id = "none"

    def namespace(self, argument: str) -> Namespace:
        return Namespace("new")


class FakeContainer(FakeHost):
    """Joins another container's namespace."""

    id = "container"

    def namespace(self, argument: str) -> Namespace:
        if not argument:
            raise InvalidRequest("which container?")
        return Namespace("container", argument)


class FakeWatch(RuntimeWatch):
    """Events by an eventfd; those that came before are given at once."""

    def __init__(self, runtime: FakeRuntime, id: str) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._events: list[ExitEvent | DetachEvent] = []
        self._runtime = runtime
        self.id = id
        runtime.watches.append(self)
        if id in runtime.exits:
            self.send(runtime.exits[id])

    def send(self, event: ExitEvent | DetachEvent) -> None:
        """Have an event come."""
        self._events.append(event)
        os.eventfd_write(self._descriptor, 1)

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> list[ExitEvent | DetachEvent]:
        if select.select([self._descriptor], [], [], 0)[0]:
            os.eventfd_read(self._descriptor)
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._runtime.watches.remove(self)


class FakeRuntime(RuntimeDriver):
    """Processes as names; a test says when they end."""

    id: ClassVar[str] = "fake"
    capabilities: ClassVar[AbstractSet[RuntimeCapability]] = frozenset(RuntimeCapability)

    @classmethod
    def probe(cls, context: DriverContext, config: Any) -> None:
        """Always usable."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.requests: dict[str, CreateRequest] = {}
        self.status: dict[str, str] = {}
        self.exits: dict[str, ExitEvent] = {}
        self.watches: list[FakeWatch] = []
        self.signals: list[tuple[str, int]] = []
        self.connections: dict[str, list[Connection]] = {}
        self.exec_requests: list[ExecRequest] = []
        self.kept: dict[str, tuple[int, ...]] = {}
        self.start_error: Exception | None = None
        self.exec_error: Exception | None = None
        self.attach_error: Exception | None = None
        self.exit_on_signal = True
        self.exit_at_once: int | None = None
        self.exec_says = b""
        self.exec_exits: int | None = None

    def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
        def create() -> None:
            self.requests[request.id] = request
            self.status[request.id] = "created"
            self.world.hold(f"runtime:{request.id}")

        action = self.world.act(
            Step("create process", request.id), create, lambda: self.delete(request.id)
        )
        return Plan(self.id, [action], lambda: self.state(request.id))

    def start(
        self, id: str, connections: Sequence[Connection] = (), keep: Sequence[int] = ()
    ) -> None:
        if self.start_error is not None:
            raise self.start_error
        number, self.world.count = self.world.count, self.world.count + 1
        if number == self.world.fail_at:
            raise self.world.fail_with()
        self.status[id] = "running"
        self.connections[id] = list(connections)
        self.kept[id] = tuple(keep)
        self.exits.pop(id, None)
        if self.exit_at_once is not None:
            self.end(id, self.exit_at_once)

    def end(self, id: str, status: int = 0, *, lost: bool = False) -> None:
        """Have a container's first process end."""
        self.status[id] = "stopped"
        event = ExitEvent(id, None, status, 1234.5, lost)
        self.exits[id] = event
        for watch in tuple(self.watches):
            if watch.id == id:
                watch.send(event)

    def end_exec(self, id: str, exec_id: str, status: int) -> None:
        """Have an exec end."""
        for watch in tuple(self.watches):
            if watch.id == id:
                watch.send(ExitEvent(id, exec_id, status, 1234.5))

    def leave(self, id: str, exec_id: str | None = None) -> None:
        """Have a client leave a process by its keys."""
        for watch in tuple(self.watches):
            if watch.id == id:
                watch.send(DetachEvent(id, exec_id))

    def state(self, id: str) -> RuntimeState:
        if id not in self.status:
            raise NotFound(f"no such container: {id}")
        status = self.status[id]
        if status == "stopped":
            return RuntimeState(id, "stopped", 0, self.exits[id].exit_status, 1234.5)
        return RuntimeState(id, "running" if status == "running" else "created", os.getpid())

    def containers(self) -> Iterator[str]:
        yield from tuple(self.status)

    def kill(self, id: str, signal: int) -> None:
        if self.status.get(id) != "running":
            raise Conflict("it has stopped")
        self.signals.append((id, signal))
        if self.exit_on_signal or signal == 9:
            self.end(id, 128 + signal)

    def attach(self, id: str, connection: Connection, exec_id: str | None = None) -> int:
        if self.attach_error is not None:
            raise self.attach_error
        self.connections.setdefault(id, []).append(connection)
        return time.time_ns()

    def resize(self, id: str, rows: int, columns: int, exec_id: str | None = None) -> None:
        self.world.log.append(f"resize {exec_id or id} {rows}x{columns}")

    def exec(self, id: str, request: ExecRequest) -> int:
        if self.exec_error is not None:
            raise self.exec_error
        self.exec_requests.append(request)
        if self.exec_says and request.connection is not None:
            header = bytes((1, 0, 0, 0)) + len(self.exec_says).to_bytes(4, "big")
            os.write(request.connection.socket, header + self.exec_says)
        if self.exec_exits is not None:
            self.end_exec(id, request.exec_id, self.exec_exits)
        return 4321

    def kill_exec(self, id: str, exec_id: str, signal: int) -> None:
        self.signals.append((exec_id, signal))

    def watch(self, id: str) -> RuntimeWatch:
        self.state(id)
        return FakeWatch(self, id)

    def delete(self, id: str) -> None:
        for table in (self.requests, self.status, self.exits, self.kept):
            table.pop(id, None)
        self.world.drop(f"runtime:{id}")


class FakeLog(LogDriver):
    """Keeps a file; its one option is ``colour``, which is ``red``."""

    id: ClassVar[str] = "files"
    capabilities: ClassVar[AbstractSet[LogCapability]] = frozenset({LogCapability.READ})

    @classmethod
    def probe(cls, context: DriverContext, config: object) -> None:
        assert context.root.is_dir(), config

    def __init__(self, world: World) -> None:
        self.world = world

    def check(self, options: Mapping[str, str]) -> None:
        if options not in ({}, {"colour": "red"}):
            raise InvalidRequest(f"unknown log opt for {self.id} log driver: {dict(options)}")

    def form(self, options: Mapping[str, str]) -> LogForm | None:
        return LogForm(1 << 20 if options else 0, 2)


class SilentLog(FakeLog):
    """Keeps nothing."""

    id: ClassVar[str] = "none"
    capabilities: ClassVar[AbstractSet[LogCapability]] = frozenset()

    def form(self, options: Mapping[str, str]) -> LogForm | None:
        return None


class FarLog(FakeLog):
    """Takes lines elsewhere: to :attr:`lines`. What :attr:`obstacle` does happens before."""

    id: ClassVar[str] = "far"
    capabilities: ClassVar[AbstractSet[LogCapability]] = frozenset({LogCapability.DELIVER})

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.lines: list[bytes] = []
        self.sources: list[LogSource] = []
        self.closed = 0
        self.obstacle: Callable[[], object] = lambda: None

    def open(self, source: LogSource, options: Mapping[str, str]) -> LogSink:
        self.sources.append(source)
        return _FarSink(self)


class _FarSink(LogSink):
    def __init__(self, driver: FarLog) -> None:
        self._driver = driver

    def write(self, entries: Sequence[LogEntry]) -> None:
        self._driver.obstacle()
        self._driver.lines += [entry.data for entry in entries]

    def close(self) -> None:
        self._driver.closed += 1


def fake_drivers(world: World) -> DriverSet:
    """Return one fake driver of each kind, and networks as the built-in ones are called."""
    networks = {
        "bridge": FakeNetwork(world),
        "host": FakeHost(world),
        "none": FakeNone(world),
        "container": FakeContainer(world),
    }
    return DriverSet(
        storages={"fake": FakeStorage(world)},
        default_storage="fake",
        networks=networks,
        default_network="bridge",
        resources=FakeResources(world),
        runtimes={"fake": FakeRuntime(world)},
        default_runtime="fake",
        logs={"files": FakeLog(world), "none": SilentLog(world), "far": FarLog(world)},
        default_log="files",
    )
