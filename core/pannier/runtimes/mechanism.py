"""What makes a container, and adds processes to it: the part of a runtime that is its author's.

A :class:`Mechanism` lives in its container's monitor (:mod:`pannier.runtimes.monitor`), a process
with one thread, whose working directory is the container's folder. Every process that it leaves
behind becomes, or is, the monitor's child, which takes note of its end. Nothing heavy is imported
here: there is a monitor for each container.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pannier.runtimes.jobs import StdioJob

__all__ = ["Failure", "Launched", "Mechanism"]


class Failure(Exception):
    """It could not be done. *number* is execve's errno, where a program could not be executed."""

    def __init__(self, text: str, number: int = 0) -> None:
        super().__init__(text)
        self.number = number


class Launched:
    """A process: its id in the monitor's pid namespace, and its terminal's master or -1."""

    __slots__ = ("master", "pid")

    def __init__(self, pid: int, master: int = -1) -> None:
        self.pid = pid
        self.master = master


class Mechanism(ABC):
    """Makes one container.

    An :class:`OSError` or a :class:`Failure` that a method raises is told to whoever asked.

    :param id: the container's id.
    :param job: what the driver said of it (:class:`~pannier.runtimes.monitored.Blueprint`).
    :param descriptors: those that the job speaks of, open until the container is created.
    """

    def __init__(self, id: str, job: Any, descriptors: Sequence[int]) -> None:
        self.id = id
        self.job = job
        self.descriptors = descriptors

    @abstractmethod
    def create(self, stdio: StdioJob, streams: Sequence[int]) -> Launched:
        """Make the container, its first process held back.

        The process must end when the monitor is killed, or be one that the driver's ``clear``
        finds: from here on until its id is noted nothing else knows of it.

        :param streams: the process's stdin, stdout and stderr; none where it is to have a terminal.
        """

    def noted(self, pid: int) -> None:  # noqa: B027 - most have nothing to do
        """Go on after the first process's id was noted, by which it is found from now on."""

    @abstractmethod
    def start(self) -> None:
        """Let the first process execute. After a failure the monitor kills it."""

    @abstractmethod
    def execute(
        self, process: Any, stdio: StdioJob, streams: Sequence[int], procs: Sequence[int]
    ) -> Launched:
        """Add a process; return once it executes.

        :param process: what the driver's ``exec_process`` has returned.
        :param streams: as for :meth:`create`.
        :param procs: descriptors of the files by which it enters its control groups.
        """

    def delete(self) -> None:  # noqa: B027 - most have nothing to do
        """Take away what is left of the container, whose first process has ended or been killed."""
