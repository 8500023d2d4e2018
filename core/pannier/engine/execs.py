"""Further processes in running containers."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.drivers.runtime import ExecRequest, StdioSpec
from pannier.engine import caps, spec, users
from pannier.engine.attach import detach_sequence
from pannier.engine.model import Status
from pannier.engine.sessions import ExecSession
from pannier.engine.workers import uninterrupted
from pannier.errors import Conflict, InvalidRequest, NotFound, StartFailed

if TYPE_CHECKING:
    from pannier.drivers import oci
    from pannier.drivers.runtime import Connection, ExitEvent
    from pannier.driverset import DriverSet
    from pannier.engine.entering import Entering
    from pannier.engine.launching import Launcher
    from pannier.engine.model import Container
    from pannier.engine.registry import Live, Registry
    from pannier.engine.sessions import ExecConfig
    from pannier.engine.supervision import Supervisor
    from pannier.engine.telling import Teller
    from pannier.engine.workers import Workers

__all__ = ["Execs"]

START_PATIENCE = 10.0
"""Seconds that a resize waits for an exec's start: clients ask for both at once."""


@dataclass(slots=True)
class Execs:
    """Creates, starts and knows execs. They are forgotten with their container's removal."""

    registry: Registry
    drivers: DriverSet
    launcher: Launcher
    entering: Entering
    supervisor: Supervisor
    teller: Teller
    workers: Workers
    _sessions: dict[str, ExecSession] = field(default_factory=dict)
    _waiters: dict[str, asyncio.Future[int]] = field(default_factory=dict)
    _starts: dict[str, asyncio.Event] = field(default_factory=dict)  # which are waited for

    async def create(self, ref: str, config: ExecConfig, *, id: str = "") -> str:
        """Make an exec, to be started later; return its id.

        :param id: which no exec of the container's has had; empty for a random one.
        :raises Conflict: the container does not run, or is paused.
        :raises InvalidRequest: there is nothing to execute.
        """
        live = self.registry.find(ref)
        container = live.container
        self._check(container, ref)
        if not config.args:
            raise InvalidRequest("No exec command specified")
        detach_sequence(config.detach_keys)
        session = ExecSession(id or secrets.token_hex(32), container.id, config)
        self._forget_gone()
        self._sessions[session.id] = session
        live.execs.add(session.id)
        self._tell(container, session, "exec_create")
        return session.id

    def _forget_gone(self) -> None:
        gone = [
            id for id, item in self._sessions.items() if self.registry.get(item.container) is None
        ]
        for id in gone:
            del self._sessions[id]
            self._starts.pop(id, None)

    def _check(self, container: Container, ref: str = "") -> None:
        if not container.state.running:
            raise Conflict(f"Container {container.id} is not running")
        if container.state.status is Status.PAUSED:
            name = ref or container.id
            raise Conflict(f"Container {name} is paused, unpause the container before exec")

    def startable(self, id: str) -> ExecSession:
        """Return an exec that may be started.

        :raises NotFound: there is none of that id.
        :raises Conflict: it was started before; or its container does not run, or is paused.
        """
        session = self.get(id)
        if session.running or session.exit_code is not None:
            raise Conflict(f"Error: Exec command {id} has already run")
        self._check(self.registry.find(session.container).container)
        return session

    def get(self, id: str) -> ExecSession:
        """Return an exec.

        :raises NotFound: there is none of that id.
        """
        session = self._session(id)
        live = self.registry.get(session.container)
        if session.running and live is not None:
            # Its end may be known already, only not read yet; who saw the streams close asks now.
            self.supervisor.drain(live)
            session = self._session(id)
            if session.running and session.pid and not Path(f"/proc/{session.pid}").exists():
                # The news came before its output ended, but perhaps not yet to the loop.
                self.supervisor.drain(live)
        return self._session(id)

    def wait(self, id: str) -> asyncio.Future[int]:
        """Return what is given an exec's exit code at its end; one of each, before its start."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters[id] = future
        return future

    def pid_of(self, id: str) -> int:
        """Return the pid of an exec's process; 0 where it has none, or is not known."""
        session = self._sessions.get(id)
        return 0 if session is None else session.pid

    def forget(self, id: str) -> None:
        """Forget an exec, whatever has become of it. Idempotent."""
        self._waiters.pop(id, None)
        self._starts.pop(id, None)
        session = self._sessions.pop(id, None)
        live = None if session is None else self.registry.get(session.container)
        if live is not None:
            live.execs.discard(id)

    def _session(self, id: str) -> ExecSession:
        session = self._sessions.get(id)
        if session is None or self.registry.get(session.container) is None:
            raise NotFound(f"No such exec instance: {id}")
        return session

    def ids_of(self, container: Container) -> list[str]:
        """Return the ids of a container's execs that have not ended."""
        live = self.registry.get(container.id)
        found = [] if live is None else [self._sessions.get(id) for id in live.execs]
        return sorted(item.id for item in found if item is not None and item.exit_code is None)

    @uninterrupted
    async def start(
        self,
        id: str,
        *,
        detach: bool = False,
        connection: Connection | None = None,
        tty: bool | None = None,
        console_size: tuple[int, int] = (0, 0),
    ) -> None:
        """Start an exec; on return it runs, or has run.

        :param connection: the client to attach; its socket stays the caller's.
        :param tty: in place of what was said at its creation.
        :raises StartFailed: it could not be executed; its exit code is then 126 or 127.
        :raises Conflict: it was started before, or the container does not run.
        """
        session = self._session(id)
        live = self.registry.find(session.container)
        async with live.lock:
            session = self._session(id)
            self._check(live.container)
            if session.exit_code is not None:
                raise Conflict(f"Error: Exec command {id} has already run")
            if session.running:
                raise Conflict(f"Error: Exec command {id} is already running")
            config = session.config
            if tty is not None:
                config = replace(config, tty=tty)
            if any(console_size):
                config = replace(config, console_size=console_size)
            session = replace(session, config=config, running=True)
            self._sessions[id] = session
            self._tell(live.container, session, "exec_start")
            try:
                pid = await self.workers.run(
                    self._start, live.container, session, None if detach else connection
                )
            except BaseException as error:
                code = 126
                if isinstance(error, StartFailed) and error.errno == 2:
                    code = 127
                self._sessions[id] = replace(session, running=False, exit_code=code)
                raise
            finally:
                if (waited := self._starts.pop(id, None)) is not None:
                    waited.set()
            # It may have ended by now, and its end been noted.
            if self._sessions[id].running:
                self._sessions[id] = replace(self._sessions[id], pid=pid)

    def _start(
        self, container: Container, session: ExecSession, connection: Connection | None
    ) -> int:
        config = session.config
        with self.entering.running_root(container) as root:
            name = config.user or container.config.user
            user = users.find(root, name, container.host.group_add)
        if connection is not None:
            stdin = connection.stdin and config.attach_stdin
            keys = detach_sequence(config.detach_keys) if stdin and config.tty else b""
            connection = replace(connection, detach_keys=keys, stdin=stdin)
        request = ExecRequest(
            exec_id=session.id,
            process=_process(container, config, user),
            stdio=StdioSpec(
                terminal=config.tty,
                stdin=config.attach_stdin and connection is not None,
                stdin_once=True,
                size=config.console_size,
            ),
            connection=connection,
            procs=self.drivers.resources.procs(container.id, container.host.cgroup_parent),
        )
        return self.launcher.runtime(container).exec(container.id, request)

    def ended(self, live: Live, event: ExitEvent) -> None:
        """Take note of an exec's end."""
        assert event.exec_id is not None
        session = self._sessions.get(event.exec_id)
        if session is None or session.exit_code is not None:
            return
        self._sessions[session.id] = replace(
            session, running=False, pid=0, exit_code=event.exit_status
        )
        live.execs.discard(session.id)
        waiter = self._waiters.pop(session.id, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(event.exit_status)
        if session.running:
            self.teller.container(
                live.container, "exec_die", execID=session.id, exitCode=str(event.exit_status)
            )

    async def resize(self, id: str, rows: int, columns: int) -> None:
        """Set the size of an exec's terminal. Its start is waited for, as long as Docker does.

        :raises NotFound: there is no such exec.
        :raises Conflict: it does not run.
        """
        session = self._session(id)
        if not session.running and session.exit_code is None:
            started = self._starts.setdefault(id, asyncio.Event())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(started.wait(), START_PATIENCE)
        live = self.registry.find(session.container)
        async with live.lock:
            if not self._session(id).running:
                raise Conflict(f"exec {id} is not running")
            runtime = self.launcher.runtime(live.container)
            await self.workers.run(runtime.resize, live.container.id, rows, columns, id)

    def _tell(self, container: Container, session: ExecSession, action: str) -> None:
        # Docker puts a space behind the program, whether or not something follows.
        args = session.config.args
        command = f"{args[0]} {' '.join(args[1:])}"
        self.teller.container(container, f"{action}: {command}", execID=session.id)


def _process(container: Container, config: ExecConfig, user: users.UserIds) -> oci.Process:
    hostname = container.config.hostname or container.id[:12]
    env = spec.exec_environment(container, config, user, hostname)
    process = spec.process(container, user, (), env)
    process["args"] = list(config.args)
    process["cwd"] = config.working_dir or container.config.working_dir or "/"
    process["terminal"] = config.tty
    process.pop("consoleSize", None)
    rows, columns = config.console_size
    if config.tty and rows and columns:
        process["consoleSize"] = {"height": rows, "width": columns}
    if config.privileged:
        held = list(caps.available())
        process["capabilities"] = {"bounding": held, "effective": held, "permitted": held}
    return process
