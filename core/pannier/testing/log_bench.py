"""What the log driver's tests share: containers to log, and the sinks that were opened for them."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

import pytest

from pannier.drivers.log import LogCapability, LogDriver, LogEntry, LogSource
from pannier.drivers.logfile import STDERR, STDOUT
from pannier.errors import InvalidRequest
from pannier.testing.base import FAILED, Conformance, Opened
from pannier.testing.leaks import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pannier.drivers.log import LogForm, LogSink

__all__ = ["MOMENT", "LogBench", "LogDelivery", "LogTests", "entries", "pieces", "source"]

MOMENT: Final = 1_717_236_305_123_456_789
"""2024-06-01 10:05:05 UTC, in nanoseconds since the epoch."""

_PIECE: Final = 16 << 10
"""Bytes of the longest entry."""


def source(name: str = "web", **more: object) -> LogSource:
    """Return a container as the engine describes it; its id follows from its name."""
    facts: dict[str, object] = {
        "image_id": f"sha256:{'0123456789abcdef' * 4}",
        "image_name": "example.org/team/app:1",
        "args": ("serve", "--all"),
        "environment": ("PATH=/bin", "EMPTY=", "TEXT=a b=c"),
        "labels": {"org.example.team": "blue"},
        "created": MOMENT,
        "host": "kit",
    }
    return LogSource(name.encode().hex().ljust(64, "0")[:64], name, **(facts | more))  # type: ignore[arg-type]  # by name


def entries(*lines: bytes, stream: int = 0, first: int = 0) -> list[LogEntry]:
    """Return whole lines as the engine hands them over, a microsecond apart.

    :param stream: of all of them; 0 for both in turn.
    :param first: the number of the first, for its time.
    """
    return [
        LogEntry(MOMENT + number * 1000, stream or (STDOUT, STDERR)[number % 2], line + b"\n")
        for number, line in enumerate(lines, first)
    ]


def pieces(line: bytes, stream: int = STDOUT) -> list[LogEntry]:
    """Return a long line as the engine hands it over: in entries of 16 KiB."""
    whole = line + b"\n"
    return [
        LogEntry(MOMENT, stream, whole[begin : begin + _PIECE])
        for begin in range(0, len(whole), _PIECE)
    ]


@dataclass
class LogBench:
    """The driver, and the options of the containers that are logged with it.

    :param options: cannot be written to, as the contract's type says.
    """

    opened: Opened[LogDriver]
    options: Mapping[str, str]

    @property
    def driver(self) -> LogDriver:
        """The instance that is open now."""
        return self.opened.driver

    def form(self, more: Mapping[str, str] | None = None) -> LogForm | None:
        """Return how the file is kept, for the options of the tests and some more."""
        return self.driver.form(MappingProxyType({**self.options, **(more or {})}))

    def accepts(self, more: Mapping[str, str]) -> bool:
        """Whether a container can be made with some more options."""
        try:
            self.driver.check(MappingProxyType({**self.options, **more}))
        except InvalidRequest:
            return False
        return True

    @property
    def writes(self) -> bool:
        """Whether anything is logged at all, so that options have a meaning."""
        return self.form() is not None


@dataclass
class LogDelivery:
    """Stands in for the engine's thread that delivers, and looks at where lines arrive.

    :param arrived: all lines that have arrived during the test.
    :param patience: seconds that a line may take.
    """

    bench: LogBench
    arrived: Callable[[], Sequence[bytes]]
    patience: float
    sinks: list[LogSink] = field(default_factory=list)

    def open(self, of: LogSource | None = None) -> LogSink:
        """Open a sink; it is closed, twice, after the test."""
        sink = self.bench.driver.open(of or source(), self.bench.options)
        self.sinks.append(sink)
        return sink

    def deliver(self, wanted: Sequence[LogEntry], of: LogSource | None = None) -> None:
        """Open a sink for some lines, write them, and close it."""
        with contextlib.closing(self.open(of)) as sink:
            sink.write(wanted)

    def offer(self, wanted: Sequence[LogEntry], of: LogSource | None = None) -> bool:
        """Offer lines once, as the engine does: whether they count as delivered."""
        try:
            self.deliver(wanted, of)
        except Exception:  # noqa: BLE001 - whatever it is, the engine offers them again
            return False
        return True

    def lines(self, mark: bytes = b"") -> list[bytes]:
        """Return what has arrived of the lines that begin with a mark."""
        return [line for line in self.arrived() if line.startswith(mark)]

    def expect(self, *lines: bytes, mark: bytes = b"") -> None:
        """Wait until as many lines have arrived; they must be these, in this order."""
        wait_until(lambda: len(self.lines(mark)) >= len(lines), self.patience)
        assert self.lines(mark) == list(lines)

    def expect_each(self, *lines: bytes, mark: bytes = b"") -> None:
        """Wait until all of these have arrived, in this order; some of them may more than once."""
        wait_until(lambda: set(lines) <= set(self.lines(mark)), self.patience)
        first_of_each = list(dict.fromkeys(self.lines(mark)))
        assert first_of_each == list(lines), "lines are missing, in disorder, or torn"

    def threads_beyond(self, before: set[threading.Thread]) -> list[str]:
        """Return the threads that are there besides earlier ones; what is ending is awaited."""

        def left() -> list[str]:
            return sorted(thread.name for thread in set(threading.enumerate()) - before)

        wait_until(lambda: not left(), self.patience)
        return left()

    def close(self) -> None:
        """Close every sink, twice: the second time is no error."""
        for sink in self.sinks:
            sink.close()
            sink.close()


class LogTests(Conformance[LogDriver]):
    """What the parts of the log kit share, and what an author may set."""

    contract: ClassVar[type[LogDriver]] = LogDriver
    options_attribute: ClassVar[str] = "log_options"

    log_options: ClassVar[Mapping[str, str]] = {}
    """The options of the tests' containers (``--log-opt``); see the fixture :meth:`options` where
    they are known only when a test runs."""

    wrong_options: ClassVar[Sequence[Mapping[str, str]]] = ()
    """Options of the driver's own with values that it must refuse, beside those that all drivers
    have in common."""

    # What an author supplies for a driver that delivers, or may change.

    @pytest.fixture
    def options(self) -> Mapping[str, str]:
        """Return the options of the tests' containers; a test's own server, for instance."""
        return self.log_options

    @pytest.fixture
    def arrived(self) -> Callable[[], Sequence[bytes]]:
        """Return a function that gives all lines that have arrived where the driver delivers to.

        In their order, each without its newline and without what the driver puts around it. The
        author of a driver that declares DELIVER supplies it. The function is called again and
        again until what is waited for has come. A line of more than 16 KiB may arrive in pieces.
        """
        pytest.fail(
            f"{type(self).__name__} tests a driver that declares {LogCapability.DELIVER}: it needs"
            " a fixture arrived; see docs/conformance.md"
        )

    @pytest.fixture
    def outage(self) -> Callable[[], AbstractContextManager[None]]:
        """Return a function that gives a context in which nothing can be delivered to there.

        As while a server is down. Without it the tests of outages do not apply.
        """
        pytest.skip("not applicable: there is no fixture outage, which makes one")

    # The machinery.

    @pytest.fixture
    def bench(self, opened: Opened[LogDriver], options: Mapping[str, str]) -> LogBench:
        """Return the driver with the tests' options."""
        return LogBench(opened, MappingProxyType(dict(options)))

    @pytest.fixture
    def delivery(
        self,
        request: pytest.FixtureRequest,
        bench: LogBench,
        arrived: Callable[[], Sequence[bytes]],
    ) -> Iterator[LogDelivery]:
        """Return what delivers; in the end every sink is closed."""
        made = LogDelivery(bench, arrived, self.patience)
        yield made
        if request.node.stash.get(FAILED, False):
            with contextlib.suppress(Exception):
                made.close()
        else:
            made.close()
