"""Reading logs: whole, their ends, from a time on, across rotations, and as they grow."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pannier.drivers.logfile import STDERR, STDOUT, pack_header
from pannier.engine import logfiles
from pannier.engine.launching import log_path
from pannier.engine.logfiles import Cursor, Lines, Marks, frame, frames_of_lines
from pannier.engine.model import ContainerConfig, HostOptions, LogConfig
from pannier.engine.sessions import LogOptions
from pannier.errors import UnsupportedOperation
from support.engine_rig import Rig, descriptors_open, engine_test

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path


T = TypeVar("T")


def _write(path: Path, *records: tuple[int, int, bytes]) -> None:
    with path.open("ab") as file:
        for time, stream, data in records:
            file.write(pack_header(time, stream, len(data)) + data)


def _lines(path: Path, options: LogOptions | None = None) -> list[bytes]:
    cursor = Cursor(path, Marks(), options or LogOptions())
    try:
        lines = Lines(cursor.skip)
        found = []
        while records := cursor.read():
            found += lines.feed(records)
        return [line.data for line in found + lines.finish()]
    finally:
        cursor.close()


def test_lines_are_put_together_from_pieces() -> None:
    """Each stream's pieces are joined apart; a line has the time of its beginning."""
    lines = Lines()
    found = lines.feed(
        [(1, STDOUT, b"a"), (2, STDERR, b"x\ny"), (3, STDOUT, b"b\nc\n\nd"), (4, STDERR, b"\n")]
    )
    assert [(line.time_ns, line.stream, line.data) for line in found] == [
        (2, STDERR, b"x\n"),
        (1, STDOUT, b"ab\n"),
        (1, STDOUT, b"c\n"),
        (1, STDOUT, b"\n"),
        (2, STDERR, b"y\n"),
    ]
    assert [line.data for line in lines.finish()] == [b"d"]


