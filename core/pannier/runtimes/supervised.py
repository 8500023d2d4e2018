"""The daemon's side of a runtime driver whose containers each have a monitor.

A monitor listens on the socket in its container's folder (:mod:`pannier.runtimes.store`), and takes
requests in the form of :mod:`pannier.runtimes.channel`: a mapping with ``do``, the name of what is
wanted, and what that needs, as the methods here send it. Its answer is a
:class:`~pannier.runtimes.jobs.Reply`; to ``watch`` it is one :class:`~pannier.runtimes.jobs.Event`
or :class:`~pannier.runtimes.jobs.Departure` after another, to ``delete`` the end of the connection,
which comes once all of the container has ended.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from pannier.drivers.runtime import RuntimeDriver, RuntimeState
from pannier.errors import Conflict, DriverError, NotFound, PannierError, StartFailed
from pannier.runtimes.channel import receive, send
from pannier.runtimes.descriptors import DescriptorList
from pannier.runtimes.processes import connection_job, stdio_job
from pannier.runtimes.store import Store
from pannier.runtimes.watch import Watch

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pannier.drivers import oci
    from pannier.drivers.base import DriverContext
    from pannier.drivers.runtime import Connection, ExecRequest, RuntimeWatch, StdioSpec
    from pannier.runtimes.jobs import ExecJob, Reply
    from pannier.runtimes.store import Exit

__all__ = ["SupervisedRuntime", "exchange", "failure", "hint_of"]


class SupervisedRuntime(RuntimeDriver):
    """All of the contract but ``probe`` and ``plan_create``.

    :ivar store: the containers' folders.
    """

    def __init__(
        self, context: DriverContext, clear: Callable[[Path], object] | None = None
    ) -> None:
        self.store = Store(context.state, clear)

    @abstractmethod
    def exec_process(self, process: oci.Process, stdio: StdioSpec) -> object:
        """Return what a monitor is to be told of a process that is added: plain values only.

        :raises InvalidRequest: it is malformed.
        :raises UnsupportedOperation: it asks for something that is not offered, by name.
        """

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
        self.store.existing(id)
        if (left := self.store.exit(id)) is None:
            reply = self._ask(id, {"do": "state"})
            if reply is not None:
                # Stopped, with output still to be delivered: no exit status yet, so it runs on.
                status = reply["status"]
                if status == "created":
                    return RuntimeState(id, "created", reply["pid"])
                return RuntimeState(id, "running", reply["pid"])
            left = self._left(id)
        return RuntimeState(id, "stopped", 0, left.status, left.finished, left.lost)

    def _left(self, id: str) -> Exit:
        """Return how a container ended that has no monitor any more; may wait for its end."""
        return self.store.exit(id) or self.store.lost(id)

    def containers(self) -> Iterator[str]:
        """See :meth:`RuntimeDriver.containers`."""
        return self.store.ids()

    def watch(self, id: str) -> RuntimeWatch:
        """See :meth:`RuntimeDriver.watch`."""
        self.store.existing(id)
        connection = self.store.connect(id)
        if connection is not None:
            try:
                send(connection, {"do": "watch"})
            except OSError:
                connection.close()
                connection = None
        return Watch(id, self.store, connection or self._left(id))

    def delete(self, id: str) -> None:
        """See :meth:`RuntimeDriver.delete`."""
        connection = self.store.connect(id)
        if connection is not None:
            with connection:
                try:
                    send(connection, {"do": "delete"})
                    connection.recv(1)  # the end, once the monitor has ended
                except TimeoutError as error:
                    raise DriverError(f"{id} does not end, although killed") from error
                except OSError:
                    pass
        self.store.kill_orphan(id)
        self.store.remove(id)

    # ---- running processes

    def kill(self, id: str, signal: int) -> None:
        """See :meth:`RuntimeDriver.kill`."""
        self._do(id, {"do": "kill", "exec_id": None, "signal": int(signal)}, f"cannot signal {id}")

    def kill_exec(self, id: str, exec_id: str, signal: int) -> None:
        """See :meth:`RuntimeDriver.kill_exec`."""
        self._ask(id, {"do": "kill", "exec_id": exec_id, "signal": int(signal)})

    def attach(self, id: str, connection: Connection, exec_id: str | None = None) -> int:
        """See :meth:`RuntimeDriver.attach`."""
        request = {"do": "attach", "exec_id": exec_id, "connection": connection_job(connection, 0)}
        descriptors = [connection.socket]
        if connection.gate >= 0:
            descriptors.append(connection.gate)
        reply = self._do(id, request, f"cannot attach to {exec_id or id}", descriptors)
        # A monitor that an older version has started does not say it.
        return reply.get("time", time.time_ns())

    def resize(self, id: str, rows: int, columns: int, exec_id: str | None = None) -> None:
        """See :meth:`RuntimeDriver.resize`."""
        request = {"do": "resize", "exec_id": exec_id, "rows": rows, "columns": columns}
        self._do(id, request, f"cannot resize {exec_id or id}")

    def exec(self, id: str, request: ExecRequest) -> int:
        """See :meth:`RuntimeDriver.exec`."""
        descriptors = DescriptorList()
        job: ExecJob = {
            "exec_id": request.exec_id,
            "process": self.exec_process(request.process, request.stdio),
            # The id map is the container's, and its monitor knows it.
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

    # ---- talking to monitors

    def _do(
        self, id: str, request: dict[str, Any], what: str, descriptors: Sequence[int] = ()
    ) -> Reply:
        self.store.existing(id)
        reply = self._ask(id, request, descriptors)
        if reply is None:
            raise Conflict(f"{what}: it has stopped")
        if "error" in reply:
            raise failure(reply, what)
        return reply

    def _ask(
        self, id: str, request: dict[str, Any], descriptors: Sequence[int] = ()
    ) -> Reply | None:
        connection = self.store.connect(id)
        if connection is None:
            return None
        with connection:
            return exchange(connection, request, descriptors, id)


def exchange(
    connection: socket.socket, request: object, descriptors: Sequence[int], id: str
) -> Reply | None:
    """Ask a container's monitor, and return its answer; None where it has ended.

    :raises DriverError: it does not answer.
    """
    try:
        send(connection, request, descriptors)
        answer = receive(connection)
    except TimeoutError as error:
        raise DriverError(f"the monitor of {id} does not answer") from error
    except (BrokenPipeError, ConnectionResetError):
        return None
    if answer is None:
        return None
    reply: Reply = answer[0]
    return reply


def failure(reply: Reply, what: str) -> PannierError:
    """Return the error that a monitor has answered with; *what* could not be done."""
    text = reply["text"]
    if reply["error"] == "start":
        return StartFailed(text, errno=reply["errno"], hint=hint_of(text))
    kind = {"conflict": Conflict, "missing": NotFound}.get(reply["error"], DriverError)
    text = f"{what}: {text}"
    return kind(text, hint=hint_of(text))


def hint_of(text: str) -> str | None:
    """Return what to do about a failure, where it is known."""
    if "RLIMIT_" in text:
        return "the engine's process lacks CAP_SYS_RESOURCE: ask for no more than its own limits"
    if "cannot mount" in text and "not a directory" in text:
        return (
            "Are you trying to mount a directory onto a file (or vice-versa)? Check if the "
            "specified host path exists and is the expected type"
        )
    return None
