"""What happens when a container ends: its exit noted, its leavings cleared, its policy followed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pannier.drivers.operations import Abandonment
from pannier.drivers.runtime import DetachEvent
from pannier.engine import healthstate, waiting
from pannier.engine.model import ContainerState, Status
from pannier.engine.watching import Watching
from pannier.errors import PannierError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pannier.drivers.runtime import ExitEvent, RuntimeWatch
    from pannier.driverset import DriverSet
    from pannier.engine.deliveries import Deliveries
    from pannier.engine.dns import NameService
    from pannier.engine.endpoints import Endpoints, Joining
    from pannier.engine.health import HealthMonitor
    from pannier.engine.launching import Launcher
    from pannier.engine.model import Container
    from pannier.engine.ooms import Ooms
    from pannier.engine.registry import Live
    from pannier.engine.sharedmemory import SharedMemory
    from pannier.engine.store import Store
    from pannier.engine.telling import Teller
    from pannier.engine.workers import Workers

__all__ = ["Exits", "Supervisor", "wants_restart"]

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 60.0
SETTLING = 2.0
"""Seconds that an inspection waits for an end to be noted."""
STEADY = 10.0
"""Seconds of running after which a container counts as steady again."""

_log = logging.getLogger("pannier.engine")

LOST = "the container's monitor was lost, and its exit status with it"


def wants_restart(container: Container, state: ContainerState) -> bool:
    """Whether the restart policy has a container started after an exit in *state*."""
    policy = container.host.restart
    if policy.name == "always":
        return True
    if policy.name == "unless-stopped":
        return not state.manually_stopped
    if policy.name == "on-failure":
        tries_left = policy.maximum == 0 or state.restart_count < policy.maximum
        return state.exit_code != 0 and tries_left
    return False


def next_backoff(backoff: float, ran: float) -> float:
    """Return the seconds to wait before a restart, after those waited last and those it ran."""
    if ran >= STEADY or not backoff:
        return FIRST_BACKOFF
    return min(backoff * 2, LONGEST_BACKOFF)


@dataclass(slots=True)
class Exits:
    """What the supervisor has others do; set once, when the engine is wired.

    :param start: starts a container again.
    :param restart: finishes a user's restart.
    :param remove: removes a container that was run with ``--rm``.
    :param exec_ended: takes note of an exec's end.
    """

    start: Callable[[Live], Coroutine[object, object, None]]
    restart: Callable[[Live], Coroutine[object, object, None]]
    remove: Callable[[Live], Coroutine[object, object, None]]
    exec_ended: Callable[[Live, ExitEvent], None]


@dataclass(slots=True)
class Supervisor:
    """Watches containers and handles their exits."""

    store: Store
    drivers: DriverSet
    endpoints: Endpoints
    launcher: Launcher
    names: NameService
    memory: SharedMemory
    health: HealthMonitor
    deliveries: Deliveries
    ooms: Ooms
    teller: Teller
    workers: Workers
    exits: Exits | None = None
    closing: bool = field(default=False)
    watching: Watching = field(init=False)

    def __post_init__(self) -> None:
        self.watching = Watching(self.launcher, self.workers, self._told)

    def watch(
        self,
        live: Live,
        watch: RuntimeWatch | None,
        *,
        fresh: bool = False,
        broken: PannierError | None = None,
    ) -> None:
        """Begin to watch a running container.

        :param fresh: it was just started.
        :param broken: why there is no watch; its runtime is then asked for one later.
        """
        self.deliveries.begin(live.container)
        self.ooms.begin(live, fresh=fresh)
        if watch is not None:
            self.watching.begin(live, watch)
        elif broken is not None:
            self.watching.breaks(live, broken)

    def drain(self, live: Live) -> None:
        """Handle the events that are there; does not wait for any."""
        self.watching.drain(live)

    def _told(self, live: Live, event: ExitEvent | DetachEvent) -> None:
        assert self.exits is not None
        if isinstance(event, DetachEvent):
            self._left(live, event)
        elif event.exec_id is not None:
            self.exits.exec_ended(live, event)
        else:
            self.unwatch(live)
            live.ending = True
            self.workers.spawn(self._exited(live, event))

    def _left(self, live: Live, event: DetachEvent) -> None:
        if event.exec_id is None:
            self.teller.container(live.container, "detach")
        else:
            self.teller.container(live.container, "exec_detach", execID=event.exec_id)

    def unwatch(self, live: Live) -> None:
        """Stop watching. Idempotent."""
        self.watching.end(live)

    async def _exited(self, live: Live, event: ExitEvent) -> None:
        async with live.lock:
            try:
                if not live.removed and live.container.state.running:
                    await self.settle(live, event)
            finally:
                live.ending = False

    async def settled(self, live: Live) -> None:
        """Wait until an end is noted that the runtime has told of.

        Who saw a container's streams close may ask for its state before the event loop has looked.
        """
        self.drain(live)
        if live.ending and live.container.state.running:
            ended = waiting.register(live, "not-running")
            with contextlib.suppress(TimeoutError):  # what it is asked for is to know, not to wait
                await asyncio.wait_for(ended, SETTLING)

    async def settle(self, live: Live, event: ExitEvent) -> None:
        """Handle the exit of a container whose lock is held."""
        self.health.halt(live)
        told = self.ooms.end(live)
        ran = asyncio.get_running_loop().time() - live.begun
        restarts = self._restarts(live, event)
        before = live.container
        live.container = await self._noted(before, event, restarts=restarts)
        self.deliveries.ended(live.container)
        self._end_execs(live, event)
        state = live.container.state
        if state.oom_killed and not told:
            self.teller.container(live.container, "oom")
        self.teller.container(
            live.container,
            "die",
            exitCode=str(state.exit_code),
            execDuration=str(max(int(ran), 0)),
        )
        waiting.resolve(live)
        joinings = self.endpoints.attached(before)
        await self.clear(live, before, joinings)
        for joining in joinings:
            self.teller.network(live.container, joining.network, "disconnect")
        self.teller.volumes(live.container, "unmount")
        live.stopped.set()
        if restarts:
            self._restart_later(live, ran)
        elif live.container.host.auto_remove and not live.keep:
            self.remove_later(live)

    def _restarts(self, live: Live, event: ExitEvent) -> bool:
        container = live.container
        state = replace(container.state, exit_code=event.exit_status)
        return not live.stopping and not self.closing and wants_restart(container, state)

    async def _noted(self, container: Container, event: ExitEvent, *, restarts: bool) -> Container:
        """Put an exit into the database, with what the resource driver knows of its reason."""
        try:
            return await self.workers.run(self._note, container, event, restarts=restarts)
        except PannierError as error:
            # It hangs. What is lost is a word; a container that never ends would be worse.
            _log.warning("%s: its end is noted without: %s", container.id[:12], error)
        return await self.workers.run(self._save_exit, container, event, restarts=restarts)

    def _note(self, container: Container, event: ExitEvent, *, restarts: bool) -> Container:
        """As :meth:`_noted`; on a worker thread."""
        parent = container.host.cgroup_parent
        try:
            events = self.drivers.resources.events(container.id, parent)
            oom_killed = events.oom_kill > 0
        except PannierError:
            oom_killed = False
        Abandonment.check()
        return self._save_exit(container, event, restarts=restarts, oom_killed=oom_killed)

    def _save_exit(
        self,
        container: Container,
        event: ExitEvent,
        *,
        restarts: bool,
        oom_killed: bool = False,
    ) -> Container:
        state = replace(
            container.state,
            status=Status.RESTARTING if restarts else Status.EXITED,
            pid=0,
            exit_code=event.exit_status,
            error=LOST if event.lost else "",
            oom_killed=oom_killed,
            finished=int(event.finished * 1e9) or time.time_ns(),
            restart_count=container.state.restart_count + restarts,
            health=healthstate.halted(container.state.health),
            rewiring=False,
            reserved=(),
        )
        container = replace(container, state=state, endpoints={})
        self.store.save_state(container)
        return container

    def _end_execs(self, live: Live, event: ExitEvent) -> None:
        assert self.exits is not None
        for exec_id in tuple(live.execs):
            ended = replace(event, exec_id=exec_id, exit_status=137)
            self.exits.exec_ended(live, ended)

    async def clear(self, live: Live, container: Container, joinings: list[Joining]) -> None:
        """Take away what a container had while it ran. Errors are left to the next start."""
        for descriptor in live.kept:
            os.close(descriptor)
        live.kept = ()
        self.names.close(container.id)
        try:
            await self.workers.run(self.clear_now, container, joinings)
        except PannierError as error:
            _log.warning("%s: not all could be cleared away: %s", container.id[:12], error)

    def clear_now(self, container: Container, joinings: list[Joining]) -> None:
        """As :meth:`clear`; on a worker thread. Idempotent."""
        parent = container.host.cgroup_parent
        steps: list[Callable[[], object]] = [
            lambda: self.launcher.runtime(container).delete(container.id)
        ]
        steps += [partial(joining.driver.detach, joining.request, None) for joining in joinings]
        steps.append(lambda: self.drivers.resources.delete(container.id, parent))
        if container.host.ipc_mode == "shareable":
            steps.append(lambda: self.memory.remove(container.id))
        steps.append(lambda: self.launcher.volumes.unmount(container))
        for step in steps:
            # What hung, and comes back, must not clear away what a later start has made.
            Abandonment.check()
            try:
                step()
            except (PannierError, OSError) as error:
                _log.warning("%s: not all could be cleared away: %s", container.id[:12], error)

    # The restart policy.

    def _restart_later(self, live: Live, ran: float) -> None:
        live.backoff = next_backoff(live.backoff, ran)
        loop = asyncio.get_running_loop()
        live.restart = loop.call_later(live.backoff, self._restart_now, live)

    def _restart_now(self, live: Live) -> None:
        assert self.exits is not None
        live.restart = None
        if not self.closing:
            self.workers.spawn(self.exits.start(live))

    def failed_restart(self, live: Live) -> None:
        """Follow the policy after a restart that did not come off; the lock is held."""
        state = live.container.state
        if wants_restart(live.container, state) and not self.closing:
            live.set_state(
                replace(state, status=Status.RESTARTING, restart_count=state.restart_count + 1)
            )
            self._restart_later(live, 0.0)
            return
        live.set_state(replace(state, status=Status.EXITED))
        self.workers.spawn(self.workers.run(self.store.save_state, live.container))
        waiting.resolve(live)

    def restart_soon(self, live: Live) -> None:
        """Start a container in the background, as its policy says; at the engine's start."""
        live.set_state(replace(live.container.state, status=Status.RESTARTING))
        assert self.exits is not None
        self.workers.spawn(self.exits.start(live))

    def finish_restart(self, live: Live) -> None:
        """Go on with a user's restart, in the background; at the engine's start."""
        assert self.exits is not None
        self.workers.spawn(self.exits.restart(live))

    def remove_later(self, live: Live) -> None:
        """Remove a container that was run with ``--rm``, in the background."""
        assert self.exits is not None
        self.workers.spawn(self.exits.remove(live))
