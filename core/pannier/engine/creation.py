"""Making containers: everything decided, the writable layer there, the row in the database."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.drivers.operations import Action, Plan, Step, Transaction
from pannier.drivers.sizes import parse_size
from pannier.drivers.storage import ContainerLayer
from pannier.engine import caps, imagemounts, mounting, resolve, security, spec, validate
from pannier.engine.imagefacts import ImageFacts
from pannier.engine.launching import Describing
from pannier.engine.logdrivers import complete_log
from pannier.engine.model import Container, ContainerConfig
from pannier.engine.registry import Live
from pannier.engine.results import CreateResult, Event
from pannier.engine.specmounts import SKELETON
from pannier.engine.volumes import users_of
from pannier.engine.workers import uninterrupted
from pannier.errors import Conflict, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pannier.drivers.base import IdMap
    from pannier.drivers.network import Namespace
    from pannier.driverset import DriverSet
    from pannier.engine.endpoints import Endpoints
    from pannier.engine.events import Events
    from pannier.engine.imagefacts import ImageSource
    from pannier.engine.launching import Launcher
    from pannier.engine.lifecycle import Lifecycle
    from pannier.engine.model import CreateOptions, EndpointOptions, HostOptions, MountPoint
    from pannier.engine.registry import Registry
    from pannier.engine.results import PlannedStep
    from pannier.engine.settings import EngineSettings
    from pannier.engine.store import Store
    from pannier.engine.telling import Teller
    from pannier.engine.volumes import VolumeStore
    from pannier.engine.workers import Workers

__all__ = ["Creator"]


@dataclass(frozen=True, slots=True)
class _Wish:
    """A container to make, with what only the event loop's thread may look up."""

    id: str
    name: str
    options: CreateOptions
    host: HostOptions
    namespace: Namespace
    networks: Mapping[str, EndpointOptions]
    inherited: tuple[MountPoint, ...]
    idmap: IdMap | None


