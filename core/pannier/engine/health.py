"""Health checks: probes of running containers, each an exec, timed by the event loop.

A container costs one timer between its probes and one task during one; there is no thread. A
result is kept with the container's state, so that a daemon that takes over goes on where the last
one was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.drivers.runtime import Connection
from pannier.engine import healthstate
from pannier.engine.healthstate import HealthResult
from pannier.engine.model import Status
from pannier.engine.sessions import ExecConfig
from pannier.engine.workers import uninterrupted
from pannier.errors import PannierError

if TYPE_CHECKING:
    from pannier.driverset import DriverSet
    from pannier.engine.execs import Execs
    from pannier.engine.healthstate import Health, HealthCheck
    from pannier.engine.launching import Launcher
    from pannier.engine.model import Container
    from pannier.engine.registry import Live
    from pannier.engine.store import Store
    from pannier.engine.telling import Teller
    from pannier.engine.workers import Workers

__all__ = ["HealthMonitor", "ProbeOutput", "go_duration"]

MOST_OUTPUT = 4096
_PIECE = 1 << 16
_HEADER = struct.Struct(">BxxxI")
_GRACE = 1.0
"""Seconds that the rest of the output may take once the probe has ended."""
_SPREAD = 5.0
"""Seconds over which the probes that are overdue after a restart of the daemon are spread."""


class ProbeOutput:
    """The beginning of what a probe says, out of the stream that an attached client gets."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._header = b""
        self._left = 0
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Take the next piece of the stream."""
        while data:
            if not self._left:
                wanted = _HEADER.size - len(self._header)
                self._header += data[:wanted]
                data = data[wanted:]
                if len(self._header) == _HEADER.size:
                    self._left = _HEADER.unpack(self._header)[1]
                    self._header = b""
                continue
            part, data = data[: self._left], data[self._left :]
            self._left -= len(part)
            room = MOST_OUTPUT - len(self._kept)
            self._kept += part[:room]
            self._cut = self._cut or len(part) > room

    def text(self) -> str:
        """Return what has been said so far, with three dots where it is cut short."""
        return self._kept.decode(errors="replace") + ("..." if self._cut else "")


@dataclass(slots=True)
class HealthMonitor:
    """Probes containers. Called on the event loop's thread only.

    :param execs: what runs the probes; set once, when the engine is wired.
    """

    store: Store
    drivers: DriverSet
    launcher: Launcher
    teller: Teller
    workers: Workers
    execs: Execs | None = None
    _due: dict[str, asyncio.TimerHandle | asyncio.Task[None]] = field(default_factory=dict)

    def begin(self, live: Live) -> None:
        """Probe a container from now on, if it is to be: it has been started, or thawed."""
        health, check = _subject(live.container)
        if health is not None and check is not None:
            state = live.container.state
            wait = healthstate.delay(health, check, state.started, time.time_ns())
            self._schedule(live, wait / 1e9)

    def resume(self, live: Live) -> None:
        """Go on probing a container that was found running at the daemon's start."""
        health, check = _subject(live.container)
        if health is None or check is None:
            return
        now = time.time_ns()
        last = health.log[-1].end if health.log else live.container.state.started
        interval = healthstate.delay(health, check, live.container.state.started, now)
        wait = (last + interval - now) / 1e9
        if wait < 0:
            # All at once they would be a storm; an id is as good as a dice.
            wait = int(live.container.id[:8], 16) / 2**32 * min(interval / 1e9, _SPREAD)
        self.workers.spawn(self._end_orphan(live.container, health))
        self._schedule(live, min(wait, interval / 1e9))

    async def _end_orphan(self, container: Container, health: Health) -> None:
        """End the probe that a killed daemon was waiting for."""
        runtime = self.launcher.runtime(container)
        exec_id = healthstate.probe_id(container.id, health)
        with contextlib.suppress(PannierError):
            await self.workers.run(runtime.kill_exec, container.id, exec_id, signal.SIGKILL)

    def halt(self, live: Live) -> None:
        """Probe a container no more; a probe under way is dropped. Idempotent."""
        due = self._due.pop(live.container.id, None)
        if due is not None:
            due.cancel()

    def close(self) -> None:
        """Probe nothing more."""
        for due in self._due.values():
            due.cancel()
        self._due.clear()

    def _schedule(self, live: Live, seconds: float) -> None:
        self.halt(live)
        loop = asyncio.get_running_loop()
        self._due[live.container.id] = loop.call_later(seconds, self._probe_now, live)

    def _probe_now(self, live: Live) -> None:
        self._due[live.container.id] = self.workers.spawn(self._probe(live))

    async def _probe(self, live: Live) -> None:
        container = live.container
        health, check = _subject(container)
        if health is None or check is None:
            return
        result = await self._run(container, health, check)
        if result is not None:
            await self._note(live, container.state.started, result)
        if self._due.get(container.id) is asyncio.current_task():
            state = live.container.state
            wait = healthstate.delay(state.health or health, check, state.started, time.time_ns())
            self._schedule(live, wait / 1e9)

    async def _run(
        self, container: Container, health: Health, check: HealthCheck
    ) -> HealthResult | None:
        """Run one probe; None where the container can have none just now."""
        assert self.execs is not None
        config = ExecConfig(
            healthstate.command(check, container.config.shell),
            attach_stdout=True,
            attach_stderr=True,
        )
        exec_id = healthstate.probe_id(container.id, health)
        output = ProbeOutput()
        start = time.time_ns()
        try:
            await self.execs.create(container.id, config, id=exec_id)
        except PannierError:
            return None  # it has stopped, and its end is on the way
        try:
            code = await self._execute(container, exec_id, check, output)
            text = output.text()
            if code is None:
                code, text = -1, f"Health check exceeded timeout ({go_duration(check.timeout)})"
        except PannierError as error:
            code, text = -1, str(error)
        finally:
            self.execs.forget(exec_id)
        return HealthResult(start, time.time_ns(), code, text)

    async def _execute(
        self, container: Container, exec_id: str, check: HealthCheck, output: ProbeOutput
    ) -> int | None:
        """Run a probe that was created; return its exit code, None if it took too long."""
        assert self.execs is not None
        ended = self.execs.wait(exec_id)
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                connection = Connection(theirs.fileno(), stdout=True, stderr=True)
                await self.execs.start(exec_id, connection=connection)
            reading = asyncio.ensure_future(_read(ours, output))
            code = None
            try:
                async with asyncio.timeout(check.timeout / 1e9):
                    code = await ended
            except TimeoutError:
                return None
            finally:
                if code is None:
                    self._kill_later(container, exec_id)
                else:
                    # A process that it has left behind may keep its output open for good.
                    await asyncio.wait([reading], timeout=_GRACE)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        return code

    def _kill_later(self, container: Container, exec_id: str) -> None:
        assert self.execs is not None
        pid = self.execs.pid_of(exec_id)
        self.workers.spawn(self.workers.run(self._kill, container, exec_id, pid))

    def _kill(self, container: Container, exec_id: str, pid: int) -> None:
        """Kill a probe and what it has started; on a worker thread.

        The children of a killed shell would stay, and more of them with every probe.
        """
        with contextlib.suppress(PannierError):
            self.launcher.runtime(container).kill_exec(container.id, exec_id, signal.SIGKILL)
        if pid:
            for member in self.drivers.resources.pids(container.id, container.host.cgroup_parent):
                _kill_of_session(member, pid)

    @uninterrupted
    async def _note(self, live: Live, began: int, result: HealthResult) -> None:
        """Keep a result, unless the container has stopped or been started anew meanwhile."""
        async with live.lock:
            state = live.container.state
            health, check = _subject(live.container)
            if health is None or check is None or state.started != began or live.removed:
                return
            after = healthstate.recorded(health, check, result, began)
            live.set_state(replace(state, health=after))
            await self.workers.run(self.store.save_state, live.container)
        if after.status is not health.status:
            self.teller.container(live.container, f"health_status: {after.status.value}")


def _subject(container: Container) -> tuple[Health | None, HealthCheck | None]:
    """Return the health and the check of a container that is to be probed."""
    if container.state.status is not Status.RUNNING:
        return None, None
    return container.state.health, healthstate.check_of(container.config.health_check)


async def _read(source: socket.socket, output: ProbeOutput) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(source, _PIECE):
            output.feed(data)


def _kill_of_session(pid: int, session: int) -> None:
    """Kill a process if it is of a session; the descriptor keeps its number from being reused."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        descriptor = os.pidfd_open(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            if int(stat.rpartition(")")[2].split()[3]) == session:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def go_duration(nanoseconds: int) -> str:
    """Return a duration as Go prints it: ``1.5s``, ``1m30s``, ``250ms``."""
    if nanoseconds < 1000:
        return f"{nanoseconds}ns" if nanoseconds else "0s"
    if nanoseconds < 10**9:
        unit, name = (10**3, "µs") if nanoseconds < 10**6 else (10**6, "ms")
        return f"{_decimal(nanoseconds, unit)}{name}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 10**9)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    fraction = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)
