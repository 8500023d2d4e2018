"""Removing containers, whole: the row first, then all that it stood for."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pannier.engine import waiting
from pannier.engine.filters import label_matches, refuse_unknown, until
from pannier.engine.model import Status
from pannier.engine.results import Event, PruneResult
from pannier.engine.volumes import users_of
from pannier.engine.workers import uninterrupted
from pannier.errors import Conflict, DriverUnavailable, InvalidRequest, NotFound, PannierError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pannier.driverset import DriverSet
    from pannier.engine.deliveries import Deliveries
    from pannier.engine.events import Events
    from pannier.engine.lifecycle import Lifecycle
    from pannier.engine.model import Container
    from pannier.engine.registry import Live, Registry
    from pannier.engine.store import Store
    from pannier.engine.telling import Teller
    from pannier.engine.volumes import VolumeStore
    from pannier.engine.workers import Workers

__all__ = ["Remover"]

_log = logging.getLogger("pannier.engine")


@dataclass(slots=True)
class Remover:
    """Removes containers."""

    folder: Path
    registry: Registry
    store: Store
    drivers: DriverSet
    volumes: VolumeStore
    lifecycle: Lifecycle
    deliveries: Deliveries
    events: Events
    teller: Teller
    workers: Workers

    @uninterrupted
    async def remove(self, live: Live, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container.

        :param force: a running one is killed first.
        :param volumes: its anonymous volumes go, too.
        :raises Conflict: it runs, or is being removed already.
        """
        container = live.container
        state = container.state
        if state.status is Status.REMOVING:
            raise Conflict(f"removal of container {container.id} is already in progress")
        if state.running or state.status is Status.RESTARTING:
            if not force:
                what = (
                    "container is paused and must be unpaused first"
                    if state.status is Status.PAUSED
                    else f"container is {state.status}: stop the container before removing or "
                    f"force remove"
                )
                raise Conflict(f'cannot remove container "/{container.name}": {what}')
            await self.lifecycle.force_stop(live)
        async with live.lock:
            if live.removed:
                if force:
                    return
                raise NotFound(f"No such container: {container.id}")
            if live.container.state.running:
                raise Conflict(f'cannot remove container "/{container.name}": it was started again')
            await self.remove_locked(live, volumes=volumes or container.host.auto_remove)

    async def remove_automatically(self, live: Live) -> None:
        """Remove a container that was run with ``--rm`` and has ended."""
        async with live.lock:
            if not live.removed and not live.container.state.running:
                await self.remove_locked(live, volumes=True)

    async def remove_locked(self, live: Live, *, volumes: bool) -> None:
        """Remove a stopped container whose lock is held."""
        self.lifecycle.cancel_restart(live)
        before = live.container
        live.set_state(replace(before.state, status=Status.REMOVING))
        await self.deliveries.finish(before)
        doomed = [
            point.name
            for point in before.mounts
            if volumes and point.anonymous and users_of(self.registry, point.name) == [before.id]
        ]
        try:
            await self.workers.run(self._remove, before, doomed)
        except PannierError as error:
            state = replace(before.state, status=Status.DEAD, error=str(error))
            live.set_state(state)
            raise
        live.removed = True
        # Nobody waits for this: files that are unlinked take the filesystem its time.
        folder = self.folder / before.id
        self.workers.spawn(self.workers.bulk(shutil.rmtree, folder, ignore_errors=True))
        self.lifecycle.forget_clients(live)
        self.registry.remove(live)
        self.teller.container(before, "destroy")
        waiting.resolve(live, removed=True)
        for name in doomed:
            try:
                gone = await self.workers.bulk(self.volumes.discard, name, self._users)
            except PannierError:  # a new container is about to have it
                continue
            if gone:
                self.events.publish(Event("volume", "destroy", name, {"driver": "local"}))

    def _users(self, volume: str) -> list[str]:
        return users_of(self.registry, volume)

    def _remove(self, container: Container, doomed: list[str]) -> None:
        self._remove_group(container)
        # The row goes first: what is then left without one, the next start clears away, and so it
        # does with the volumes that are to go, too. The other way round a kill would leave a
        # container without its files.
        self.store.delete(container.id, doomed)
        try:
            self._remove_layer(container)
        except BaseException:
            dead = replace(container, state=replace(container.state, status=Status.DEAD))
            self.store.add(dead)
            raise

    def _remove_group(self, container: Container) -> None:
        """Remove what a start that failed, and hangs perhaps, has left of its control group.

        It goes before the row, without which nobody would know any more that it is ours.
        """
        if not container.state.error:
            return
        try:
            self.drivers.resources.delete(container.id, container.host.cgroup_parent)
        except InvalidRequest:
            pass  # such a parent has never had a group, which is why the start failed
        except PannierError as error:
            _log.warning("%s: a control group may be left over: %s", container.id[:12], error)

    def _remove_layer(self, container: Container) -> None:
        try:
            storage = self.drivers.storage_of(container.storage_driver)
        except DriverUnavailable as error:
            # Once the driver is back, the next start finds a layer that nobody knows.
            _log.warning("%s is removed without its files: %s", container.id[:12], error)
            return
        storage.remove_container(container.id)

    async def prune(self, filters: Mapping[str, tuple[str, ...]]) -> PruneResult:
        """Remove all stopped containers.

        :raises InvalidRequest: a filter is not known.
        """
        refuse_unknown(filters, {"label", "label!", "until"})
        limit = until(filters)
        deleted, reclaimed = [], 0
        silent: set[str] = set()
        for live in self.registry:
            container = live.container
            if (
                container.state.status not in {Status.CREATED, Status.EXITED, Status.DEAD}
                or (limit is not None and container.created >= limit)
                or not label_matches(container.config.labels, filters)
            ):
                continue
            try:
                size = await self._measured(container, silent)
                await self.remove(live)
            except (Conflict, NotFound):  # started or removed meanwhile
                continue
            except PannierError as error:
                _log.warning("%s could not be pruned: %s", container.id[:12], error)
                continue
            deleted.append(container.id)
            reclaimed += size
        self.events.publish(Event("container", "prune", "", {"reclaimed": str(reclaimed)}))
        return PruneResult(tuple(deleted), reclaimed)

    async def _measured(self, container: Container, silent: set[str]) -> int:
        """Return a container's size; 0 where it is not to be had, which keeps nothing from going.

        :param silent: the drivers that have failed to answer, which are not asked again.
        """
        if container.storage_driver in silent:
            return 0
        try:
            return await self.workers.bounded(self._size, container)
        except PannierError as error:
            silent.add(container.storage_driver)
            _log.warning("%s is pruned without being measured: %s", container.id[:12], error)
            return 0

    def _size(self, container: Container) -> int:
        try:
            return self.drivers.storage_of(container.storage_driver).usage(container.id).size
        except (NotFound, DriverUnavailable):
            return 0
