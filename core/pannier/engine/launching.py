"""The start of a container: the plans of all drivers, strung together.

The same sequence is executed by a start and described by ``--explain``; which of the two, its
:class:`Conductor` decides.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from pannier.drivers.network import Attachment, Endpoint
from pannier.drivers.operations import Action, Plan, Step, Transaction
from pannier.drivers.resources import GroupRequest
from pannier.drivers.runtime import (
    CreateRequest,
    RuntimeCapability,
    RuntimeState,
    StdioSpec,
)
from pannier.engine import devices, healthstate, mounting, spec, users
from pannier.engine.folders import ensure_folder
from pannier.engine.gateways import set_loopback_up
from pannier.engine.localvolume import LocalMounts
from pannier.engine.logdrivers import log_spec
from pannier.engine.model import ContainerState, Status
from pannier.engine.results import PlannedStep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pannier.drivers.operations import Recorder
    from pannier.drivers.runtime import Connection, RuntimeDriver, RuntimeWatch
    from pannier.driverset import DriverSet
    from pannier.engine.dns import NameService
    from pannier.engine.endpoints import Joining
    from pannier.engine.hostfiles import HostFiles, Link
    from pannier.engine.imagemounts import ImageMounts
    from pannier.engine.joins import Joins
    from pannier.engine.model import Container, MountPoint
    from pannier.engine.settings import EngineSettings
    from pannier.engine.sharedmemory import SharedMemory
    from pannier.engine.store import Store
    from pannier.engine.users import UserIds

__all__ = ["Conductor", "Describing", "Launch", "Launcher", "Started", "log_path"]

T = TypeVar("T")

_ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class Launch:
    """A container to start, with what only the event loop's thread may look up.

    :param connections: clients to attach from the first byte on.
    """

    container: Container
    joins: Joins
    joinings: tuple[Joining, ...] = ()
    links: tuple[Link, ...] = ()
    connections: tuple[Connection, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """A container that was started.

    :param kept: descriptors that the runtime cannot keep, for the engine to hold.
    """

    container: Container
    watch: RuntimeWatch | None
    kept: tuple[int, ...] = ()


class Conductor(Protocol):
    """Does something with each plan of a sequence."""

    def run(self, kind: str, plan: Plan[T], planned: T) -> T:
        """Take the next plan, of a driver of *kind*; *planned* stands for a result not had."""

    @property
    def executes(self) -> bool:
        """Whether plans are executed."""


class Executing:
    """Executes plans in a transaction."""

    executes = True

    def __init__(self, recorder: Recorder | None = None) -> None:
        self.transaction = Transaction(recorder)

    def run(self, kind: str, plan: Plan[T], planned: T) -> T:  # noqa: ARG002 - the protocol's
        """Execute the plan; on an error all plans before it are undone, too."""
        return self.transaction.run(plan)


@dataclass(slots=True)
class Describing:
    """Collects the descriptions of plans, and does nothing."""

    steps: list[PlannedStep] = field(default_factory=list)
    executes = False

    def run(self, kind: str, plan: Plan[T], planned: T) -> T:
        """Describe the plan."""
        self.steps += [PlannedStep(plan.driver, kind, step) for step in plan.describe()]
        return planned


def log_path(folder: Path, id: str) -> Path:
    """Return where a container's output is logged."""
    return folder / id / "output.log"