@dataclass(slots=True)
class Creator:
    """Makes containers."""

    settings: EngineSettings
    folder: Path
    registry: Registry
    store: Store
    drivers: DriverSet
    images: ImageSource
    volumes: VolumeStore
    endpoints: Endpoints
    launcher: Launcher
    lifecycle: Lifecycle
    events: Events
    teller: Teller
    workers: Workers

    @uninterrupted
    async def create(self, options: CreateOptions) -> CreateResult:
        """Make a container.

        :raises InvalidRequest: what was asked contradicts itself, or names a network or container
            that does not exist.
        :raises Conflict: the name is taken.
        :raises NotFound: the image does not exist.
        """
        wish = self._wish(options)
        name = self.registry.reserve(options.name, wish.id)
        wish = replace(wish, name=name)
        mounts = mounting.Mounting(list(wish.inherited))
        try:
            container = await self.workers.patiently(self._make, wish, mounts)
            self.registry.add(Live(container))
        except BaseException:
            self.registry.release(name)
            raise
        finally:
            for volume_name in mounts.held:
                self.volumes.release(volume_name)
        for volume in mounts.made:
            self.events.publish(Event("volume", "create", volume.name, {"driver": volume.driver}))
        self.teller.container(container, "create")
        return CreateResult(container, _warnings(container, wish))

    async def explain(self, options: CreateOptions) -> list[PlannedStep]:
        """Return every step that creating and starting a container would take; take none.

        :raises PannierError: as :meth:`create`.
        """
        wish = self._wish(options)
        container = await self.workers.run(self._draft, replace(wish, name="explained"))
        launch = self.lifecycle.launch(container)

        def describe() -> list[PlannedStep]:
            conductor = Describing()
            storage = self.drivers.storage_of(container.storage_driver)
            layer = storage.plan_create_container(self._layer(container))
            conductor.run("storage", layer, None)
            self.launcher.conduct(launch, conductor, [])
            return conductor.steps

        return await self.workers.run(describe)

    # On the event loop's thread.

    def _wish(self, options: CreateOptions) -> _Wish:
        try:
            return self._checked(options)
        except NotFound as error:
            # Docker's client takes "not found" for the image's, and would go and pull it.
            raise InvalidRequest(str(error), hint=error.hint) from error

    def _checked(self, options: CreateOptions) -> _Wish:
        validate.check(options.config, options.host)
        host = self._complete_host(options.host)
        security.parse(host.security_options)
        caps.choose(host.cap_add, host.cap_drop, privileged=host.privileged)
        namespace = self.endpoints.namespace(host.network_mode)
        if namespace.kind == "container":
            donor = self.registry.find(namespace.container or "").container
            driver = host.network_mode.partition(":")[0]
            host = replace(host, network_mode=f"{driver}:{donor.id}")
            namespace = replace(namespace, container=donor.id)
        validate.check_network(options.config, host, namespace)
        idmap = None if host.userns_mode == "host" else self.settings.userns_remap
        if idmap is not None:
            _check_remapped(host, namespace)
        return _Wish(
            id=secrets.token_hex(32),
            name="",
            options=options,
            host=host,
            namespace=namespace,
            networks=self.endpoints.complete(host.network_mode, options.networks),
            inherited=tuple(mounting.inherited(host, self.registry)),
            idmap=idmap,
        )

    def _complete_host(self, host: HostOptions) -> HostOptions:
        self.drivers.runtime(host.runtime)
        storage = _storage_of(host)
        if storage and storage not in self.drivers.storages:
            raise InvalidRequest(
                f"unknown or invalid storage driver name: {storage}",
                hint=f"storage drivers: {', '.join(self.drivers.storages)}",
            )
        return replace(
            host,
            runtime=host.runtime or self.drivers.default_runtime,
            limits=resolve.complete_limits(host.limits),
            pid_mode=self._by_id(host.pid_mode),
            ipc_mode=self._by_id(host.ipc_mode),
        )

    def _by_id(self, mode: str) -> str:
        kind, _, ref = mode.partition(":")
        if kind != "container":
            return mode
        return f"container:{self.registry.find(ref).container.id}"

    # On a worker thread.

    def _make(self, wish: _Wish, mounts: mounting.Mounting) -> Container:
        transaction = Transaction()
        folder = self.folder / wish.id
        with self._image(wish.options, _storage_of(wish.host)) as facts:
            try:
                mounting.check_specs(wish.options.host.mounts)
                config = resolve.merge(wish.options.config, facts.config)
                container = self._container(wish, facts, config)
                transaction.run(_folder_plan(folder))
                storage = self.drivers.storage_of(container.storage_driver)
                transaction.run(storage.plan_create_container(self._layer(container)))
                undo = Action(Step("make", "volumes"), lambda: None, lambda: self._unmake(mounts))
                transaction.run(Plan("engine", [undo], lambda: None))
                specs = wish.options.host.mounts
                with imagemounts.held(specs, self.images, container) as images:
                    mounting.fill(mounts, specs, config, self.volumes, images)
                    container = replace(container, mounts=tuple(mounts.points))
                    self._copy_up(container)
                    self.store.add(container)
            except BaseException:
                transaction.rollback()
                raise
        return container

    @contextlib.contextmanager
    def _image(self, options: CreateOptions, storage: str = "") -> Iterator[ImageFacts]:
        if options.rootfs:
            yield ImageFacts("", None, ContainerConfig())
        else:
            with self.images.hold(options.config.image, options.platform, storage) as facts:
                yield facts

    def _draft(self, wish: _Wish) -> Container:
        with self._image(wish.options) as facts:
            mounting.check_specs(wish.options.host.mounts)
            config = resolve.merge(wish.options.config, facts.config)
            container = self._container(wish, facts, config)
        points = mounting.preview(wish.options.host.mounts, config, self.volumes)
        return replace(container, mounts=(*wish.inherited, *points))

    def _container(self, wish: _Wish, facts: ImageFacts, config: ContainerConfig) -> Container:
        options = wish.options
        limits = resolve.enforceable_swap(
            wish.host.limits, options.host.limits, self.drivers.resources
        )
        if not config.hostname and wish.namespace.kind != "container":
            shared = wish.namespace.kind == "host" or wish.host.uts_mode == "host"
            config = replace(config, hostname=self.settings.hostname if shared else wish.id[:12])
        if options.rootfs and not Path(options.rootfs).is_absolute():
            raise InvalidRequest(f"the rootfs {options.rootfs!r} is no absolute path")
        container = Container(
            id=wish.id,
            name=wish.name,
            created=time.time_ns(),
            image_id=facts.id,
            image_name=config.image or options.rootfs,
            parent=facts.parent,
            args=resolve.command_line(config),
            config=config,
            host=replace(wish.host, limits=limits, log=complete_log(self.drivers, wish.host.log)),
            networks=wish.networks,
            mounts=wish.inherited,
            rootfs=options.rootfs,
            storage_driver=_storage_of(wish.host) or self.drivers.default_storage,
            platform=facts.platform.partition("/")[0],
            idmap=wish.idmap,
            step=options.step,
        )
        spec.check(container, self.settings.default_ulimits)
        return container

    def _layer(self, container: Container) -> ContainerLayer:
        size = container.host.storage_options.get("size", "")
        return ContainerLayer(
            key=container.id,
            parent=container.parent,
            rootfs=Path(container.rootfs) if container.rootfs else None,
            size_limit=parse_size(size, "storage-opt size") if size else None,
            skeleton=SKELETON,
            disposable=container.host.auto_remove,
        )

    def _copy_up(self, container: Container) -> None:
        wanting = [point for point in container.mounts if mounting.wants_copy(point)]
        if not wanting or container.parent is None:
            return
        storage = self.drivers.storage_of(container.storage_driver)
        plan = storage.plan_open_root(container.id, idmap=container.idmap)
        root = Transaction().run(plan)
        try:
            mounting.copy_up(wanting, root)
        finally:
            os.close(root)

    def _unmake(self, mounts: mounting.Mounting) -> None:
        for name in mounts.held:
            self.volumes.release(name)
        mounts.held.clear()
        for volume in mounts.made:
            with contextlib.suppress(Conflict):  # another container has it meanwhile
                self.volumes.discard(volume.name, partial(users_of, self.registry))
        mounts.made.clear()


