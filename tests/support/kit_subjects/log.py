"""What the log kit is tried on: drivers that each break the contract once.

Not collected by itself: ``test_other_kits`` runs it, and reads how each test went. Each class says
in *meant* which test must fail, and in *because* what that test must say. They deliver into one
file for all containers.
"""

# ruff: noqa: D101, D106, N801 - what each class breaks, its name and *because* say

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pannier.drivers.log import LogCapability, LogDriver, LogForm, LogSink
from pannier.drivers.logoptions import refuse_unknown, rotation
from pannier.errors import InvalidRequest
from pannier.testing.log import LogConformance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pannier.drivers.base import DriverContext
    from pannier.drivers.log import LogEntry, LogSource

pytest_plugins = "pannier.testing.plugin"

BOTH = frozenset(LogCapability)


class File(LogSink):
    """Appends lines to a file, and holds nothing back."""

    mode: ClassVar[str] = "ab"

    def __init__(self, path: Path) -> None:
        self.file = path.open(self.mode, buffering=0)

    def write(self, entries: Sequence[LogEntry]) -> None:
        self.file.write(self.text(entries))

    def text(self, entries: Sequence[LogEntry]) -> bytes:
        return b"".join(entry.data for entry in entries)

    def close(self) -> None:
        self.file.close()


class Sound(LogDriver):
    """Keeps the contract."""

    id: ClassVar[str] = "broken"
    config_type: ClassVar[type[Any]] = object
    capabilities: ClassVar[frozenset[LogCapability]] = BOTH
    sink: ClassVar[Callable[[Path], LogSink]] = File

    @classmethod
    def probe(cls, context: DriverContext, config: object) -> None:
        """Work anywhere."""

    def __init__(self, context: DriverContext) -> None:
        self.path = context.root / "lines"

    def check(self, options: Mapping[str, str]) -> None:
        refuse_unknown(self.id, options, ["max-size", "max-file", "tag"])
        self.form(options)

    def form(self, options: Mapping[str, str]) -> LogForm | None:
        return rotation(options, "1m", 2)

    def open(self, source: LogSource, options: Mapping[str, str]) -> LogSink:
        del source, options
        return type(self).sink(self.path)


class Subject(LogConformance):
    """The kit with a driver that the class names."""

    driver: type[Sound] = Sound
    may_keep = ("lines*",)
    patience = 0.5

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], LogDriver]:
        return self.driver

    @pytest.fixture
    def arrived(self, context: DriverContext) -> Callable[[], list[bytes]]:
        def lines() -> list[bytes]:
            with contextlib.suppress(FileNotFoundError):
                return (context.root / "lines").read_bytes().split(b"\n")[:-1]
            return []

        return lines

    @pytest.fixture
    def outage(self, context: DriverContext) -> Callable[[], Any]:
        @contextlib.contextmanager
        def away() -> Iterator[None]:
            elsewhere = context.root.rename(context.root.with_name("away"))
            yield
            elsewhere.rename(context.root)

        return away


# Options and forms.


class TestTakesAnyOption(Subject):
    meant, because = "test_unknown_options_are_refused", "DID NOT RAISE"

    class driver(Sound):
        def check(self, options: Mapping[str, str]) -> None:
            self.form(options)


class TestRefusesWithoutAHint(Subject):
    meant, because = "test_unknown_options_are_refused", "has no hint"

    class driver(Sound):
        def check(self, options: Mapping[str, str]) -> None:
            try:
                super().check(options)
            except InvalidRequest as error:
                raise InvalidRequest(error.message) from None


class TestTakesNonsenseForNoLimit(Subject):
    meant, because = "test_senseless_limits_are_refused", "DID NOT RAISE"

    class driver(Sound):
        def form(self, options: Mapping[str, str]) -> LogForm:
            try:
                return rotation(options, "1m", 2)
            except InvalidRequest:
                return LogForm()


