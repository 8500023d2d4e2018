"""Events, and the smaller helpers of lists, tops and names."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.sizes import parse_size
from pannier.engine import names, top
from pannier.engine.events import Events, matches
from pannier.engine.filters import moment
from pannier.engine.gomode import go_mode
from pannier.engine.results import Event, InterfaceCounters
from pannier.engine.stats import interfaces, system_cpu_ns
from pannier.errors import InvalidRequest
from pannier.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, Inotify

if TYPE_CHECKING:
    from pathlib import Path


def _run(test) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a coroutine function
    async def main() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(main())


def test_events_are_replayed_and_then_live() -> None:
    """From ``since`` on, each once, in order; a subscription begins with the call."""

    async def test() -> None:
        events = Events(clock=lambda: 100)
        for action in ("a", "b", "c"):
            events.publish(Event("container", action, "x"))
        seen = events.subscribe(since=101)
        events.publish(Event("container", "d", "x"))
        found = [await anext(seen) for _ in range(3)]
        # The clock stands still, but times still tell events apart.
        assert [(event.action, event.time_ns) for event in found] == [
            ("b", 101),
            ("c", 102),
            ("d", 103),
        ]
        events.close()
        with pytest.raises(StopAsyncIteration):
            await anext(seen)

    _run(test)


def test_until_ends_a_subscription() -> None:
    """A time that has passed ends it after the replay, one to come when it comes."""

    async def test() -> None:
        events = Events()
        events.publish(Event("container", "a", "x"))
        now = time.time_ns()
        past = [event.action async for event in events.subscribe(1, now)]
        assert past == ["a"]
        begin = time.monotonic()
        later = events.subscribe(0, time.time_ns() + 50_000_000)
        assert [event async for event in later] == []
        assert time.monotonic() - begin >= 0.04

    _run(test)


def test_a_listener_that_does_not_keep_up_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees what it had room for, and then the end."""
    monkeypatch.setattr("pannier.engine.events._BACKLOG", 3)

    async def test() -> None:
        events = Events()
        slow = events.subscribe()
        for number in range(10):
            events.publish(Event("container", str(number), "x"))
        assert [event.action async for event in slow] == ["0", "1", "2"]

    _run(test)


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, True),
        ({"type": ("container",)}, True),
        ({"type": ("image", "container")}, True),
        ({"type": ("image",)}, False),
        ({"event": ("exec_start",)}, True),
        ({"event": ("start",)}, False),
        ({"container": ("web",)}, True),
        ({"container": ("we",)}, True),
        ({"container": ("eb",)}, False),
        ({"container": ("abc",)}, True),
        ({"container": ("db",)}, False),
        ({"image": ("small",)}, True),
        ({"image": ("small:1",)}, True),
        ({"image": ("small:2",)}, False),
        ({"label": ("tier",)}, True),
        ({"label": ("tier=back",)}, False),
        ({"network": ("lan",)}, False),
        ({"scope": ("local",)}, True),
        ({"type": ("container",), "event": ("die",)}, False),
    ],
)
def test_filters(filters: dict[str, tuple[str, ...]], wanted: bool) -> None:
    """As of ``docker events``: values of one filter are alternatives, filters all must hold."""
    attributes = {"name": "web", "image": "small:1", "tier": "front"}
    event = Event("container", "exec_start: ls", "abcdef", attributes)
    assert matches(event, filters) is wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10", 10 * 10**9),
        ("1.5", 1_500_000_000),
        ("1h30m", 10**18 - 5400 * 10**9),
        ("5ms", 10**18 - 5_000_000),
        ("2001-09-09T01:46:40Z", 10**18),
        ("2001-09-09T01:46:40.5+00:00", 10**18 + 5 * 10**8),
    ],
)
def test_moments(text: str, wanted: int) -> None:
    """Seconds since the epoch, durations before now, and dates."""
    assert moment(text, 10**18) == wanted


def test_no_moment() -> None:
    """Anything else is refused."""
    for text in ("", "soon", "5x", "-1"):
        with pytest.raises(InvalidRequest):
            moment(text, 0)