@pytest.mark.parametrize(
    ("tail", "wanted"),
    [(0, []), (1, [b"end"]), (2, [b"4\n", b"end"]), (5, None), (99, None), (None, None)],
)
def test_tail(tail: int | None, wanted: list[bytes] | None, tmp_path: Path) -> None:
    """The last lines, of which the very last may not have ended."""
    path = tmp_path / "output"
    everything = [b"1\n", b"2\n", b"3\n", b"4\n", b"end"]
    _write(path, (1, STDOUT, b"1\n2"), (2, STDOUT, b"\n3\n"), (3, STDOUT, b"4\nend"))
    expected = everything if wanted is None else wanted
    assert _lines(path, LogOptions(tail=tail)) == expected


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(
        st.tuples(st.sampled_from([STDOUT, STDERR]), st.text("ab\n", min_size=1, max_size=9)),
        max_size=30,
    ),
    tail=st.integers(0, 12),
    spacing=st.integers(20, 200),
    split=st.integers(0, 30),
)
def test_the_tail_is_the_end_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: Sequence[tuple[int, str]],
    tail: int,
    spacing: int,
    split: int,
) -> None:
    """However records, marks and files fall, the tail is what the last lines of all are.

    With both streams only of lines that have ended: where one that has not stands among those of
    the other stream is a matter of taste.
    """
    path = tmp_path_factory.mktemp("log") / "output"
    records = [(time, stream, data.encode()) for time, (stream, data) in enumerate(pieces, 1)]
    _write(path.with_name("output.1"), *records[:split])
    _write(path, *records[split:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logfiles, "_SPACING", spacing)
        whole = _lines(path, LogOptions(stderr=False))
        assert b"".join(whole) == b"".join(data for _, stream, data in records if stream == STDOUT)
        last = _lines(path, LogOptions(stderr=False, tail=tail))
        assert last == (whole[-tail:] if tail else [])
        path.unlink()
        path.with_name("output.1").unlink()
        ended = [(time, stream, data + b"\n") for time, stream, data in records]
        _write(path.with_name("output.1"), *ended[:split])
        _write(path, *ended[split:])
        whole = _lines(path)
        assert _lines(path, LogOptions(tail=tail)) == (whole[-tail:] if tail else [])


def test_since_and_until(tmp_path: Path) -> None:
    """Both bounds count; older files are not even read."""
    path = tmp_path / "output"
    _write(path.with_name("output.1"), (10, STDOUT, b"old\n"))
    _write(path, *[(time, STDOUT, b"%d\n" % time) for time in range(20, 30)])
    assert _lines(path, LogOptions(since=28)) == [b"28\n", b"29\n"]
    assert _lines(path, LogOptions(since=5, until=20)) == [b"old\n", b"20\n"]


def test_marks_lead_to_a_time_without_a_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With marks, reading from a late time on begins near it."""
    monkeypatch.setattr(logfiles, "_SPACING", 1000)
    path = tmp_path / "output"
    _write(path, *[(time, STDOUT, b"x" * 100) for time in range(1, 1001)])
    marks = Marks()
    cursor = Cursor(path, marks, LogOptions(since=990))
    try:
        assert cursor._offset > path.stat().st_size * 0.95
    finally:
        cursor.close()
    # Marks are only added to as the file grows.
    with path.open("rb") as file:
        before = list(marks.of(file.fileno()))
        _write(path, *[(time, STDOUT, b"y" * 100) for time in range(1001, 1101)])
        assert marks.of(file.fileno())[: len(before)] == before
        assert len(marks.of(file.fileno())) > len(before)


def test_what_is_damaged_ends_the_log(tmp_path: Path) -> None:
    """A record that is cut short, or no record at all, is not read and breaks nothing."""
    path = tmp_path / "output"
    _write(path, (1, STDOUT, b"good\n"))
    with path.open("ab") as file:
        file.write(pack_header(2, STDOUT, 100) + b"short")
    assert _lines(path) == [b"good\n"]
    path.unlink()
    _write(path, (1, STDOUT, b"good\n"))
    with path.open("ab") as file:
        file.write(b"\xff" * 64)
    _write(path, (3, STDOUT, b"lost\n"))
    assert _lines(path) == [b"good\n"]


def test_a_cursor_goes_on_across_rotations(tmp_path: Path) -> None:
    """What was written before and after a rotation is read once, in order."""
    path = tmp_path / "output"
    _write(path, (1, STDOUT, b"1\n"))
    cursor = Cursor(path, Marks(), LogOptions())
    try:
        assert [record[2] for record in cursor.read()] == [b"1\n"]
        assert cursor.read() == []
        _write(path, (2, STDOUT, b"2\n"))
        path.rename(path.with_name("output.1"))
        _write(path, (3, STDOUT, b"3\n"))
        assert [record[2] for record in cursor.read()] == [b"2\n", b"3\n"]
        # Twice between two reads, so that the file read last is two back.
        path.with_name("output.1").rename(path.with_name("output.2"))
        path.rename(path.with_name("output.1"))
        _write(path, (4, STDOUT, b"4\n"))
        path.with_name("output.2").unlink()
        path.with_name("output.1").rename(path.with_name("output.2"))
        path.rename(path.with_name("output.1"))
        _write(path, (5, STDOUT, b"5\n"))
        assert [record[2] for record in cursor.read()] == [b"4\n", b"5\n"]
    finally:
        cursor.close()


def test_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    """Before a container's first start there is no file; a cursor finds it when it comes."""
    cursor = Cursor(tmp_path / "output", Marks(), LogOptions(tail=3))
    assert cursor.read() == []
    _write(tmp_path / "output", (1, STDOUT, b"x\n"))
    assert [record[2] for record in cursor.read()] == [b"x\n"]
    cursor.close()


def test_frames_of_lines() -> None:
    """Each line has a frame of its own, and so has what has no newline yet; nothing is lost."""
    data = b"one\n\ntwo\nrest"
    pieces = (b"one\n", b"\n", b"two\n", b"rest")
    assert frames_of_lines(STDERR, data) == b"".join(frame(STDERR, piece) for piece in pieces)
    assert frames_of_lines(STDOUT, b"") == b""


@engine_test
async def test_who_follows_is_given_each_line_in_a_frame(rig: Rig) -> None:
    """Clients show what they follow frame by frame, and were written lines."""
    container = await rig.run("web")
    _write(log_path(rig.folder / "containers", container.id), (1, STDOUT, b"hello\nworld\n"))
    await rig.ended(container)
    lines = rig.engine.containers.framed_logs("web", LogOptions(follow=True))
    found = b"".join(await _collect(lines))
    assert found == frame(STDOUT, b"hello\n") + frame(STDOUT, b"world\n")


@engine_test
async def test_following_ends_with_the_container(rig: Rig) -> None:
    """New lines come when they are written, without polling; the last ones before the end."""
    container = await rig.run("web")
    path = log_path(rig.folder / "containers", container.id)
    before = descriptors_open()
    _write(path, (1, STDOUT, b"first\n"))
    lines = rig.engine.containers.logs("web", LogOptions(follow=True))
    assert (await anext(lines)).data == b"first\n"
    coming = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0.01)
    assert not coming.done()
    _write(path, (2, STDERR, b"second\n"))
    assert (await coming).data == b"second\n"
    _write(path, (3, STDOUT, b"last"))
    ending = asyncio.ensure_future(_collect(lines))
    await rig.ended(container)
    assert [line.data for line in await ending] == [b"last"]
    # One fewer: the container's watch.
    assert descriptors_open() == before - 1


