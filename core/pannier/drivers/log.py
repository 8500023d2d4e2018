"""The log contract: what becomes of a container's output.

The container's monitor writes output to a file, in the form of :mod:`pannier.drivers.logfile`,
whether or not the engine's process lives; a log driver says how that file is kept
(:meth:`LogDriver.form`). ``logs`` reads it back, where the driver declares
:attr:`LogCapability.READ`. A driver that declares :attr:`LogCapability.DELIVER` is handed every
line besides, read from that file by the engine: the file is the buffer. What has been delivered is
noted on disk, so that a new engine goes on where the last one stopped; what was being delivered
when an engine was killed is delivered again.

Each container's delivery has a thread of its own. A sink that raises is closed, and the same lines
are offered to a new one after a while; a sink that hangs, or a server that is away for long, costs
its own container those lines that the file's limits let go of, and nobody else anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping  # noqa: TC003 - part of a value type
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from pannier.drivers.base import Driver
from pannier.errors import UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

__all__ = ["LogCapability", "LogDriver", "LogEntry", "LogForm", "LogSink", "LogSource"]


class LogCapability(StrEnum):
    """What a log driver may declare."""

    READ = "read"
    """What was logged can be read back (``logs``)."""

    DELIVER = "deliver"
    """:meth:`LogDriver.open` gives a sink, which is handed every line."""


@dataclass(frozen=True, slots=True)
class LogForm:
    """How the file that a container's output is written to is kept.

    :param max_size: bytes after which a new file is begun; 0 for never.
    :param max_files: how many files are kept, the current one included.
    :param readable: whether these may be read back, where the driver declares READ.
    """

    max_size: int = 0
    max_files: int = 1
    readable: bool = True


@dataclass(frozen=True, slots=True)
class LogSource:
    """The container whose lines are delivered.

    :param image_id: with its ``sha256:``; empty for a container without an image.
    :param image_name: as the user named it.
    :param args: the whole command line.
    :param environment: ``NAME=value``.
    :param created: nanoseconds since the epoch.
    :param host: what the host is called.
    """

    id: str
    name: str
    image_id: str = ""
    image_name: str = ""
    args: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    created: int = 0
    host: str = ""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of output, or a piece of one that is longer than 16 KiB.

    :param time: nanoseconds since the epoch, of the line's beginning.
    :param stream: ``STDOUT`` or ``STDERR`` of :mod:`pannier.drivers.logfile`.
    :param data: with its newline, unless the line goes on in the stream's next entry or has ended
        without one.
    """

    time: int
    stream: int
    data: bytes


class LogSink(ABC):
    """Where one container's lines go. Used by one thread at a time."""

    @abstractmethod
    def write(self, entries: Sequence[LogEntry]) -> None:
        """Deliver lines, in order; on return they count as delivered.

        An error, of whatever kind, closes the sink; the same lines are offered to the next one.
        May block for as long as it takes.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection. Idempotent; called also after an error of :meth:`write`."""


class LogDriver(Driver):
    """Says how a container's output is kept, and may take it elsewhere."""

    kind: ClassVar[str] = "log"
    capabilities: ClassVar[AbstractSet[LogCapability]] = frozenset()

    @abstractmethod
    def check(self, options: Mapping[str, str]) -> None:
        """Check a new container's ``--log-opt``; the engine's own (``mode`` …) are not among them.

        :raises InvalidRequest: an option is not known (see
            :func:`pannier.drivers.logoptions.refuse_unknown`) or has a wrong value.
        """

    @abstractmethod
    def form(self, options: Mapping[str, str]) -> LogForm | None:
        """Return how output is written to the file; None for not at all.

        Computed from the options alone, which :meth:`check` has passed: it is asked for every
        start and every ``logs``, and nothing else goes on meanwhile. Where it gives None nothing
        is delivered either.
        """

    def open(self, source: LogSource, options: Mapping[str, str]) -> LogSink:
        """Return a new sink for a container's lines; called when there is a first line for it.

        A driver that declares DELIVER implements this. An error is treated as one of
        :meth:`LogSink.write`.
        """
        raise UnsupportedOperation(
            f"the log driver {self.id!r} delivers nothing, and was asked to for {source.name}",
            hint=f"its options were: {', '.join(options) or 'none'}",
        )
