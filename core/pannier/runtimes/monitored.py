"""Runtime drivers whose containers have a monitor of Pannier's: the daemon's side.

An author supplies what makes a container, a :class:`~pannier.runtimes.mechanism.Mechanism`, and a
driver that says what it is to make: :meth:`MonitoredRuntime.draw`. The streams, the log, exit
statuses, restarts of the daemon and what is left of a killed monitor are seen to.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pannier.drivers.operations import Operation, Plan, Step
from pannier.drivers.runtime import RuntimeState
from pannier.errors import Conflict, DriverError
from pannier.runtimes.processes import stdio_job
from pannier.runtimes.sealing import start_sealed
from pannier.runtimes.supervised import SupervisedRuntime, exchange, failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pannier.drivers.runtime import CreateRequest
    from pannier.runtimes.descriptors import DescriptorList
    from pannier.runtimes.jobs import MonitorJob
    from pannier.runtimes.mechanism import Mechanism

__all__ = ["Blueprint", "MonitoredRuntime"]

_PATIENCE = 60.0


@dataclass(slots=True)
class Blueprint:
    """What a mechanism is to be told of a container.

    :param job: plain values only: numbers, text, bytes, lists, tuples, mappings, None.
    :param descriptors: named here, opened when the container is created; the job speaks of them by
        their index.
    :param steps: what will be done, for ``--explain``.
    :param own_pids: the container's processes all end with its first one.
    """

    job: object
    descriptors: DescriptorList
    steps: Sequence[Step] = field(default_factory=list)
    own_pids: bool = False


class MonitoredRuntime(SupervisedRuntime):
    """All of the contract but ``probe``: :meth:`draw` and :meth:`exec_process` are left.

    Keeping descriptors (:attr:`RuntimeCapability.KEEP_DESCRIPTORS`) is offered: declare it.
    """

    mechanism: ClassVar[type[Mechanism]]
    """What makes a container, of a module in a package of the driver's own. The package's
    ``__init__`` is not run in a monitor."""

    @abstractmethod
    def draw(self, request: CreateRequest, folder: Path) -> Blueprint:
        """Say what the mechanism is to make; nothing is looked at, made or opened.

        :param folder: the container's, which is not there yet.
        :raises InvalidRequest: something is malformed.
        :raises UnsupportedOperation: something is not offered, by name.
        """

    def plan_create(self, request: CreateRequest) -> Plan[RuntimeState]:
        """See :meth:`RuntimeDriver.plan_create`."""
        folder = self.store.folder(request.id)
        blueprint = self.draw(request, folder)
        descriptors = blueprint.descriptors
        job: MonitorJob = {
            "mechanism": f"{self.mechanism.__module__}:{self.mechanism.__qualname__}",
            "id": request.id,
            "folder": descriptors.add_path(folder, os.O_RDONLY | os.O_DIRECTORY, "the folder"),
            "stdio": stdio_job(request.stdio, request.spec["process"], request.idmap, descriptors),
            "own_pids": blueprint.own_pids,
            "job": blueprint.job,
        }
        operation = _Create(self, job, blueprint)
        return Plan(self.id, [operation], operation.state)

    def create(self, job: MonitorJob, descriptors: DescriptorList) -> int:
        """Have a new monitor create a container; return the first process's id.

        A failure leaves the folder for :meth:`delete`.
        """
        id = job["id"]
        folder = self.store.create(id)
        ours, theirs = socket.socketpair()
        with ours, descriptors.opened() as opened:
            with theirs:
                self._spawn(theirs, folder)
            ours.settimeout(_PATIENCE)
            reply = exchange(ours, job, opened, id)
        if reply is None:
            raise DriverError(
                f"the monitor of {id} has ended while it created it: {_last_word(folder)}"
            )
        if "error" in reply:
            raise failure(reply, f"cannot create {id}")
        return reply["pid"]

    def _spawn(self, connection: socket.socket, folder: Path) -> None:
        """Start a monitor, which is nobody's child then."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(folder / "monitor.log", flags, 0o600)
        try:
            starter = start_sealed(
                "pannier.runtimes.monitor_main",
                connection,
                packages=(self.mechanism.__module__.partition(".")[0],),
                paths=[path for path in sys.path if path.startswith("/")],
                errors=log,
            )
            if status := starter.wait(_PATIENCE):
                raise DriverError(f"a monitor could not be started: its status is {status}")
        except (OSError, subprocess.SubprocessError) as error:
            raise DriverError(f"a monitor could not be started: {error}") from error
        finally:
            os.close(log)


def _last_word(folder: Path) -> str:
    """Return the last line of a monitor's log, which goes with the folder."""
    text = (folder / "monitor.log").read_text(encoding="utf-8", errors="replace")
    return text.strip().rpartition("\n")[2] or "it said nothing"


class _Create(Operation):
    """All that is between nothing and the process that waits to be started."""

    def __init__(self, driver: MonitoredRuntime, job: MonitorJob, blueprint: Blueprint) -> None:
        self._driver = driver
        self._job = job
        self._blueprint = blueprint
        self._ours = True
        self._pid = 0

    def describe(self) -> Sequence[Step]:
        """Return the driver's steps."""
        return self._blueprint.steps

    def execute(self) -> None:
        """Create the container."""
        try:
            self._pid = self._driver.create(self._job, self._blueprint.descriptors)
        except Conflict:
            self._ours = False
            raise

    def state(self) -> RuntimeState:
        """Return the state of the container just created."""
        return RuntimeState(self._job["id"], "created", self._pid)

    def undo(self) -> None:
        """Delete the container, unless it was another's all along."""
        if self._ours:
            self._driver.delete(self._job["id"])
