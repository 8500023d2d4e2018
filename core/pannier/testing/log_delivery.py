"""What every log driver that delivers must hold: no line is lost, torn, or out of its order."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.log import LogCapability
from pannier.testing.base import mandatory, requires
from pannier.testing.faults import count_lines, die, kill_at_line, killed, spread
from pannier.testing.log_bench import LogTests, entries, pieces, source

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pannier.drivers.log import LogDriver
    from pannier.testing.log_bench import LogBench, LogDelivery

__all__ = ["DeliveryTests"]

_DELIVER = LogCapability.DELIVER

_KILLS = 40
"""How many points of a delivery are tried; small drivers have no more."""

_SOURCES: dict[str, dict[str, Any]] = {
    "full": {},
    "bare": {
        "image_id": "",
        "image_name": "",
        "args": (),
        "environment": (),
        "labels": {},
        "created": 0,
        "host": "",
    },
    "odd": {
        "image_name": "registry.example:5000/a/b@sha256:" + "f" * 64,
        "args": ("sh", "-c", 'echo "a b"\necho ü', ""),
        "environment": ("LONG=" + "x" * 5000, "UTF=ü€😀", "NAMEONLY"),
        "labels": {"": "", "with space": 'quote " and \\', "ü": "€"},
    },
}


class DeliveryTests(LogTests):
    """Lines that are handed to sinks."""

    @mandatory
    @requires(_DELIVER)
    def test_lines_arrive_in_order(self, delivery: LogDelivery) -> None:
        """Every one, once, whichever stream it is of and however many come at a time."""
        lines = [b"line %d" % number for number in range(100)]
        sink = delivery.open()
        begin = 0
        for size in (1, 2, 30, 67):
            sink.write(entries(*lines[begin : begin + size], first=begin))
            begin += size
        delivery.expect(*lines)

    @mandatory
    @requires(_DELIVER)
    def test_what_was_written_is_not_held_back(self, delivery: LogDelivery) -> None:
        """Lines arrive while their container goes on in silence and its sink stays open."""
        sink = delivery.open()
        sink.write(entries(b"one"))
        delivery.expect(b"one")
        sink.write(entries(b"two", first=1))
        delivery.expect(b"one", b"two")

    @mandatory
    @requires(_DELIVER)
    def test_what_was_written_outlives_a_kill(self, delivery: LogDelivery, bench: LogBench) -> None:
        """When write has returned the lines count as delivered: they are not in memory alone."""

        def write_and_die(driver: LogDriver) -> None:
            driver.open(source(), bench.options).write(entries(b"one", b"two"))
            die()

        assert killed(bench.opened, write_and_die)
        delivery.expect(b"one", b"two")

    @mandatory
    @requires(_DELIVER)
    def test_a_restart_goes_on(self, delivery: LogDelivery, bench: LogBench) -> None:
        """What an earlier sink, or an earlier instance, has delivered stays where it arrived."""
        delivery.deliver(entries(b"one", b"two"))
        delivery.deliver(entries(b"three", first=2))
        bench.opened.reopen()
        delivery.deliver(entries(b"four", first=3))
        delivery.expect(b"one", b"two", b"three", b"four")

    @mandatory
    @requires(_DELIVER)
    @pytest.mark.parametrize("kind", _SOURCES)
    def test_any_container_is_logged(self, delivery: LogDelivery, kind: str) -> None:
        """One of which all is known; one without an image, a command or labels; odd ones."""
        delivery.deliver(entries(b"hello"), source("box", **_SOURCES[kind]))
        delivery.expect(b"hello")

    # What is in the lines.

    @mandatory
    @requires(_DELIVER)
    def test_any_bytes_are_delivered(self, delivery: LogDelivery) -> None:
        """What is no text is no reason to lose a line; what of it is text arrives unharmed."""
        odd = (
            b"\xff\xfe\x80",
            b"\0",
            b"\x1b[31m",
            b"\xc3",
            "ü€😀".encode(),
            b"%s %n {} {0}",
            b"\r",
        )
        lines = [b"<%d " % number + middle + b" end>" for number, middle in enumerate(odd)]
        delivery.deliver(entries(*lines, b"last"))
        delivery.expect(b"last", mark=b"last")
        arrived = delivery.lines(b"<")
        assert len(arrived) == len(lines), arrived
        for number, line in enumerate(arrived):
            assert line.startswith(b"<%d " % number), arrived
            assert line.endswith(b" end>"), arrived
        assert arrived[4:6] == lines[4:6]

    @mandatory
    @requires(_DELIVER)
    def test_a_long_line_arrives_whole(self, delivery: LogDelivery) -> None:
        """Of many entries, in one piece or in several, and the line behind it is its own."""
        long = b"".join(b"%08d" % number for number in range(6000))
        delivery.deliver([*pieces(long), *entries(b"last", first=1)])
        delivery.expect(b"last", mark=b"last")
        assert b"".join(delivery.arrived()) == long + b"last"

    @requires(_DELIVER)
    def test_empty_lines_are_lines(self, delivery: LogDelivery) -> None:
        """They are not passed over."""
        delivery.deliver(entries(b"one", b"", b"", b"two"))
        delivery.expect(b"one", b"", b"", b"two")

    # Several containers, several threads.

    @mandatory
    @requires(_DELIVER)
    def test_sinks_do_not_depend_on_one_another(self, delivery: LogDelivery) -> None:
        """Two containers are logged at once; the end of one is not that of the other."""
        one, two = delivery.open(source("one")), delivery.open(source("two"))
        for number in range(3):
            one.write(entries(b"one %d" % number, first=number))
            two.write(entries(b"two %d" % number, first=number))
        one.close()
        two.write(entries(b"two 3", first=3))
        delivery.expect(*(b"one %d" % number for number in range(3)), mark=b"one")
        delivery.expect(*(b"two %d" % number for number in range(4)), mark=b"two")

    @mandatory
    @requires(_DELIVER)
    def test_many_containers_write_at_once(self, delivery: LogDelivery) -> None:
        """Each has a thread of its own: no line is lost or mixed up with another's."""
        names = [f"box{letter}" for letter in "abcdefgh"]
        padding = b"." * 200

        def write(name: str) -> None:
            sink = delivery.open(source(name))
            for number in range(25):
                sink.write(entries(b"%b %d %b" % (name.encode(), number, padding), first=number))

        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(write, names))
        for name in names:
            mark = name.encode()
            delivery.expect(*(b"%b %d %b" % (mark, n, padding) for n in range(25)), mark=mark)
        assert len(delivery.arrived()) == 25 * len(names)

    @requires(_DELIVER)
    def test_a_sink_is_not_bound_to_a_thread(self, delivery: LogDelivery) -> None:
        """It is used by one at a time, and that may be another one each time."""
        with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
            sink = first.submit(delivery.open).result()
            second.submit(sink.write, entries(b"one")).result()
            first.submit(sink.write, entries(b"two", first=1)).result()
        sink.close()
        delivery.expect(b"one", b"two")

    @mandatory
    @requires(_DELIVER)
    def test_closing_is_idempotent(self, delivery: LogDelivery) -> None:
        """Whether something was written or not; and the sink's threads end."""
        before = set(threading.enumerate())
        for number in range(3):
            sink = delivery.open()
            if number:
                sink.write(entries(b"line %d" % number, first=number))
            sink.close()
            sink.close()
        delivery.expect(b"line 1", b"line 2")
        assert delivery.threads_beyond(before) == [], "threads of closed sinks go on"

    # Faults.

    @requires(_DELIVER)
    def test_an_outage_loses_nothing(
        self, delivery: LogDelivery, outage: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """What cannot be delivered raises an error, and arrives when it is offered again."""
        sink = delivery.open()
        sink.write(entries(b"before"))
        delivery.expect(b"before")
        wanted = entries(b"one", b"two", first=1)
        with outage():
            try:
                sink.write(wanted)
            except Exception:  # noqa: BLE001 - whatever it is, the engine offers them again
                taken = False
            else:
                taken = True
            sink.close()
            taken = taken or delivery.offer(wanted)
        if not taken:
            delivery.deliver(wanted)
        delivery.deliver(entries(b"after", first=3))
        delivery.expect_each(b"before", b"one", b"two", b"after")

    @requires(_DELIVER)
    def test_containers_start_during_an_outage(
        self, bench: LogBench, outage: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """The form follows from the options alone: nobody is asked for it."""
        form = bench.form()
        with outage():
            assert bench.form() == form

    @requires(_DELIVER)
    def test_a_kill_in_mid_delivery_loses_nothing(
        self, delivery: LogDelivery, bench: LogBench
    ) -> None:
        """Lines that were not acknowledged are delivered again; none is torn by the first try."""
        written: list[bytes] = []

        def deliver(driver: LogDriver) -> None:
            sink = driver.open(source(), bench.options)
            sink.write(entries(*written))
            sink.close()

        written[:] = [b"counted"] * 3
        for line in spread(count_lines(bench.opened, deliver), _KILLS):
            mark = b"killed at %d, " % line
            written[:] = [mark + word for word in (b"one", b"two", b"three")]
            kill_at_line(bench.opened, deliver, line)
            delivery.deliver(entries(*written))
            delivery.expect_each(*written, mark=mark)
