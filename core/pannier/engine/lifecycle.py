"""Starting and stopping containers: each under its own lock, the drivers' calls on a thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pannier.engine import healthstate, joins, links, waiting
from pannier.engine.clients import hang_up
from pannier.engine.launching import Launch
from pannier.engine.model import Status
from pannier.engine.validate import signal_number
from pannier.engine.workers import uninterrupted
from pannier.errors import Conflict, NotFound, NotModified, PannierError, StartFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.drivers.operations import Timing
    from pannier.drivers.runtime import Connection, RuntimeDriver
    from pannier.driverset import DriverSet
    from pannier.engine.endpoints import Endpoints
    from pannier.engine.health import HealthMonitor
    from pannier.engine.launching import Launcher
    from pannier.engine.model import Container
    from pannier.engine.registry import Live, Registry
    from pannier.engine.settings import EngineSettings
    from pannier.engine.store import Store
    from pannier.engine.supervision import Supervisor
    from pannier.engine.telling import Teller
    from pannier.engine.workers import Workers

__all__ = ["Lifecycle"]

_KILL_PATIENCE = 10.0
"""Seconds that a killed container gets before its control group is killed."""


class _Trace:
    """Keeps the steps of a start with their times."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, Timing]] = []

    def record(self, driver: str, timing: Timing) -> None:
        self.steps.append((driver, timing))