def _storage_of(host: HostOptions) -> str:
    """Return the storage driver that is asked for; empty for the default."""
    return host.storage_options.get("driver", "")


def _folder_plan(folder: Path) -> Plan[None]:
    action = Action(
        Step("create folder", str(folder)),
        lambda: folder.mkdir(mode=0o700),
        lambda: shutil.rmtree(folder, ignore_errors=True),
    )
    return Plan("engine", [action], lambda: None)


def _check_remapped(host: HostOptions, namespace: Namespace) -> None:
    if host.privileged:
        raise InvalidRequest(
            "privileged mode is incompatible with user namespaces. You must run the container in "
            "the host namespace when running privileged mode",
            hint="add --userns host",
        )
    if namespace.kind == "host":
        raise InvalidRequest(
            "cannot share the host's network namespace when user namespaces are enabled",
            hint="add --userns host",
        )
    if host.pid_mode == "host":
        raise InvalidRequest(
            "cannot share the host PID namespace when user namespaces are enabled",
            hint="add --userns host",
        )


def _warnings(container: Container, wish: _Wish) -> tuple[str, ...]:
    host = container.host
    found = []
    if host.limits != wish.host.limits:
        found.append(resolve.NO_SWAP_LIMIT)
    if wish.namespace.kind == "host" and (host.ports or host.publish_all):
        found.append("Published ports are discarded when using host network mode")
    if host.limits.oom_kill_disable and not host.limits.memory:
        found.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can "
            "result in the system running out of resources."
        )
    return tuple(found)