def test_sizes() -> None:
    """Units are powers of 1024, in any spelling."""
    sizes = {"10": 10, "1k": 1024, "1.5KiB": 1536, "2MB": 2 << 20, "1g": 1 << 30, "1T": 1 << 40}
    assert {text: parse_size(text, "x") for text in sizes} == sizes
    for text in ("", "m", "1x", "-1"):
        with pytest.raises(InvalidRequest, match="invalid size for x"):
            parse_size(text, "x")


def test_generated_names() -> None:
    """They are valid, many, and never one that is taken."""
    found = {names.generate(lambda _: False) for _ in range(200)}
    assert len(found) > 150
    assert all(name.replace("_", "").isalnum() for name in found)
    taken: set[str] = set()
    for _ in range(50):
        name = names.generate(lambda name: name in taken or not name[-1].isdigit())
        assert name[-1].isdigit()
        taken.add(name)


def test_go_modes() -> None:
    """Go's type and set-id bits stand where Go has them."""
    assert go_mode(stat.S_IFREG | 0o644) == 0o644
    assert go_mode(stat.S_IFDIR | 0o1777) == 1 << 31 | 1 << 20 | 0o777
    assert go_mode(stat.S_IFLNK | 0o777) == 1 << 27 | 0o777
    assert go_mode(stat.S_IFCHR | 0o4600) == 1 << 26 | 1 << 21 | 1 << 23 | 0o600


def test_counters() -> None:
    """From proc(5)'s tables, without the loopback."""
    text = (
        "Inter-|   Receive  |  Transmit\n face |bytes packets\n"
        "    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"
        "  eth0: 10 2 3 4 0 0 0 0 20 5 6 7 0 0 0 0\n"
    )
    assert interfaces(text) == {"eth0": InterfaceCounters(10, 2, 3, 4, 20, 5, 6, 7)}
    assert interfaces("") == {}
    ticks = os.sysconf("SC_CLK_TCK")
    assert system_cpu_ns(f"cpu  {ticks} 0 0 {ticks} 0 0 0 99 9 9\ncpu0 1\n") == 2 * 10**9
    assert system_cpu_ns("") == 0


def test_top_reads_what_ps_would() -> None:
    """The same numbers as ps for a process that is known."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        table = top.top([child.pid], "-o pid,ppid,comm,args,nlwp")
        assert table.titles == ("PID", "PPID", "COMMAND", "COMMAND", "NLWP")
        assert table.processes == ((str(child.pid), str(os.getpid()), "sleep", "sleep 60", "1"),)
        full = top.top([child.pid, 2**22 + 1], "")
        assert full.titles == ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
        assert len(full.processes) == 1
        assert top.top([child.pid], "aux").titles[:4] == ("USER", "PID", "%CPU", "%MEM")
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("-ef", top.FULL),
        ("-e", top.LONG),
        ("aux", top.BSD),
        ("-o pid -o comm", ("pid", "comm")),
        ("-eo pid,args", ("pid", "command")),
        ("o user,%cpu", ("user", "pcpu")),
        ("--format=pid=Number,etime", ("pid", "etime")),
        ("-opid", ("pid",)),
    ],
)
def test_columns(arguments: str, wanted: tuple[str, ...]) -> None:
    """The ways in which ps is usually asked."""
    assert top.columns(arguments) == wanted


def test_unknown_columns() -> None:
    """They are refused by name."""
    with pytest.raises(InvalidRequest, match="unknown column 'shoe'"):
        top.columns("-o pid,shoe")
    for nonsense in ("nonsense", "-z", "--forest", "-p 1", "auxo"):
        with pytest.raises(InvalidRequest, match="ps: unknown option"):
            top.columns(nonsense)


def test_inotify(tmp_path: Path) -> None:
    """Changes are told with the file's name; without any there is nothing to read."""
    with Inotify() as queue:
        number = queue.watch(tmp_path, IN_MODIFY | IN_CREATE | IN_MOVED_TO)
        assert queue.read() == []
        (tmp_path / "a").write_text("x")
        (tmp_path / "a").rename(tmp_path / "b")
        found = queue.read()
        assert (number, IN_CREATE, b"a") in found
        assert (number, IN_MOVED_TO, b"b") in found
        with pytest.raises(FileNotFoundError):
            queue.watch(tmp_path / "none", IN_MODIFY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(queue._descriptor)
