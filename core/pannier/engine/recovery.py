"""The engine's start: what runs is taken over again, what was left half done is cleared away.

The database says what was acknowledged; the drivers say what is there. Each container that should
run and does is watched again. One that ended meanwhile is handled as if its end were seen now.
Whatever the drivers have and the database does not know was being made or being removed when the
engine was killed, and goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pannier.drivers.network import NetworkCapability
from pannier.drivers.runtime import ExitEvent
from pannier.engine import links
from pannier.engine.model import Status
from pannier.engine.registry import Live
from pannier.engine.supervision import wants_restart
from pannier.engine.volumes import users_of
from pannier.errors import InvalidRequest, NotFound, PannierError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pannier.bounded import Patience
    from pannier.drivers.base import Driver
    from pannier.drivers.network import Endpoint, EndpointRequest
    from pannier.drivers.runtime import RuntimeDriver, RuntimeWatch
    from pannier.driverset import DriverSet
    from pannier.engine.endpoints import Endpoints
    from pannier.engine.health import HealthMonitor
    from pannier.engine.launching import Launcher
    from pannier.engine.model import Container
    from pannier.engine.networkstore import NetworkStore
    from pannier.engine.registry import Registry
    from pannier.engine.sharedmemory import SharedMemory
    from pannier.engine.store import Store
    from pannier.engine.supervision import Supervisor
    from pannier.engine.volumes import VolumeStore
    from pannier.engine.wiring import Wiring
    from pannier.engine.workers import Workers

__all__ = ["Recovery"]

_log = logging.getLogger("pannier.engine")

UNKNOWN_STATUS = 255
"""The exit code of a container of which nothing is left, after a reboot for instance."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What became of a container that should run.

    :param pid: 0 where nothing is left of it.
    :param unknown: why its runtime does not say; then it may well run.
    """

    pid: int = 0
    watch: RuntimeWatch | None = None
    unknown: PannierError | None = None


@dataclass(slots=True)
class Recovery:
    """Brings memory, database, disk and kernel to agree; once, before anything is served.

    :param patience: asks the drivers, so that none that hangs keeps the engine from its start.
    """

    folder: Path
    registry: Registry
    store: Store
    drivers: DriverSet
    networks: NetworkStore
    volumes: VolumeStore
    endpoints: Endpoints
    wiring: Wiring
    launcher: Launcher
    supervisor: Supervisor
    memory: SharedMemory
    health: HealthMonitor
    workers: Workers
    patience: Patience

    async def run(self) -> None:
        """Recover. Restarts and removals that follow from it go on in the background."""
        containers = await self.workers.bulk(lambda: list(self.store.containers()))
        for container in containers:
            self.registry.add(Live(container, keep=container.state.restart_asked))
        users = partial(users_of, self.registry)
        doomed = await self.workers.bulk(self.volumes.settle, users)
        # Nobody waits for this: files that are unlinked take the filesystem its time.
        self.workers.spawn(self.workers.bulk(self.volumes.clear, doomed))
        await self.workers.bulk(self.networks.open, self.patience)
        found = await self.workers.bulk(self._look, containers)
        await self.workers.bulk(self._clear, containers, set(found))
        lost = []
        for live in self.registry:
            what = found.get(live.container.id)
            if what is None:
                continue
            if what.watch is None and what.unknown is None:
                lost.append(live)
                continue
            if what.pid:
                live.set_state(replace(live.container.state, pid=what.pid))
            live.begun = self._begun(live.container)
        await self.workers.bulk(self._reconcile)
        for live, kept in await self.workers.bulk(self._reserve):
            live.kept += kept
        await self._rewire(found)
        for live in self.registry:
            what = found.get(live.container.id)
            if what is not None and (what.watch is not None or what.unknown is not None):
                self.health.resume(live)
                self.supervisor.watch(live, what.watch, broken=what.unknown)
        for live in lost:
            await self._lost(live)
        self._follow_policies(found)

    def _begun(self, container: Container) -> float:
        ran = max(time.time_ns() - container.state.started, 0) / 1e9
        return asyncio.get_running_loop().time() - ran

    # On a worker thread.

    def _look(self, containers: list[Container]) -> dict[str, _Found]:
        """Return what is left of each container that should run."""
        found = {}
        for container in containers:
            if not container.state.running:
                continue
            found[container.id] = _Found()
            try:
                runtime = self.launcher.runtime(container)
                look = partial(self._look_at, runtime, container.id)
                found[container.id] = self.patience.ask(runtime, look)
            except (NotFound, InvalidRequest) as error:
                _log.warning("%s is lost: %s", container.id[:12], error)
            except PannierError as error:
                found[container.id] = _Found(unknown=error)
        return found

    @staticmethod
    def _look_at(runtime: RuntimeDriver, id: str) -> _Found:
        state = runtime.state(id)
        # One that was never let go cannot have been acknowledged as running.
        if state.status == "created":
            return _Found()
        return _Found(state.pid, runtime.watch(id))

    def _clear(self, containers: list[Container], running: set[str]) -> None:
        """Take away what nobody knows, and what stopped containers still have."""
        known = {container.id for container in containers}
        for runtime in self.drivers.runtimes.values():
            # Twice: a monitor that was ending by itself can have been in the first one's way.
            for _ in range(2):
                self._sweep_driver("process", runtime, runtime.containers, running, runtime.delete)
        self._clear_groups(containers, running)
        for storage in self.drivers.storages.values():
            remove = storage.remove_container
            self._sweep_driver("layer", storage, storage.containers, known, remove)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep(
            "folder",
            lambda: (path.name for path in self.folder.iterdir()),
            known,
            lambda name: shutil.rmtree(self.folder / name, ignore_errors=True),
        )
        self.memory.tidy(running)
        self.launcher.volumes.recover(containers)

    def _clear_groups(self, containers: list[Container], running: set[str]) -> None:
        """Remove the control groups of containers that do not run, and no others.

        That a group is where ours are does not make it ours: it may be an administrator's, the
        parent of some of our own, or another engine's. Ours has a row for as long as it is there.
        """
        resources = self.drivers.resources
        ask = partial(self.patience.ask, resources)
        ended = {one.id: one.host.cgroup_parent for one in containers if one.id not in running}
        usual = {id for id, parent in ended.items() if not parent}
        # As a rule there are none: a listing is cheaper than to try it for each.
        self._sweep(
            "control group",
            lambda: ask(lambda: usual.intersection(resources.groups())),
            set(),
            lambda one: ask(partial(resources.delete, one)),
        )
        for id, parent in ended.items():
            if not parent:
                continue
            try:
                ask(partial(resources.delete, id, parent))
            except InvalidRequest:
                pass  # such a parent has never had a group
            except Exception as error:  # noqa: BLE001 - as in _sweep
                _log.warning("%s: a control group may be left over: %s", id[:12], error)

    def _sweep_driver(
        self,
        what: str,
        driver: Driver,
        there: Callable[[], Iterable[str]],
        keep: set[str],
        remove: Callable[[str], object],
    ) -> None:
        """As :meth:`_sweep`, of what a driver has."""
        ask = partial(self.patience.ask, driver)
        self._sweep(what, lambda: ask(there), keep, lambda one: ask(partial(remove, one)))

    def _sweep(
        self,
        what: str,
        there: Callable[[], Iterable[str]],
        keep: set[str],
        remove: Callable[[str], object],
    ) -> None:
        try:
            found = [id for id in there() if id not in keep]
        except Exception:  # noqa: BLE001 - one driver's failure must not keep the others from going on
            _log.exception("what is left over of each %s could not be found", what)
            return
        for id in found:
            try:
                remove(id)
            except Exception as error:  # noqa: BLE001 - as above
                _log.warning("%s: a %s that was left over stays: %s", id[:12], what, error)
            else:
                _log.info("%s: cleared away a %s that was left over", id[:12], what)

    def _reconcile(self) -> None:
        """Tell every network driver which endpoints are in use."""
        held: dict[str, list[tuple[EndpointRequest, Endpoint]]] = {
            id: [] for id in self.drivers.networks
        }
        for live in self.registry:
            container = live.container
            if not container.state.running:
                continue
            for joining in self.endpoints.attached(container):
                endpoint = container.endpoints[joining.network.name]
                held[joining.network.driver].append((joining.request, endpoint))
        for id, driver in self.drivers.networks.items():
            try:
                self.patience.ask(driver, partial(driver.reconcile, held[id]))
            except Exception as error:  # noqa: BLE001 - as above
                _log.warning("the network driver %s could not be reconciled: %s", id, error)

    def _reserve(self) -> list[tuple[Live, tuple[int, ...]]]:
        """Return descriptors that reserve the ports which only the last engine reserved."""
        found = []
        for live in self.registry:
            state, endpoints = live.container.state, live.container.endpoints.values()
            ports = {*state.reserved, *(port for one in endpoints for port in one.ports)}
            if not state.running or not ports:
                continue
            for driver in self.drivers.networks.values():
                if NetworkCapability.PUBLISH not in driver.capabilities:
                    continue
                try:
                    kept = self.patience.ask(driver, partial(driver.reserve, ports))
                    found.append((live, tuple(map(int, kept))))
                except Exception as error:  # noqa: BLE001 - as above
                    _log.warning(
                        "%s: its ports are not reserved: %s", live.container.id[:12], error
                    )
        return found

    # On the event loop's thread.

    async def _rewire(self, found: dict[str, _Found]) -> None:
        """Put right what follows from networks that were being joined or left.

        The links themselves the drivers have taken away, or hold, as the records say.
        """
        for live in self.registry:
            container = live.container
            what = found.get(container.id)
            if not container.state.rewiring or what is None or not what.pid:
                continue
            linked = links.there(container, self.registry, named=self.endpoints.named(container))
            try:
                settle = self.wiring.settle
                live.container, kept = await self.workers.run(settle, container, linked, route=True)
                live.kept += kept
            except PannierError as error:
                _log.warning("%s: its networks are not all in use: %s", container.id[:12], error)

    async def _lost(self, live: Live) -> None:
        """Handle a container that should run and of which the runtime knows nothing."""
        event = ExitEvent(live.container.id, None, UNKNOWN_STATUS, time.time(), lost=True)
        async with live.lock:
            await self.supervisor.settle(live, event)

    def _follow_policies(self, found: dict[str, _Found]) -> None:
        for live in self.registry:
            container = live.container
            state = container.state
            if state.restart_asked:
                self.supervisor.finish_restart(live)
                continue
            if container.id in found:
                continue
            with contextlib.suppress(PannierError):
                if state.status is Status.RESTARTING:
                    self.supervisor.restart_soon(live)
                elif container.host.auto_remove and state.started:
                    self.supervisor.remove_later(live)
                elif state.status is Status.EXITED and wants_restart(container, state):
                    self.supervisor.restart_soon(live)