@dataclass(slots=True)
class Lifecycle:
    """Starts, stops, kills and pauses."""

    settings: EngineSettings
    registry: Registry
    store: Store
    drivers: DriverSet
    endpoints: Endpoints
    launcher: Launcher
    supervisor: Supervisor
    health: HealthMonitor
    teller: Teller
    workers: Workers

    # Starting.

    @uninterrupted
    async def start(self, live: Live, *, trace: bool = False) -> None:
        """Start a container.

        :raises NotModified: it runs already.
        :raises Conflict: it is paused, or being removed.
        :raises StartFailed: its process could not be executed.
        """
        async with live.lock:
            self._check_startable(live)
            self._begin_anew(live)
            await self.start_locked(live, trace=trace)

    async def start_again(self, live: Live) -> None:
        """Start a container as its restart policy says, unless it was stopped meanwhile."""
        async with live.lock:
            if live.removed or live.container.state.status is not Status.RESTARTING:
                return
            with contextlib.suppress(PannierError):
                await self.start_locked(live)
                return
            # As after an exit: the policy has it tried again, or gives it up.
            self.supervisor.failed_restart(live)

    def _begin_anew(self, live: Live) -> None:
        """Have the restart policy count from nothing: a user has the container started."""
        live.backoff = 0.0
        live.set_state(replace(live.container.state, restart_count=0))

    def _check_startable(self, live: Live) -> None:
        container = live.container
        if live.removed:
            raise NotFound(f"No such container: {container.id}")
        status = container.state.status
        if status is Status.PAUSED:
            raise Conflict("cannot start a paused container, try unpause instead")
        if status is Status.RUNNING:
            raise NotModified(f"container {container.name} is running already")
        if status in {Status.REMOVING, Status.DEAD}:
            raise Conflict("container is marked for removal and cannot be started")

    async def start_locked(self, live: Live, *, trace: bool = False) -> None:
        """Start a container whose lock is held."""
        self.cancel_restart(live)
        recorder = _Trace() if trace else None
        pending, live.pending = live.pending, []
        try:
            launch = self.launch(live.container, pending)
            # Until the container's record has the endpoints, which is before anybody else's turn.
            with live.changing(joining.network.name for joining in launch.joinings):
                started = await self.workers.run(self.launcher.start, launch, recorder)
        except PannierError as error:
            await self._note_failure(live, error)
            hang_up(pending)
            raise
        finally:
            for connection in pending:
                os.close(connection.socket)
        if recorder is not None:
            self.registry.keep_trace(live.container.id, recorder.steps)
        live.container = started.container
        live.kept = started.kept
        live.stopping = False
        live.begun = asyncio.get_running_loop().time()
        live.stopped.clear()
        for joining in launch.joinings:
            self.teller.network(live.container, joining.network, "connect")
        self.teller.volumes(live.container, "mount")
        self.teller.container(live.container, "start")
        assert started.watch is not None
        self.health.begin(live)
        self.supervisor.watch(live, started.watch, fresh=True)

    def launch(self, container: Container, pending: Iterable[Connection] = ()) -> Launch:
        """Look up what a start needs to know of other containers and networks.

        :raises NotFound: a network or container that it names is not there.
        :raises Conflict: a container that it joins does not run.
        """
        namespace = self.endpoints.namespace(container.host.network_mode)
        return Launch(
            container=container,
            joins=joins.resolve(container, namespace, self.registry),
            joinings=tuple(self.endpoints.joinings(container)),
            # Among users' networks the embedded DNS knows them, and the other need not run yet.
            links=()
            if self.endpoints.named(container)
            else tuple(links.resolve(container, self.registry)),
            connections=tuple(pending),
        )

    async def _note_failure(self, live: Live, error: PannierError) -> None:
        code = 128
        if isinstance(error, StartFailed):
            # What a shell says: 127 where there is no such file, 126 where it is no program.
            code = 127 if error.errno == 2 else 126
        state = replace(live.container.state, exit_code=code, error=str(error), pid=0)
        live.set_state(state)
        await self.workers.run(self.store.save_state, live.container)
        if live.container.host.auto_remove and state.status is not Status.RESTARTING:
            self.supervisor.remove_later(live)

    def cancel_restart(self, live: Live) -> None:
        """Forget a restart to come."""
        if live.restart is not None:
            live.restart.cancel()
            live.restart = None

    def forget_clients(self, live: Live) -> None:
        """Let go of the clients that wait for a start which will not come."""
        pending, live.pending = live.pending, []
        hang_up(pending)
        for connection in pending:
            os.close(connection.socket)

    # Stopping.

    @uninterrupted
    async def stop(
        self,
        live: Live,
        timeout: int | None = None,  # noqa: ASYNC109 - the API's word, and seconds until SIGKILL
        signal_name: str | None = None,
    ) -> None:
        """Stop a container: its stop signal, and after a while SIGKILL.

        :param timeout: seconds; None for the container's own, negative for no end.
        :raises NotModified: it does not run.
        """
        if not _alive(live):
            raise NotModified(f"container {live.container.name} is stopped already")
        config = live.container.config
        number = signal_number(signal_name or config.stop_signal or "SIGTERM")
        if timeout is None:
            timeout = config.stop_timeout
        if timeout is None:
            timeout = self.settings.stop_timeout
        async with live.lock:
            if not await self._end_restarting(live) and live.container.state.running:
                await self._send(live, number, stopping=True)
        if not await self._stopped_within(live, None if timeout < 0 else float(timeout)):
            await self.force_stop(live)
        if not live.removed:
            self.teller.container(live.container, "stop")

    async def force_stop(self, live: Live) -> None:
        """Kill a container, and return once it has stopped."""
        async with live.lock:
            if not await self._end_restarting(live) and live.container.state.running:
                await self._send(live, int(signal.SIGKILL), stopping=True)
        if await self._stopped_within(live, _KILL_PATIENCE):
            return
        container = live.container
        await self.workers.run(
            self.drivers.resources.kill, container.id, container.host.cgroup_parent
        )
        if not await self._stopped_within(live, _KILL_PATIENCE):
            raise Conflict(
                f"tried to kill container, but did not receive an exit event: {container.id}",
                hint="a process in it hangs in the kernel, on a dead network filesystem for one",
            )

    async def _end_restarting(self, live: Live) -> bool:
        """Give up a restart to come; return whether there was one."""
        if live.container.state.status is not Status.RESTARTING:
            return False
        self.cancel_restart(live)
        live.set_state(replace(live.container.state, status=Status.EXITED, manually_stopped=True))
        await self.workers.run(self.store.save_state, live.container)
        waiting.resolve(live)
        return True

    async def _stopped_within(self, live: Live, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await live.stopped.wait()
        except TimeoutError:
            return False
        return True

    async def _send(self, live: Live, number: int, *, stopping: bool) -> None:
        """Send a signal; a paused container is thawed if the signal is to end it."""
        container = live.container
        paused = container.state.status is Status.PAUSED and stopping
        state = container.state
        if stopping:
            live.stopping = True
            state = replace(state, manually_stopped=True)
        if paused:
            state = replace(state, status=Status.RUNNING)
        live.set_state(state)
        self.teller.container(container, "kill", signal=str(number))
        await self.workers.run(self._send_signal, live.container, number, thaw=paused)
        if paused:
            self.teller.container(live.container, "unpause")

    def _send_signal(self, container: Container, number: int, *, thaw: bool) -> None:
        if container.state.manually_stopped:
            self.store.save_state(container)
        try:
            self.launcher.runtime(container).kill(container.id, number)
        except (Conflict, NotFound):
            return  # it has ended already; its exit is on the way
        if thaw:
            self.drivers.resources.thaw(container.id, container.host.cgroup_parent)

    @uninterrupted
    async def kill(self, live: Live, signal_name: str = "SIGKILL") -> None:
        """Send a signal; after SIGKILL return once the container has stopped.

        :raises Conflict: it does not run.
        """
        container = live.container
        number = signal_number(signal_name or "SIGKILL")
        stop_signal = signal_number(container.config.stop_signal or "SIGTERM")
        ends = number in {int(signal.SIGKILL), stop_signal}
        async with live.lock:
            if not live.container.state.running:
                raise Conflict(
                    f"cannot kill container: {container.name}: container {container.id} is not "
                    f"running"
                )
            await self._send(live, number, stopping=ends)
        if number == int(signal.SIGKILL):
            await self._stopped_within(live, _KILL_PATIENCE)

    @uninterrupted
    async def restart(
        self,
        live: Live,
        timeout: int | None = None,  # noqa: ASYNC109 - the API's word, and seconds until SIGKILL
        signal_name: str | None = None,
    ) -> None:
        """Stop a container, if it runs, and start it."""
        live.keep = True
        try:
            async with live.lock:
                # Kept in the database from the signal on: a killed daemon's successor goes on.
                self._ask_restart(live, asked=_alive(live))
            if _alive(live):
                with contextlib.suppress(NotModified):  # it has ended by itself meanwhile
                    await self.stop(live, timeout, signal_name)
            # Where another restart at the same time has started it, it runs anew, as was asked.
            with contextlib.suppress(NotModified):
                await self.start(live)
        finally:
            live.keep = False
            async with live.lock:
                if live.container.state.restart_asked:
                    self._ask_restart(live, asked=False)
                    await self.workers.run(self.store.save_state, live.container)
        self.teller.container(live.container, "restart")

    async def finish_restart(self, live: Live) -> None:
        """Have a restart come to its end that was under way when the engine was killed."""
        with contextlib.suppress(PannierError):
            await self.restart(live)

    def _ask_restart(self, live: Live, *, asked: bool) -> None:
        live.set_state(replace(live.container.state, restart_asked=asked))

    # Pausing.

    @uninterrupted
    async def pause(self, live: Live) -> None:
        """Freeze every process of a container.

        :raises Conflict: it does not run, or is paused.
        """
        async with live.lock:
            container = live.container
            self.check_running(container)
            if container.state.status is Status.PAUSED:
                raise Conflict(f"Container {container.id} is already paused")
            parent = container.host.cgroup_parent
            await self.workers.run(self.drivers.resources.freeze, container.id, parent)
            self.health.halt(live)
            health = healthstate.halted(container.state.health)
            live.set_state(replace(container.state, health=health))
            await self._change_status(live, Status.PAUSED, "pause")

    @uninterrupted
    async def unpause(self, live: Live) -> None:
        """Let a paused container go on.

        :raises Conflict: it is not paused.
        """
        async with live.lock:
            container = live.container
            if container.state.status is not Status.PAUSED:
                raise Conflict(f"Container {container.id} is not paused")
            parent = container.host.cgroup_parent
            await self.workers.run(self.drivers.resources.thaw, container.id, parent)
            await self._change_status(live, Status.RUNNING, "unpause")
            self.health.begin(live)

    async def _change_status(self, live: Live, status: Status, action: str) -> None:
        live.set_state(replace(live.container.state, status=status))
        await self.workers.run(self.store.save_state, live.container)
        self.teller.container(live.container, action)

    def runtime(self, container: Container) -> RuntimeDriver:
        """Return the runtime driver of a container."""
        return self.launcher.runtime(container)

    def check_running(self, container: Container, what: str = "") -> None:
        """Raise Conflict where a container does not run."""
        if not container.state.running:
            prefix = f"{what}: " if what else ""
            raise Conflict(
                f"{prefix}Container {container.id} is not running",
                hint=f"start it first: pannier start {container.name}",
            )


def _alive(live: Live) -> bool:
    state = live.container.state
    return state.running or state.status is Status.RESTARTING
