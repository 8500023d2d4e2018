"""The driver for external OCI runtimes: the daemon's side."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pannier.drivers.operations import Action, Plan, Step
from pannier.drivers.runtime import RuntimeCapability, RuntimeDriver, RuntimeState
from pannier.errors import (
    Conflict,
    DriverError,
    DriverUnavailable,
    NotFound,
    PannierError,
    StartFailed,
)

from pannier_runtime_oci import groups, requests
from pannier_runtime_oci.bundle import draw
from pannier_runtime_oci.store import Store
from pannier_runtime_oci.watch import Watch
from pannier_runtime_oci.wire import receive, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from pannier.drivers.base import DriverContext
    from pannier.drivers.runtime import Connection, CreateRequest, ExecRequest, RuntimeWatch

    from pannier_runtime_oci.bundle import Bundle
    from pannier_runtime_oci.jobs import Reply

__all__ = ["OciConfig", "OciRuntime"]

_PATIENCE = 60.0


@dataclass(frozen=True)
class OciConfig:
    """The table ``[runtime.runc]``. *path* is the runtime's program, found through PATH."""

    path: str = "runc"


class OciRuntime(RuntimeDriver):
    """Has an external OCI runtime make containers, each under a monitor of ours."""

    id: ClassVar[str] = "runc"
    capabilities: ClassVar[AbstractSet[RuntimeCapability]] = frozenset(
        {RuntimeCapability.KEEP_DESCRIPTORS}
    )
    config_type: ClassVar[type[OciConfig]] = OciConfig

    @classmethod
    def probe(cls, context: DriverContext, config: OciConfig) -> None:
        """Ask the runtime for its version and for the containers of an empty folder.

        :raises DriverUnavailable: it is not there, or fails, or there is no cgroup v2.
        """
        hint = "install runc, or name an OCI runtime by path in [runtime.runc]"
        if shutil.which(config.path) is None:
            raise DriverUnavailable(f"there is no program {config.path!r}", hint=hint)
        empty = context.state / "probe"
        try:
            for arguments in (["--version"], ["--root", str(empty), "list", "-q"]):
                subprocess.run(
                    [config.path, *arguments], check=True, capture_output=True, timeout=_PATIENCE
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise DriverUnavailable(f"{config.path}: {error}", hint=hint) from error
        finally:
            shutil.rmtree(empty, ignore_errors=True)
        try:
            with groups.hierarchy():
                pass
        except OSError as error:
            raise DriverUnavailable(
                f"cgroup v2 cannot be mounted: {error}",
                hint="run the engine as root, on a kernel with cgroup v2 (beside v1 is enough)",
            ) from error

    def __init__(self, context: DriverContext, config: OciConfig) -> None:
        self._store = Store(context.state)
        self._config = config

    # ---- creating and starting

    def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
        """See :meth:`RuntimeDriver.plan_create`."""
        folder = self._store.folder(request.id)
        bundle = draw(request, folder, groups.group_name(folder))
        made: list[int] = []
        ours = False

        def create() -> None:
            nonlocal ours
            self._store.create(request.id)
            ours = True
            made.append(self._create(request, bundle, folder))

        def delete() -> None:
            if ours:
                self.delete(request.id)

        step = Step("create container", request.id, f"{self._config.path} create")
        return Plan(
            self.id,
            [Action(step, create, delete)],
            lambda: RuntimeState(request.id, "created", made[0]),
        )

    def _create(self, request: CreateRequest, bundle: Bundle, folder: Path) -> int:
        (folder / "config.json").write_text(json.dumps(bundle.config), encoding="utf-8")
        ours, theirs = socket.socketpair()
        with ours, requests.descriptor_list() as descriptors:
            runtime = shutil.which(self._config.path) or self._config.path
            with theirs:
                job = requests.container_job(request, bundle, folder, runtime, descriptors)
                _spawn(theirs.fileno(), folder)
            ours.settimeout(_PATIENCE)
            reply = _exchange(ours, {**job}, descriptors, request.id)
        if reply is None:
            raise DriverError(
                f"the monitor of {request.id} has ended while it created it",
                hint=f"{folder}/monitor.log may say why",
            )
        if "error" in reply:
            raise _failure(reply, f"cannot create {request.id}")
        return reply["pid"]

    def start(
        self, id: str, connections: Sequence[Connection] = (), keep: Sequence[int] = ()
    ) -> None:
        """See :meth:`RuntimeDriver.start`."""
        jobs = [requests.connection_job(item, index) for index, item in enumerate(connections)]
        sockets = [connection.socket for connection in connections]
        self._do(id, {"do": "start", "clients": jobs}, f"cannot start {id}", [*sockets, *keep])

    # ---- states

    def state(self, id: str) -> RuntimeState:
        """See :meth:`RuntimeDriver.state`."""
        self._store.existing(id)
        if (left := self._store.exit(id)) is None:
            reply = self._ask(id, {"do": "state"})
            if reply is not None:
                return RuntimeState(id, reply["status"], reply["pid"])
            left = self._store.exit(id) or self._store.lost(id)
        return RuntimeState(id, "stopped", 0, left.status, left.finished)

    def containers(self) -> Iterator[str]:
        """See :meth:`RuntimeDriver.containers`."""
        return self._store.ids()

    def watch(self, id: str) -> RuntimeWatch:
        """See :meth:`RuntimeDriver.watch`."""
        self._store.existing(id)
        connection = self._store.connect(id)
        if connection is not None:
            try:
                send(connection, {"do": "watch"})
            except OSError:
                connection.close()
                connection = None
        return Watch(id, self._store, connection)

    def delete(self, id: str) -> None:
        """See :meth:`RuntimeDriver.delete`."""
        connection = self._store.connect(id)
        if connection is not None:
            with connection:
                try:
                    send(connection, {"do": "delete"})
                    connection.recv(1)  # the end, once the monitor has ended
                except TimeoutError as error:
                    raise DriverError(f"{id} does not end, although killed") from error
                except (BrokenPipeError, ConnectionResetError):
                    pass
        self._store.kill_orphans(id)
        self._store.remove(id)

    # ---- running processes

    def kill(self, id: str, signal: int) -> None:
        """See :meth:`RuntimeDriver.kill`."""
        self._do(id, {"do": "kill", "exec_id": None, "signal": int(signal)}, f"cannot signal {id}")

    def kill_exec(self, id: str, exec_id: str, signal: int) -> None:
        """See :meth:`RuntimeDriver.kill_exec`."""
        self._ask(id, {"do": "kill", "exec_id": exec_id, "signal": int(signal)})

    def attach(self, id: str, connection: Connection, exec_id: str | None = None) -> None:
        """See :meth:`RuntimeDriver.attach`."""
        job = requests.connection_job(connection, 0)
        request = {"do": "attach", "exec_id": exec_id, "client": job}
        self._do(id, request, f"cannot attach to {exec_id or id}", [connection.socket])

    def resize(self, id: str, rows: int, columns: int, exec_id: str | None = None) -> None:
        """See :meth:`RuntimeDriver.resize`."""
        request = {"do": "resize", "exec_id": exec_id, "rows": rows, "columns": columns}
        self._do(id, request, f"cannot resize {exec_id or id}")

    def exec(self, id: str, request: ExecRequest) -> int:
        """See :meth:`RuntimeDriver.exec`."""
        with requests.descriptor_list() as descriptors:
            job = requests.exec_job(request, descriptors)
            reply = self._do(id, {"do": "exec", "job": job}, f"cannot execute in {id}", descriptors)
        return reply["pid"]

    # ---- talking to monitors

    def _do(
        self, id: str, request: dict[str, Any], what: str, descriptors: Sequence[int] = ()
    ) -> Reply:
        self._store.existing(id)
        reply = self._ask(id, request, descriptors)
        if reply is None:
            raise Conflict(f"{what}: it has stopped")
        if "error" in reply:
            raise _failure(reply, what)
        return reply

    def _ask(
        self, id: str, request: dict[str, Any], descriptors: Sequence[int] = ()
    ) -> Reply | None:
        connection = self._store.connect(id)
        if connection is None:
            return None
        with connection:
            return _exchange(connection, request, descriptors, id)


def _exchange(
    connection: socket.socket, request: dict[str, Any], descriptors: Sequence[int], id: str
) -> Reply | None:
    """Ask a monitor, and return its answer; None where it has ended."""
    try:
        send(connection, request, descriptors)
        answer = receive(connection)
    except TimeoutError as error:
        raise DriverError(f"the monitor of {id} does not answer") from error
    except (BrokenPipeError, ConnectionResetError):
        return None
    return None if answer is None else cast("Reply", answer[0])


def _spawn(descriptor: int, folder: Path) -> None:
    """Start a monitor, which is nobody's child then."""
    command = [sys.executable, "-I", "-m", "pannier_runtime_oci", str(descriptor)]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with contextlib.ExitStack() as stack:
        log = os.open(folder / "monitor.log", flags, 0o600)
        stack.callback(os.close, log)
        try:
            subprocess.run(
                command,
                pass_fds=(descriptor,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise DriverError(f"cannot start a monitor: {error}") from error


def _failure(reply: Reply, what: str) -> PannierError:
    text = reply["text"]
    if reply["error"] == "start":
        return StartFailed(text, errno=reply["errno"])
    kind = {"conflict": Conflict, "missing": NotFound}.get(reply["error"], DriverError)
    return kind(f"{what}: {text}")