@dataclass(slots=True)
class Launcher:
    """Starts containers; blocking, called on worker threads under the container's lock.

    :param folder: where each container has a folder of its own.
    """

    settings: EngineSettings
    folder: Path
    drivers: DriverSet
    store: Store
    files: HostFiles
    memory: SharedMemory
    names: NameService
    images: ImageMounts
    volumes: LocalMounts = field(default_factory=LocalMounts)

    def runtime(self, container: Container) -> RuntimeDriver:
        """Return the runtime driver of a container.

        :raises InvalidRequest: there is none of the name it was created with.
        """
        return self.drivers.runtime(container.host.runtime)

    def start(self, launch: Launch, recorder: Recorder | None = None) -> Started:
        """Start a container; on return it runs, and the database says so.

        :raises StartFailed: its process could not be executed. Nothing is left then, nor after
            any other error.
        """
        conductor = Executing(recorder)
        held: list[int] = []
        try:
            return self.conduct(launch, conductor, held)
        except BaseException:
            conductor.transaction.rollback()
            raise
        finally:
            for descriptor in held:
                os.close(descriptor)

    def conduct(self, launch: Launch, conductor: Conductor, held: list[int]) -> Started:
        """Have *conductor* take every plan of a start, in order.

        :param held: takes the descriptors that the caller is to close in the end.
        """
        container = launch.container
        runtime = self.runtime(container)
        conductor.run(_ENGINE, self._files_plan(launch), None)
        if any(point.options for point in container.mounts):
            conductor.run(_ENGINE, self._volumes_plan(container), None)
        if container.host.ipc_mode == "shareable":
            conductor.run(_ENGINE, self.memory.plan(container), None)
        state = self._create(launch, conductor, runtime)
        watch = self._watch(container, conductor, runtime)
        endpoints, keep = self._attach(launch, conductor, state.pid, held)
        conductor.run(_ENGINE, self._hosts_plan(launch, endpoints), None)
        served = replace(container, endpoints=endpoints)
        names = conductor.run(_ENGINE, self.names.plan(served, state.pid), ())
        kept: tuple[int, ...] = ()
        if RuntimeCapability.KEEP_DESCRIPTORS not in runtime.capabilities:
            kept, keep = keep, ()
        else:
            keep = (*keep, *names)
        conductor.run("runtime", _start_plan(launch, runtime, keep), None)
        container = replace(
            container,
            endpoints=endpoints,
            state=ContainerState(
                status=Status.RUNNING,
                pid=state.pid,
                started=time.time_ns(),
                finished=container.state.finished,
                restart_count=container.state.restart_count,
                health=healthstate.started(container.config.health_check, container.state.health),
            ),
        )
        if conductor.executes:
            self.store.save_state(container)
        for descriptor in kept:
            held.remove(descriptor)
        return Started(container, watch, kept)

    def _create(self, launch: Launch, conductor: Conductor, runtime: RuntimeDriver) -> RuntimeState:
        container = launch.container
        storage = self.drivers.storage_of(container.storage_driver)
        resources = self.drivers.resources
        root = conductor.run(
            "storage", storage.plan_open_root(container.id, idmap=container.idmap), -1
        )
        with contextlib.ExitStack() as stack:
            points = container.mounts
            user = users.unresolved(container.config.user)
            if conductor.executes:
                stack.callback(os.close, root)
                user = users.find(root, container.config.user, container.host.group_add)
                points = stack.enter_context(mounting.opened_sources(container, self.images))
            if _needs_working_folder(container):
                conductor.run(_ENGINE, _folder_plan(container, root), None)
            group = GroupRequest(
                id=container.id,
                parent=container.host.cgroup_parent,
                limits=container.host.limits,
                devices=devices.rules(container.host),
            )
            conductor.run("resources", resources.plan_create(group), None)
            request = self._request(launch, points, user, root)
            return conductor.run(
                "runtime", runtime.plan_create(request), RuntimeState(container.id, "created")
            )

    def _request(
        self, launch: Launch, points: tuple[MountPoint, ...], user: UserIds, root: int
    ) -> CreateRequest:
        container, resources = launch.container, self.drivers.resources
        parent = container.host.cgroup_parent
        around = spec.Surroundings(
            user=user,
            joins=launch.joins,
            hostname=self.files.hostname(container, launch.joins),
            files=self.files.sources(container, launch.joins),
            shared_memory=self.memory.path(container, launch.joins),
            cgroup_path=resources.path(container.id, parent),
            ulimits=self.settings.default_ulimits,
            linked=tuple(entry for link in launch.links for entry in link.environment),
        )
        joins = launch.joins
        init = container.host.init
        return CreateRequest(
            id=container.id,
            spec=spec.build(replace(container, mounts=points), around),
            root=root,
            stdio=self._stdio(container),
            procs=resources.procs(container.id, parent),
            idmap=None if joins.network or joins.pid or joins.ipc else container.idmap,
            init=self.settings.default_init if init is None else init,
            cgroup_mounts=dict(resources.mount_points()),
        )

    def _stdio(self, container: Container) -> StdioSpec:
        config = container.config
        where = log_spec(self.drivers, container.host.log, log_path(self.folder, container.id))
        return StdioSpec(
            terminal=config.tty,
            stdin=config.open_stdin,
            stdin_once=config.stdin_once,
            log=where,
            size=container.host.console_size,
        )

    def _watch(
        self, container: Container, conductor: Conductor, runtime: RuntimeDriver
    ) -> RuntimeWatch | None:
        if not conductor.executes:
            return None
        watches: list[RuntimeWatch] = []
        action = Action(
            Step("watch", container.id[:12], "exits"),
            lambda: watches.append(runtime.watch(container.id)),
            lambda: [watch.close() for watch in watches],
        )
        plan: Plan[RuntimeWatch | None] = Plan(runtime.id, [action], lambda: watches[0])
        return conductor.run("runtime", plan, None)

    def _attach(
        self, launch: Launch, conductor: Conductor, pid: int, held: list[int]
    ) -> tuple[dict[str, Endpoint], tuple[int, ...]]:
        endpoints: dict[str, Endpoint] = {}
        keep: list[int] = []
        netns = None
        own = launch.joins.donor is None and not launch.joins.host_network
        if (launch.joinings or own) and conductor.executes:
            netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            held.append(netns)
            if not launch.joinings:
                set_loopback_up(netns)
        for joining in launch.joinings:
            plan = joining.driver.plan_attach(joining.request, netns)
            attachment = conductor.run(
                "network", plan, Attachment(Endpoint(joining.request.network.id))
            )
            held += attachment.descriptors
            keep += attachment.descriptors
            endpoints[joining.network.name] = attachment.endpoint
        return endpoints, tuple(keep)

    def _files_plan(self, launch: Launch) -> Plan[None]:
        container = launch.container
        folder = self.folder / container.id
        files = ("hostname", "hosts", "resolv.conf")

        def remove() -> None:
            if container.state.started == 0:
                for name in files:
                    (folder / name).unlink(missing_ok=True)

        action = Action(
            Step("write", str(folder), ", ".join(files)),
            lambda: self.files.write(container, launch.joins, launch.links),
            remove,
        )
        return Plan(_ENGINE, [action], lambda: None)

    def _volumes_plan(self, container: Container) -> Plan[None]:
        names = ", ".join(point.name for point in container.mounts if point.options)
        action = Action(
            Step("mount", "volumes", names),
            lambda: self.volumes.mount(container),
            lambda: self.volumes.unmount(container),
        )
        return Plan(_ENGINE, [action], lambda: None)

    def _hosts_plan(self, launch: Launch, endpoints: dict[str, Endpoint]) -> Plan[None]:
        action = Action(
            Step("write", str(self.folder / launch.container.id / "hosts"), "addresses"),
            lambda: self.files.attached(launch.container, launch.joins, endpoints, launch.links),
        )
        wanted = bool(endpoints) or not launch.joinings
        return Plan(_ENGINE, [action] if wanted else [], lambda: None)


def _start_plan(launch: Launch, runtime: RuntimeDriver, keep: Sequence[int]) -> Plan[None]:
    container = launch.container
    action = Action(
        Step("execute", container.args[0], " ".join(container.args[1:])),
        lambda: runtime.start(container.id, launch.connections, keep),
    )
    return Plan(runtime.id, [action], lambda: None)


def _needs_working_folder(container: Container) -> bool:
    path = posixpath.normpath(container.config.working_dir or "/")
    covered = (posixpath.normpath(point.spec.destination) for point in container.mounts)
    return path != "/" and not any(
        path == place or path.startswith(f"{place}/") for place in covered
    )


def _folder_plan(container: Container, root: int) -> Plan[None]:
    path = container.config.working_dir
    action = Action(
        Step("create folder", path, "if it is missing"),
        lambda: ensure_folder(root, path, container.idmap),
    )
    return Plan(_ENGINE, [action], lambda: None)