class TestIgnoresALimit(Subject):
    meant, because = "test_limits_are_honoured", r"\(0, 7\) == \(3145728, 7\)"

    class driver(Sound):
        def form(self, options: Mapping[str, str]) -> LogForm:
            return replace(rotation(options, "1m", 2), max_size=0)


class TestChecksLessThanItNeeds(Subject):
    meant, because = "test_what_was_checked_is_good", "KeyError: 'name'"

    class driver(Sound):
        def form(self, options: Mapping[str, str]) -> LogForm:
            options.get("tag", "").replace("{{.Name}}", "{name}").format()
            return LogForm()


class TestCountsItsCalls(Subject):
    meant, because = "test_the_form_follows_from_the_options", "LogForm"

    class driver(Sound):
        calls = 0

        def form(self, options: Mapping[str, str]) -> LogForm:
            self.calls += 1
            return replace(rotation(options), max_files=self.calls)


class TestWritesToTheOptions(Subject):
    meant, because = "test_the_form_follows_from_the_options", "mappingproxy"

    class driver(Sound):
        calls = 0

        def form(self, options: Mapping[str, str]) -> LogForm:
            self.calls += 1
            if self.calls > 1:
                options["max-size"] = "1m"  # type: ignore[index]  # the fault
            return rotation(options)


class TestKeepsNoFile(Subject):
    meant, because = "test_the_form_is_one_that_can_be_kept", "0 >= 1"

    class driver(Sound):
        def form(self, options: Mapping[str, str]) -> LogForm:
            del options
            return LogForm(1, 0)


class TestCannotBeReadAfterAll(Subject):
    meant, because = "test_what_can_be_read_is_kept", "readable"

    class driver(Sound):
        def form(self, options: Mapping[str, str]) -> LogForm:
            return replace(rotation(options), readable=False)


class TestDeliversWhatIsNeverWritten(Subject):
    meant, because = "test_what_is_delivered_is_written", "is not None"

    class driver(Sound):
        def form(self, options: Mapping[str, str]) -> None:
            del options


class TestPretendsToDeliver(Subject):
    meant, because = "test_delivery_is_refused", "DID NOT RAISE"

    class driver(Sound):
        capabilities = frozenset({LogCapability.READ})


# Delivery.


class TestSortsABatch(Subject):
    meant, because = "test_lines_arrive_in_order", "At index"

    class driver(Sound):
        class sink(File):
            def text(self, entries: Sequence[LogEntry]) -> bytes:
                return super().text(sorted(entries, key=lambda entry: entry.stream))


class TestHoldsTheLastLineBack(Subject):
    meant, because = "test_what_was_written_is_not_held_back", r"\[\] == \[b'one'\]"

    class driver(Sound):
        class sink(File):
            def __init__(self, path: Path) -> None:
                super().__init__(path)
                self.held = b""

            def write(self, entries: Sequence[LogEntry]) -> None:
                self.file.write(self.held)
                self.held = self.text(entries)

            def close(self) -> None:
                if not self.file.closed:
                    self.file.write(self.held)
                super().close()


class TestWritesInTheBackground(Subject):
    meant, because = "test_what_was_written_outlives_a_kill", "== "

    class driver(Sound):
        class sink(File):
            def write(self, entries: Sequence[LogEntry]) -> None:
                self.timer = threading.Timer(0.05, super().write, [entries])
                self.timer.start()

            def close(self) -> None:
                if hasattr(self, "timer"):
                    self.timer.join()
                super().close()


class TestBeginsAnew(Subject):
    meant, because = "test_a_restart_goes_on", "== "

    class driver(Sound):
        class sink(File):
            mode = "wb"


class TestNeedsAnImage(Subject):
    meant, because = "test_any_container_is_logged", "IndexError"

    class driver(Sound):
        def open(self, source: LogSource, options: Mapping[str, str]) -> LogSink:
            assert source.image_id.split(":")[1]
            return super().open(source, options)


class TestWantsText(Subject):
    meant, because = "test_any_bytes_are_delivered", "UnicodeDecodeError"

    class driver(Sound):
        class sink(File):
            def text(self, entries: Sequence[LogEntry]) -> bytes:
                return super().text(entries).decode().encode()


