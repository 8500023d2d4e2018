"""The containers of this engine, as the server sees them: one service in front of many."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pannier.engine import links, listing, top, waiting
from pannier.engine.model import Status
from pannier.engine.resolve import merge
from pannier.engine.workers import uninterrupted
from pannier.errors import Conflict, DriverUnavailable, InvalidRequest, PannierError

if TYPE_CHECKING:
    import asyncio
    import builtins
    from collections.abc import AsyncIterator, Callable, Mapping

    from pannier.drivers.operations import Timing
    from pannier.drivers.resources import Limits
    from pannier.drivers.storage import Change
    from pannier.driverset import DriverSet
    from pannier.engine.archive import Archives
    from pannier.engine.attach import Attaching
    from pannier.engine.creation import Creator
    from pannier.engine.images import Images
    from pannier.engine.lifecycle import Lifecycle
    from pannier.engine.logs import Logs
    from pannier.engine.model import Container, ContainerConfig, CreateOptions, RestartPolicy
    from pannier.engine.registry import Registry
    from pannier.engine.removal import Remover
    from pannier.engine.results import (
        ContainerQuery,
        CreateResult,
        LogLine,
        PathStat,
        PlannedStep,
        PruneResult,
        Statistics,
        TopResult,
        WaitCondition,
        WaitResult,
    )
    from pannier.engine.sessions import AttachOptions, LogOptions
    from pannier.engine.stats import Measuring
    from pannier.engine.store import Store
    from pannier.engine.telling import Teller
    from pannier.engine.updating import Updater
    from pannier.engine.workers import Workers

__all__ = ["Containers"]

_log = logging.getLogger("pannier.engine")


@dataclass(slots=True)
class Containers:
    """Creates, runs and removes containers.

    *ref* is a name, a full id or an unambiguous prefix of one; all methods raise NotFound for one
    that is not known. What is not said here, the method called says.
    """

    registry: Registry
    store: Store
    drivers: DriverSet
    creator: Creator
    lifecycle: Lifecycle
    remover: Remover
    updater: Updater
    attaching: Attaching
    archives: Archives
    logbook: Logs
    measuring: Measuring
    images: Images
    teller: Teller
    workers: Workers

    # Knowing.

    def get(self, ref: str) -> Container:
        """Return a container."""
        return self.registry.find(ref).container

    async def settled(self, ref: str) -> Container:
        """Return a container, after an end that its runtime has told of was noted."""
        live = self.registry.find(ref)
        await self.lifecycle.supervisor.settled(live)
        return live.container

    def list(self, query: ContainerQuery) -> builtins.list[Container]:
        """Return the containers that a query asks for, newest first.

        :raises InvalidRequest: a filter is not known.
        """
        return listing.select(query, self.registry, self.images.id_of)

    async def sizes(self, ref: str) -> tuple[int, int]:
        """Return the bytes of a container's own layer, and of its whole root.

        :raises DriverError: its storage driver failed, or did not answer in time.
        """
        container = self.get(ref)
        storage = self.drivers.storage_of(container.storage_driver)
        own = (await self.workers.bounded(storage.usage, container.id)).size
        below = 0
        if container.image_id:
            image = await self.images.find(container.image_id)
            below = 0 if image is None else image.size
        return own, own + below

    async def changes(self, ref: str) -> builtins.list[Change]:
        """Return what a container has changed of its image.

        :raises DriverError: its storage driver failed, or did not answer in time.
        """
        container = self.get(ref)
        storage = self.drivers.storage_of(container.storage_driver)
        return await self.workers.bounded(storage.changes, container.id)

    async def driver_data(self, container: Container) -> dict[str, str]:
        """Return what a container's storage driver tells of its layer; empty where it fails to."""
        try:
            storage = self.drivers.storage_of(container.storage_driver)
            return await self.workers.run(storage.driver_data, container.id)
        except DriverUnavailable:
            return {}
        except PannierError as error:
            _log.warning("%s is shown without its layer: %s", container.id[:12], error)
            return {}

    # Living.

    async def create(self, options: CreateOptions) -> CreateResult:
        """Make a container; see :meth:`Creator.create`."""
        return await self.creator.create(options)

    async def explain(self, options: CreateOptions) -> builtins.list[PlannedStep]:
        """Return every step that a creation and start would take, and take none."""
        return await self.creator.explain(options)

    async def start(self, ref: str, *, trace: bool = False) -> None:
        """Start a container; see :meth:`Lifecycle.start`."""
        await self.lifecycle.start(self.registry.find(ref), trace=trace)

    def trace(self, ref: str) -> builtins.list[tuple[str, Timing]]:
        """Return the steps of the last start with ``trace``, each with its driver.

        By its id, also after the container was removed, for a while.
        """
        return self.registry.trace(ref)

    async def stop(
        self,
        ref: str,
        timeout: int | None = None,  # noqa: ASYNC109 - the API's word, and seconds until SIGKILL
        signal: str | None = None,
    ) -> None:
        """Stop a container; see :meth:`Lifecycle.stop`."""
        await self.lifecycle.stop(self.registry.find(ref), timeout, signal)

    async def restart(
        self,
        ref: str,
        timeout: int | None = None,  # noqa: ASYNC109 - as above
        signal: str | None = None,
    ) -> None:
        """Stop a container, if it runs, and start it."""
        await self.lifecycle.restart(self.registry.find(ref), timeout, signal)

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Send a signal; see :meth:`Lifecycle.kill`."""
        await self.lifecycle.kill(self.registry.find(ref), signal)

    async def pause(self, ref: str) -> None:
        """Freeze every process of a container."""
        await self.lifecycle.pause(self.registry.find(ref))

    async def unpause(self, ref: str) -> None:
        """Let a paused container go on."""
        await self.lifecycle.unpause(self.registry.find(ref))

    def wait(self, ref: str, condition: WaitCondition) -> asyncio.Future[WaitResult]:
        """Register a wait, from this call on, and return what to await."""
        return waiting.register(self.registry.find(ref), condition)

    def linked_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names that containers have by others' links to them, by id: ``/web/db``."""
        return links.names(self.registry)

    def links_of(self, container: Container) -> tuple[str, ...]:
        """Return a container's links, each with the other's name and its alias."""
        return tuple(links.shown(container, self.registry))

    @uninterrupted
    async def remove_link(self, name: str) -> None:
        """Remove a link, named ``CONTAINER/ALIAS``; its variables and address stay until a restart.

        :raises InvalidRequest: it is no link's name.
        :raises NotFound: there is no such container or link.
        """
        owner, _, alias = name.strip("/").rpartition("/")
        if not owner:
            raise InvalidRequest("Conflict, cannot remove the default link name of the container")
        live = self.registry.find(owner)
        async with live.lock:
            container = links.without(live.container, alias)
            await self.workers.run(self.store.save, container)
            live.container = replace(
                live.container, host=replace(live.container.host, links=container.host.links)
            )

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container; see :meth:`Remover.remove`."""
        await self.remover.remove(self.registry.find(ref), force=force, volumes=volumes)

    async def prune(self, filters: Mapping[str, tuple[str, ...]]) -> PruneResult:
        """Remove all stopped containers."""
        return await self.remover.prune(filters)

    # Changing.

    @uninterrupted
    async def keep(self, ref: str) -> None:
        """Have the container of a build's step stay as any other."""
        live = self.registry.find(ref)
        async with live.lock:
            live.container = replace(live.container, step=False)
            await self.workers.run(self.store.save, live.container)

    @uninterrupted
    async def rename(self, ref: str, name: str) -> None:
        """Give a container another name.

        :raises InvalidRequest: it is no valid name, or its name already.
        :raises Conflict: it is taken.
        """
        live = self.registry.find(ref)
        async with live.lock:
            before = live.container
            if name.removeprefix("/") == before.name:
                raise InvalidRequest("Renaming a container with the same name as its current name")
            if not name:
                raise InvalidRequest("Neither old nor new names may be empty")
            try:
                name = self.registry.reserve(name, before.id)
            except Conflict as error:
                raise Conflict(f"Error when allocating new name: {error}") from None
            after = replace(before, name=name)
            try:
                await self.workers.run(self.store.save, after)
            except BaseException:
                self.registry.release(name)
                raise
            live.container = after
            self.registry.release(before.name)
        self.teller.container(after, "rename", oldName=f"/{before.name}")

    async def update(
        self,
        ref: str,
        limits: Limits,
        restart: RestartPolicy | None = None,
        *,
        by_cpus: bool = False,
    ) -> tuple[str, ...]:
        """Change a container's limits and restart policy; see :meth:`Updater.update`."""
        live = self.registry.find(ref)
        return await self.updater.update(live, limits, restart, by_cpus=by_cpus)

    @uninterrupted
    async def commit(
        self,
        ref: str,
        *,
        repository: str = "",
        tag: str = "",
        author: str = "",
        message: str = "",
        changes: tuple[str, ...] = (),
        pause: bool = True,
        config: ContainerConfig | None = None,
    ) -> str:
        """Make an image of a container; return its id.

        :param changes: Dockerfile instructions for the image's configuration.
        :param pause: freeze the container meanwhile, if it runs.
        :param config: what the image is to say, in place of the container's; empty fields keep
            the container's.
        """
        live = self.registry.find(ref)
        async with live.lock:
            container = live.container
            if container.state.status in {Status.REMOVING, Status.DEAD}:
                raise Conflict(f"You cannot commit container {container.id} which is being removed")
            parent, resources = container.host.cgroup_parent, self.drivers.resources
            freeze = pause and container.state.status is Status.RUNNING
            async with contextlib.AsyncExitStack() as stack:
                if freeze:
                    await self.workers.run(resources.freeze, container.id, parent)
                    stack.push_async_callback(
                        self.workers.run, resources.thaw, container.id, parent
                    )
                name = f"{repository}:{tag}" if repository and tag else repository
                image = await self.images.commit(
                    container,
                    container.config if config is None else merge(config, container.config),
                    name=name,
                    author=author,
                    message=message,
                    changes=changes,
                )
        told = {"imageID": image, "imageRef": name, "comment": message}
        self.teller.container(container, "commit", **told)
        return image

    # Talking.

    async def attach(
        self,
        ref: str,
        options: AttachOptions,
        socket_fd: int,
        pending: bytes = b"",
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        """Hand a client's socket over; see :meth:`Attaching.attach`."""
        live = self.registry.find(ref)
        await self.attaching.attach(live, options, socket_fd, pending, announce)

    @uninterrupted
    async def resize(self, ref: str, rows: int, columns: int) -> None:
        """Set the size of a container's terminal.

        :raises Conflict: it does not run.
        """
        live = self.registry.find(ref)
        async with live.lock:
            container = live.container
            self.lifecycle.check_running(container)
            runtime = self.lifecycle.runtime(container)
            await self.workers.run(runtime.resize, container.id, rows, columns)
        self.teller.container(container, "resize", height=str(rows), width=str(columns))

    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[LogLine]:
        """Yield a container's lines; errors are raised here, before the first is asked for."""
        return self.logbook.lines(self.registry.find(ref), options)

    def framed_logs(self, ref: str, options: LogOptions) -> AsyncIterator[bytes]:
        """Yield a container's output in big chunks, framed as attach does unless it has a tty."""
        return self.logbook.framed(self.registry.find(ref), options)

    # Looking inside.

    async def top(self, ref: str, ps_args: str = "") -> TopResult:
        """Return a container's processes, as ``ps`` would show them on the host.

        :raises Conflict: it does not run.
        :raises InvalidRequest: a column that is not known is asked for.
        """
        container = self.get(ref)
        self.lifecycle.check_running(container)
        if container.state.status is Status.RESTARTING:
            raise Conflict(f"Container {container.id} is restarting, wait until it is running")
        parent = container.host.cgroup_parent

        def read() -> TopResult:
            return top.top(self.drivers.resources.pids(container.id, parent), ps_args)

        result = await self.workers.run(read)
        self.teller.container(container, "top")
        return result

    async def statistics(self, ref: str) -> Statistics:
        """Take one reading of what a container uses."""
        return await self.measuring.statistics(self.registry.find(ref))

    async def archive_stat(self, ref: str, path: str) -> PathStat:
        """Return what is at a path in a container; see :meth:`Archives.stat`."""
        return await self.archives.stat(self.registry.find(ref), path)

    async def archive_get(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        """Return an archive of a path in a container; see :meth:`Archives.get`."""
        return await self.archives.get(self.registry.find(ref), path)

    async def archive_put(
        self,
        ref: str,
        path: str,
        chunks: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool = False,
        copy_uid_gid: bool = False,
    ) -> None:
        """Unpack an archive in a folder of a container; see :meth:`Archives.put`."""
        await self.archives.put(
            self.registry.find(ref),
            path,
            chunks,
            no_overwrite_dir_non_dir=no_overwrite_dir_non_dir,
            copy_uid_gid=copy_uid_gid,
        )

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """Return a container's whole root as an archive."""
        return await self.archives.export(self.registry.find(ref))