async def _collect(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


@engine_test
async def test_a_follower_that_goes_leaves_nothing(rig: Rig) -> None:
    """Its files, its inotify and its tasks go with it."""
    container = await rig.run("web")
    _write(log_path(rig.folder / "containers", container.id), (1, STDOUT, b"x\n"))
    before = descriptors_open()
    lines = rig.engine.containers.framed_logs("web", LogOptions(follow=True))
    assert await anext(lines) == frame(STDOUT, b"x\n")
    following = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0.01)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert descriptors_open() == before


@engine_test
async def test_frames(rig: Rig) -> None:
    """Chunks are framed as attach frames them; a terminal's are not, a tail's are its lines."""
    for name, tty in (("plain", False), ("tty", True)):
        container = await rig.create(name, config=ContainerConfig(tty=tty))
        path = log_path(rig.folder / "containers", container.id)
        _write(path, (1, STDOUT, b"a\nb"), (2, STDERR, b"c\n"))

    async def read(name: str, options: LogOptions) -> bytes:
        return b"".join(await _collect(rig.engine.containers.framed_logs(name, options)))

    assert await read("plain", LogOptions()) == frame(1, b"a\nb") + frame(2, b"c\n")
    assert await read("plain", LogOptions(stdout=False)) == frame(2, b"c\n")
    assert await read("plain", LogOptions(tail=1)) == frame(1, b"b")
    assert await read("tty", LogOptions()) == b"a\nbc\n"


@engine_test
async def test_containers_without_a_log(rig: Rig) -> None:
    """``--log-driver none`` says that there is nothing to read, before anything is sent."""
    await rig.create("quiet", host=HostOptions(log=LogConfig("none")))
    with pytest.raises(UnsupportedOperation, match="does not support reading"):
        rig.engine.containers.logs("quiet", LogOptions())


@pytest.mark.slow
def test_a_large_log_is_read_fast(tmp_path: Path) -> None:
    """35 MB take well under a second, most of it the disk cache's."""
    path = tmp_path / "output"
    line = b"2024-05-18 10:20:30 a line as programs write them, with a number in it\n"
    with path.open("wb") as file:
        for number in range(35 << 20 >> 14):
            data = line * (16384 // len(line))
            file.write(pack_header(number + 1, STDOUT, len(data)) + data)
    begin = os.times().user
    cursor = Cursor(path, Marks(), LogOptions())
    total = 0
    while records := cursor.read():
        total += len(b"".join([frame(record[1], record[2]) for record in records]))
    cursor.close()
    assert total > 34 << 20
    assert os.times().user - begin < 0.5
