"""The runtime contract: running processes from an OCI runtime-spec configuration.

The life cycle is the OCI runtime specification's: ``create`` makes namespaces and root and holds
the process back; ``start`` lets it execute; after its exit ``delete`` forgets it. Processes, their
stdio, their log and their exit status are kept by the driver whether or not the engine's process
lives: a re-opened driver finds every container again.

Streams. A client's connection (a socket) is handed to the driver, which serves it directly in the
framing of the Docker Engine API's attach: raw bytes both ways with a terminal; else every chunk of
output has the 8-byte header ``(stream, 0, 0, 0, length)``. End of input on the socket closes the
process's stdin where that is to end with its client (``stdin_once``, and every added process) and
is no terminal; else it is the client that ends, and has no output more. Output ends with the
process, and the driver closes the socket. Who leaves by the detaching keys is told of by the watch.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal

from pannier.drivers.base import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from pannier.drivers import oci
    from pannier.drivers.base import IdMap
    from pannier.drivers.operations import Plan

__all__ = [
    "Connection",
    "CreateRequest",
    "DetachEvent",
    "ExecRequest",
    "ExitEvent",
    "LogSpec",
    "RuntimeCapability",
    "RuntimeDriver",
    "RuntimeState",
    "RuntimeWatch",
    "StdioSpec",
]


class RuntimeCapability(StrEnum):
    """What a runtime driver may declare."""

    USER_NAMESPACE = "user-namespace"
    """Containers may have a user namespace with an id map."""

    KEEP_DESCRIPTORS = "keep-descriptors"
    """``start`` can keep descriptors open for the container's life."""

    TIMINGS = "timings"
    """``create`` reports the time that each of its steps took."""


@dataclass(frozen=True, slots=True)
class LogSpec:
    """Where a container's output is logged, in the form of :mod:`pannier.drivers.logfile`.

    :param max_size: bytes after which a new file is begun (``path``, ``path.1``, …); 0 for never.
    :param max_files: how many files are kept, the current one included.
    """

    path: Path
    max_size: int = 0
    max_files: int = 1


