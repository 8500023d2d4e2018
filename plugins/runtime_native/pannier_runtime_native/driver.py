"""The native runtime driver: the daemon's side."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from pannier.drivers.base import NoConfig
from pannier.drivers.operations import Operation, Plan
from pannier.drivers.runtime import RuntimeCapability, RuntimeDriver, RuntimeState
from pannier.errors import (
    Conflict,
    DriverError,
    DriverUnavailable,
    NotFound,
    PannierError,
    StartFailed,
)
from pannier_runtime_native.channel import receive, send
from pannier_runtime_native.descriptors import DescriptorList
from pannier_runtime_native.planning import draw
from pannier_runtime_native.processes import connection_job, process_job, stdio_job
from pannier_runtime_native.store import Store
from pannier_runtime_native.supply import ZygoteSupply
from pannier_runtime_native.watch import NativeWatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from pannier.drivers.base import DriverContext
    from pannier.drivers.operations import Step, Timing
    from pannier.drivers.runtime import Connection, CreateRequest, ExecRequest, RuntimeWatch
    from pannier_runtime_native.messages import ExecJob, Reply
    from pannier_runtime_native.planning import Blueprint

__all__ = ["NativeRuntime"]

_PATIENCE = 60.0
_PROBE_HINT = "run the engine as root, on Linux 5.12 or later with namespaces"


class NativeRuntime(RuntimeDriver):
    """Runs containers by itself: no external runtime, a forked monitor for each container."""

    id: ClassVar[str] = "native"
    priority: ClassVar[int] = 100
    capabilities: ClassVar[AbstractSet[RuntimeCapability]] = frozenset(
        {
            RuntimeCapability.USER_NAMESPACE,
            RuntimeCapability.KEEP_DESCRIPTORS,
            RuntimeCapability.TIMINGS,
        }
    )
    config_type: ClassVar[type[NoConfig]] = NoConfig

    @classmethod
    def probe(cls, context: DriverContext, config: NoConfig) -> None:  # noqa: ARG003 - the contract's
        """Try namespaces and mounts in a short-lived process.

        :raises DriverUnavailable: the kernel refuses one of them.
        """
        zygotes = ZygoteSupply()
        try:
            reason = zygotes.try_namespaces()
        except PannierError as error:
            raise DriverUnavailable(error.message, hint=error.hint or _PROBE_HINT) from error
        except OSError as error:
            raise DriverUnavailable(f"the helper process: {error}", hint=_PROBE_HINT) from error
        finally:
            zygotes.close()
        if reason:
            raise DriverUnavailable(reason, hint=_PROBE_HINT)

    def __init__(self, context: DriverContext, config: NoConfig) -> None:  # noqa: ARG002 - the contract's
        self._store = Store(context.state)
        self._zygotes = ZygoteSupply()

    def close(self) -> None:
        """End the helper process; containers go on."""
        self._zygotes.close()

    def warm_up(self) -> None:
        """Start the helper process now, rather than for the first container.

        :raises DriverError: it could not be started.
        """
        self._zygotes.start()

    # ---- creating and starting

    def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
        """See :meth:`RuntimeDriver.plan_create`."""
        operation = _Create(self, request, draw(request, self._store.folder(request.id)))
        return Plan(self.id, [operation], operation.state)

    def create(self, request: CreateRequest, blueprint: Blueprint) -> Reply:
        """Carry out a plan; a failure leaves the folder for :meth:`delete`."""
        folder = self._store.create(request.id)
        with blueprint.descriptors.opened() as descriptors:
            reply = self._ask_new_shim(blueprint, descriptors)
            if reply is None and not (folder / "shim.sock").exists():
                # The helper was killed before it could fork. Another one is.
                reply = self._ask_new_shim(blueprint, descriptors)
        if reply is None:
            raise DriverError(f"the monitor of {request.id} has ended while it created it")
        if "error" in reply:
            raise _create_failed(request.id, blueprint, reply)
        return reply

    def _ask_new_shim(self, blueprint: Blueprint, descriptors: list[int]) -> Reply | None:
        with self._zygotes.spawn() as shim:
            shim.settimeout(_PATIENCE)
            try:
                send(shim, blueprint.job, descriptors)
                answer = receive(shim)
            except (BrokenPipeError, ConnectionResetError):
                return None
        return None if answer is None else answer[0]

    def start(
        self, id: str, connections: Sequence[Connection] = (), keep: Sequence[int] = ()
    ) -> None:
        """See :meth:`RuntimeDriver.start`."""
        jobs = [connection_job(connection, index) for index, connection in enumerate(connections)]
        sockets = [connection.socket for connection in connections]
        self._do(id, {"do": "start", "connections": jobs}, f"cannot start {id}", [*sockets, *keep])

    # ---- states

    def state(self, id: str) -> RuntimeState:
        """See :meth:`RuntimeDriver.state`."""
        self._store.existing(id)
        if (left := self._store.exit(id)) is None:
            reply = self._ask(id, {"do": "state"})
            if reply is not None:
                # Stopped, with output still to be delivered: no exit status yet, so it runs on.
                status = reply["status"]
                if status == "created":
                    return RuntimeState(id, "created", reply["pid"])
                return RuntimeState(id, "running", reply["pid"])
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
        return NativeWatch(id, self._store, connection)

    def delete(self, id: str) -> None:
        """See :meth:`RuntimeDriver.delete`."""
        connection = self._store.connect(id)
        if connection is not None:
            with connection:
                connection.settimeout(_PATIENCE)
                try:
                    send(connection, {"do": "delete"})
                    connection.recv(1)  # the end, once the shim has ended
                except TimeoutError as error:
                    raise DriverError(f"{id} does not end, although killed") from error
                except OSError:
                    pass
        self._store.kill_orphan(id)
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
        request = {"do": "attach", "exec_id": exec_id, "connection": connection_job(connection, 0)}
        self._do(id, request, f"cannot attach to {exec_id or id}", [connection.socket])

    def resize(self, id: str, rows: int, columns: int, exec_id: str | None = None) -> None:
        """See :meth:`RuntimeDriver.resize`."""
        request = {"do": "resize", "exec_id": exec_id, "rows": rows, "columns": columns}
        self._do(id, request, f"cannot resize {exec_id or id}")

    def exec(self, id: str, request: ExecRequest) -> int:
        """See :meth:`RuntimeDriver.exec`."""
        descriptors = DescriptorList()
        # The id map and the filter are the container's, and the shim knows them.
        process = process_job(request.process, None, check_capabilities=False)
        job: ExecJob = {
            "exec_id": request.exec_id,
            "process": process,
            "stdio": stdio_job(request.stdio, request.process, None, descriptors),
            "procs": [
                descriptors.add_path(path, os.O_WRONLY, "the control group's")
                for path in request.procs
            ],
            "connection": None,
        }
        if request.connection is not None:
            client = request.connection.socket
            index = descriptors.add(lambda: os.dup(client))
            job["connection"] = connection_job(request.connection, index)
        with descriptors.opened() as opened:
            reply = self._do(id, {"do": "exec", "job": job}, f"cannot execute in {id}", opened)
        return reply["pid"]

    # ---- talking to shims

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
            try:
                send(connection, request, descriptors)
                answer = receive(connection)
            except TimeoutError as error:
                raise DriverError(f"the monitor of {id} does not answer") from error
            except (BrokenPipeError, ConnectionResetError):
                return None
        return None if answer is None else answer[0]


class _Create(Operation):
    """Everything between the folder of the state and the process that waits to be started."""

    def __init__(self, driver: NativeRuntime, request: CreateRequest, blueprint: Blueprint) -> None:
        self._driver = driver
        self._request = request
        self._blueprint = blueprint
        self._ours = True
        self._pid = 0

    def describe(self) -> Sequence[Step]:
        """Return every step, of the shim's and of the first process's."""
        return self._blueprint.describe()

    def execute(self) -> Sequence[Timing]:
        """Create the container."""
        try:
            reply = self._driver.create(self._request, self._blueprint)
        except Conflict:
            self._ours = False
            raise
        self._pid = reply["pid"]
        return self._blueprint.timings(reply["times"])

    def state(self) -> RuntimeState:
        """Return the state of the container just created."""
        return RuntimeState(self._request.id, "created", self._pid)

    def undo(self) -> None:
        """Delete the container, unless it was another's all along."""
        if self._ours:
            self._driver.delete(self._request.id)


def _failure(reply: Reply, what: str) -> PannierError:
    text = reply["text"]
    if reply["error"] == "start":
        return StartFailed(text, errno=reply["errno"], hint=_hint(reply))
    kind = {"conflict": Conflict, "missing": NotFound}.get(reply["error"], DriverError)
    return kind(f"{what}: {text}")


def _create_failed(id: str, blueprint: Blueprint, reply: Reply) -> PannierError:
    index = reply.get("step", -1)
    step = blueprint.steps[index] if index >= 0 else None
    what = f"cannot {step}" if step is not None else f"cannot create {id}"
    return DriverError(f"{what}: {reply['text']}", hint=_hint(reply))


def _hint(reply: Reply) -> str | None:
    if "RLIMIT_" in reply["text"]:
        return "the engine's process lacks CAP_SYS_RESOURCE: ask for no more than its own limits"
    return None