class TestCutsLongLines(Subject):
    meant, because = "test_a_long_line_arrives_whole", "=="

    class driver(Sound):
        class sink(File):
            def text(self, entries: Sequence[LogEntry]) -> bytes:
                return super().text([replace(one, data=one.data[:8192]) for one in entries])


class TestPassesOverEmptyLines(Subject):
    meant, because = "test_empty_lines_are_lines", "=="

    class driver(Sound):
        class sink(File):
            def text(self, entries: Sequence[LogEntry]) -> bytes:
                return super().text([one for one in entries if one.data.strip()])


class TestSharesAConnection(Subject):
    meant, because = "test_sinks_do_not_depend_on_one_another", "closed file"

    class driver(Sound):
        shared: LogSink | None = None

        def open(self, source: LogSource, options: Mapping[str, str]) -> LogSink:
            self.shared = self.shared or super().open(source, options)
            return self.shared


class TestMixesContainersUp(Subject):
    meant, because = "test_many_containers_write_at_once", "=="

    class driver(Sound):
        class sink(File):
            everyone = threading.Barrier(2)

            def write(self, entries: Sequence[LogEntry]) -> None:
                text = self.text(entries)
                self.file.write(text[:4])
                with contextlib.suppress(threading.BrokenBarrierError):
                    self.everyone.wait(0.5)
                self.file.write(text[4:])


class TestIsBoundToAThread(Subject):
    meant, because = "test_a_sink_is_not_bound_to_a_thread", "ProgrammingError"

    class driver(Sound):
        class sink(File):
            def __init__(self, path: Path) -> None:
                super().__init__(path)
                self.database = sqlite3.connect(":memory:")

            def write(self, entries: Sequence[LogEntry]) -> None:
                self.database.execute("SELECT 1")
                super().write(entries)

            def close(self) -> None:
                with contextlib.suppress(sqlite3.ProgrammingError):
                    self.database.close()
                super().close()


class TestCanBeClosedOnce(Subject):
    meant, because = "test_closing_is_idempotent", "OSError"

    class driver(Sound):
        class sink(File):
            def __init__(self, path: Path) -> None:
                super().__init__(path)
                self.number = os.dup(self.file.fileno())

            def close(self) -> None:
                os.close(self.number)
                super().close()


class TestLeavesAThread(Subject):
    meant, because = "test_closing_is_idempotent", "threads of closed sinks go on"

    class driver(Sound):
        class sink(File):
            def close(self) -> None:
                if not self.file.closed:
                    threading.Timer(5, lambda: None).start()
                super().close()


class TestLeavesADescriptor(Subject):
    meant, because = "test_closing_is_idempotent", "leaves behind:.*descriptor: .*lines"

    class driver(Sound):
        class sink(File):
            def close(self) -> None:
                if not self.file.closed:
                    os.dup(self.file.fileno())
                super().close()


class TestSwallowsErrors(Subject):
    meant, because = "test_an_outage_loses_nothing", "lines are missing"

    class driver(Sound):
        class sink(LogSink):
            def __init__(self, path: Path) -> None:
                self.path = path

            def write(self, entries: Sequence[LogEntry]) -> None:
                with contextlib.suppress(OSError), contextlib.closing(File(self.path)) as file:
                    file.write(entries)

            def close(self) -> None:
                pass


class TestAsksTheServerForTheForm(Subject):
    meant, because = "test_containers_start_during_an_outage", "FileNotFoundError"

    class driver(Sound):
        def form(self, options: Mapping[str, str]) -> LogForm | None:
            self.path.parent.stat()
            return super().form(options)


class TestTearsLinesAtAKill(Subject):
    meant, because = "test_a_kill_in_mid_delivery_loses_nothing", "torn"

    class driver(Sound):
        class sink(File):
            def write(self, entries: Sequence[LogEntry]) -> None:
                for entry in entries:
                    self.file.write(entry.data[:-1])
                    self.file.write(entry.data[-1:])