@dataclass(frozen=True, slots=True)
class StdioSpec:
    """How a process is talked to.

    :param terminal: one pseudo-terminal for all three streams, instead of pipes.
    :param stdin: keep stdin open for attached clients; else it is /dev/null.
    :param stdin_once: close stdin when the first client that wrote to it has gone.
    :param log: None logs nothing.
    :param size: rows and columns of the terminal; (0, 0) leaves it unset.
    """

    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False
    log: LogSpec | None = None
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's connection to a process's streams.

    :param socket: a connected stream socket's descriptor. The driver duplicates it; the caller
        closes its own.
    :param pending: input that the client had sent before the connection was handed over.
    :param detach_keys: the bytes that detach the client from a terminal; empty for none.
    :param framed: whether output is framed; None for all processes that have no terminal.
    :param gate: the reading end of a pipe. The client takes part from now on, but nothing is sent
        to it, nor is its connection closed, before the writing end is: what comes meanwhile waits.
        For ``attach`` alone; -1 for none. The driver duplicates it, too.
    """

    socket: int
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    pending: bytes = b""
    detach_keys: bytes = b""
    framed: bool | None = None
    gate: int = -1


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A container to create.

    :param id: the container's id.
    :param spec: the OCI runtime-spec configuration. ``root.path`` is informative: the root is the
        mount behind *root*. A namespace entry without a path is created, one with a path joined.
    :param root: a descriptor of a detached mount, attached in the container's mount namespace.
    :param procs: files to write ``0`` (or, from outside, the process's id) to, for the process to
        enter its control group before it executes anything.
    :param idmap: the map of a new user namespace.
    :param init: run a small init as pid 1 that reaps and passes signals on (``--init``).
    :param cgroup_mounts: the hierarchies to show below /sys/fs/cgroup (a mount of the type
        ``cgroup`` in the spec), as :meth:`~pannier.drivers.resources.ResourceDriver.mount_points`.
    """

    id: str
    spec: oci.Spec
    root: int
    stdio: StdioSpec = field(default_factory=StdioSpec)
    procs: tuple[Path, ...] = ()
    idmap: IdMap | None = None
    init: bool = False
    cgroup_mounts: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A process to add to a running container.

    :param exec_id: unique within the container.
    :param process: the OCI ``process`` object.
    :param connection: a client to attach from the first byte on; None for a detached exec.
    """

    exec_id: str
    process: oci.Process
    stdio: StdioSpec = field(default_factory=StdioSpec)
    connection: Connection | None = None
    procs: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """A container as the runtime sees it.

    :param status: the OCI specification's states.
    :param pid: of the first process, in the host's pid namespace; 0 once it has stopped.
    :param exit_status: 0 to 255, 128+n for signal n; None while it has not stopped.
    :param finished: seconds since the epoch; 0.0 while it has not stopped.
    :param lost: as :attr:`ExitEvent.lost`.
    """

    id: str
    status: Literal["created", "running", "stopped"]
    pid: int = 0
    exit_status: int | None = None
    finished: float = 0.0
    lost: bool = False


@dataclass(frozen=True, slots=True)
class ExitEvent:
    """A process has ended.

    :param exec_id: None for the container's first process.
    :param lost: the status is not known (its monitor was killed); 137 is given then.
    """

    container: str
    exec_id: str | None
    exit_status: int
    finished: float
    lost: bool = False


@dataclass(frozen=True, slots=True)
class DetachEvent:
    """A client has left a process's streams by its detaching keys.

    One that hangs up is not told of.

    :param exec_id: None for the container's first process.
    """

    container: str
    exec_id: str | None


class RuntimeWatch:
    """A subscription to what happens to a container, made for an event loop: poll it, then read it.

    Exits, and clients that leave by their keys.
    """

    @abstractmethod
    def fileno(self) -> int:
        """Return a descriptor that polls readable when :meth:`read` has something to give."""

    @abstractmethod
    def read(self) -> list[ExitEvent | DetachEvent]:
        """Return the events that have come since the last call; never blocks.

        After the first process's own exit no more follow, and the watch may be closed.

        :raises DriverError: it can tell nothing more. The container's state says what became of it,
            and a new watch may be had.
        """

    @abstractmethod
    def close(self) -> None:
        """End the subscription. Idempotent."""


class RuntimeDriver(Driver):
    """Runs containers."""

    kind: ClassVar[str] = "runtime"
    capabilities: ClassVar[AbstractSet[RuntimeCapability]] = frozenset()

    @abstractmethod
    def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
        """Create a container: namespaces, mounts and limits in place, its process held back.

        :raises Conflict: a container of that id exists.
        :raises InvalidRequest: the spec asks for something malformed.
        :raises UnsupportedOperation: the spec asks for something that is not offered, by name.
        :raises StartFailed: the process cannot be executed, where that is found out by now
            already, rather than by :meth:`start`; there is no container then.
        :raises DriverError: the kernel refused a step.
        """

    @abstractmethod
    def start(
        self,
        id: str,
        connections: Sequence[Connection] = (),
        keep: Sequence[int] = (),
    ) -> None:
        """Let a created container's process execute, with clients attached from the first byte.

        :param keep: descriptors to hold open until the container has stopped.
        :raises StartFailed: the process could not be executed; the container has stopped.
        :raises NotFound: there is no such container.
        """

    @abstractmethod
    def state(self, id: str) -> RuntimeState:
        """Return a container's state.

        :raises NotFound: there is no such container.
        """

    @abstractmethod
    def containers(self) -> Iterator[str]:
        """Yield the id of every container that was created and not deleted."""

    @abstractmethod
    def kill(self, id: str, signal: int) -> None:
        """Send a signal to a container's first process.

        :raises NotFound: there is no such container.
        :raises Conflict: it has stopped.
        """

    @abstractmethod
    def attach(self, id: str, connection: Connection, exec_id: str | None = None) -> int:
        """Hand a client's connection to a running process's streams.

        Return from when on it has the output: nanoseconds since the epoch, on the clock by which
        the log's records have their times. What was logged earlier it does not get from here.

        :raises NotFound: there is no such process.
        :raises Conflict: it has stopped.
        """

    @abstractmethod
    def resize(self, id: str, rows: int, columns: int, exec_id: str | None = None) -> None:
        """Set the size of a process's terminal. Without a terminal nothing happens.

        :raises NotFound: there is no such process.
        """

    @abstractmethod
    def exec(self, id: str, request: ExecRequest) -> int:
        """Start a further process in a running container; return its pid in the host's namespace.

        Its end comes as an event of the container's watch.

        :raises StartFailed: the process could not be executed.
        :raises Conflict: the container is not running.
        """

    @abstractmethod
    def kill_exec(self, id: str, exec_id: str, signal: int) -> None:
        """Send a signal to a process that ``exec`` started; nothing where it has ended."""

    @abstractmethod
    def watch(self, id: str) -> RuntimeWatch:
        """Subscribe to a container's events.

        The first process's exit is given at once if it came before, and so is all that came while
        nobody had subscribed.

        :raises NotFound: there is no such container.
        """

    @abstractmethod
    def delete(self, id: str) -> None:
        """Kill a container that still lives, and forget it. Idempotent."""
