"""Lines delivered to log drivers: nothing lost, nothing doubled, nobody else harmed."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, cast

import pytest

from pannier.drivers.log import LogEntry
from pannier.drivers.logfile import STDERR, STDOUT, pack_header
from pannier.engine import deliveries
from pannier.engine.launching import log_path
from pannier.engine.model import ContainerConfig, HostOptions, LogConfig
from pannier.engine.sessions import LogOptions
from pannier.engine.undelivered import Undelivered, is_behind
from pannier.errors import UnsupportedOperation
from support.engine_rig import Rig, engine_test, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.engine.model import Container
    from support.fakes import FarLog

FAR = HostOptions(log=LogConfig("far"))
_clock = iter(range(1, 1 << 30))


def _write(path: Path, *pieces: bytes, stream: int = STDOUT) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("ab", buffering=0) as file:
        for data in pieces:
            os.writev(file.fileno(), [pack_header(next(_clock), stream, len(data)), data])


def _log(rig: Rig, container: Container) -> Path:
    return log_path(rig.folder / "containers", container.id)


def _far(rig: Rig) -> FarLog:
    return cast("FarLog", rig.drivers.logs["far"])


@engine_test
async def test_lines_are_delivered_as_they_come(rig: Rig) -> None:
    """Whole lines at once, what has no newline at the container's end; then the sink is closed."""
    config = ContainerConfig(labels={"team": "a"}, env=("A=b",))
    container = await rig.run("web", host=FAR, config=config)
    far = _far(rig)
    _write(_log(rig, container), b"one\ntw", b"o\nprompt> ")
    await eventually(lambda: far.lines == [b"one\n", b"two\n"])
    await rig.ended(container)
    await eventually(lambda: far.closed)
    assert far.lines == [b"one\n", b"two\n", b"prompt> "]
    (source,) = far.sources
    assert (source.id, source.name, source.host) == (container.id, "web", "testhost")
    assert (source.image_name, source.labels["team"]) == ("small", "a")
    assert "A=b" in source.environment


@engine_test
async def test_a_container_that_is_started_again(rig: Rig) -> None:
    """Goes on where it was, with a delivery that is still under way or a new one."""
    container = await rig.run("web", host=FAR)
    far = _far(rig)
    _write(_log(rig, container), b"first\n")
    await rig.ended(container)
    await rig.engine.containers.start("web")
    _write(_log(rig, container), b"second\n")
    await eventually(lambda: far.lines == [b"first\n", b"second\n"])


def test_over_restarts_of_the_engine(tmp_path: Path) -> None:
    """Neither lost nor doubled: what was written meanwhile, lines in two halves, a last line."""

    async def main() -> None:
        rig = Rig(tmp_path)
        far = _far(rig)
        async with rig.running():
            container = await rig.run("web", host=FAR)
            path = _log(rig, container)
            _write(path, b"one\n", b"tw")
            await eventually(lambda: far.lines == [b"one\n"])
        _write(path, b"o\nthree\nfo")
        async with rig.running():
            await eventually(lambda: far.lines == [b"one\n", b"two\n", b"three\n"])
        _write(path, b"ur")
        rig.runtime.end(container.id, 0)
        async with rig.running():
            await eventually(lambda: far.lines[3:] == [b"four"])
        async with rig.running():
            assert not is_behind(path)
        assert far.lines == [b"one\n", b"two\n", b"three\n", b"four"]

    asyncio.run(main())


def test_what_an_ended_container_left(tmp_path: Path) -> None:
    """An engine that was killed before the last lines were delivered is made up for."""

    async def main() -> None:
        rig = Rig(tmp_path)
        far = _far(rig)
        async with rig.running():
            container = await rig.run("web", host=FAR)
            await rig.ended(container)
        _write(_log(rig, container), b"late\n")
        async with rig.running():
            await eventually(lambda: far.lines == [b"late\n"])

    asyncio.run(main())


@engine_test
async def test_a_driver_that_refuses(rig: Rig) -> None:
    """It is offered the same lines again, by a new sink; a removal does not wait for it."""
    container = await rig.run("web", host=FAR)
    far = _far(rig)
    refusals: list[int] = []

    def refuse() -> None:
        if len(refusals) < 2:
            refusals.append(1)
            raise ZeroDivisionError("not now")

    far.obstacle = refuse
    _write(_log(rig, container), b"one\n", b"two\n")
    await eventually(lambda: far.lines == [b"one\n", b"two\n"])
    assert (len(refusals), len(far.sources), far.closed) == (2, 3, 2)
    refusals.clear()

    def refuse_for_ever() -> None:
        refusals.append(1)
        raise OSError("no server")

    far.obstacle = refuse_for_ever
    _write(_log(rig, container), b"three\n")
    await eventually(lambda: refusals)
    await rig.engine.containers.remove("web", force=True)
    assert far.lines == [b"one\n", b"two\n"]


@engine_test
async def test_a_driver_that_hangs(rig: Rig) -> None:
    """Neither its container's end waits for it, nor another container, nor the engine's end."""
    release = threading.Event()
    try:
        stuck = await rig.run("stuck", host=FAR)
        far = _far(rig)
        entered = threading.Event()

        def hang() -> None:
            if threading.current_thread().name.endswith(stuck.id[:12]):
                entered.set()
                release.wait()

        far.obstacle = hang
        _write(_log(rig, stuck), b"never\n")
        await eventually(entered.is_set)
        other = await rig.run("other", host=FAR)
        _write(_log(rig, other), b"hello\n")
        await eventually(lambda: far.lines == [b"hello\n"])
        await rig.ended(stuck)
        await rig.engine.close()
    finally:
        release.set()


def test_a_removal_waits_for_the_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``--rm`` all comes through; of a driver that hangs the wait has an end."""

    async def main() -> None:
        rig = Rig(tmp_path)
        far = _far(rig)
        async with rig.running():
            release = threading.Event()
            far.obstacle = release.wait
            container = await rig.run("web", host=FAR)
            _write(_log(rig, container), b"last\n")
            rig.runtime.end(container.id, 0)
            removal = asyncio.create_task(rig.engine.containers.remove("web", force=True))
            live = rig.live("web")
            await eventually(lambda: live.container.state.status == "removing")
            assert _log(rig, container).exists()
            release.set()
            await removal
            assert far.lines == [b"last\n"]
            release.clear()
            monkeypatch.setattr(deliveries, "PATIENCE", 0.05)
            container = await rig.run("hung", host=FAR)
            _write(_log(rig, container), b"never\n")
            await rig.engine.containers.remove("hung", force=True)
            assert far.lines == [b"last\n"]
            release.set()

    asyncio.run(main())


@engine_test
async def test_a_driver_that_only_delivers_cannot_be_read(rig: Rig) -> None:
    """In Docker's words, with the driver's name as a hint."""
    await rig.run("web", host=FAR)
    with pytest.raises(UnsupportedOperation, match="does not support reading") as error:
        rig.engine.containers.logs("web", LogOptions())
    assert "far" in str(error.value.hint)


@engine_test
async def test_containers_of_other_drivers_cost_nothing(rig: Rig) -> None:
    """No thread, no watch."""
    before = threading.active_count()
    container = await rig.run("web")
    _write(_log(rig, container), b"one\n")
    await rig.ended(container)
    assert rig.engine._deliveries._inotify is None
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("pannier-log")], before


# Reading on.


def test_rotated_files(tmp_path: Path) -> None:
    """What was written to files that have been renamed since is read; a lost place is no loss."""
    path = tmp_path / "output.log"

    def rotate() -> None:
        if path.with_name("output.log.1").exists():
            path.with_name("output.log.1").rename(path.with_name("output.log.2"))
        path.rename(path.with_name("output.log.1"))

    _write(path, b"one\n")
    undelivered = Undelivered(path)
    assert [entry.data for entry in undelivered.read()] == [b"one\n"]
    undelivered.note()
    _write(path, b"two\n")
    rotate()
    path.touch()
    assert [entry.data for entry in undelivered.read()] == [b"two\n"]
    # The last record ends in a file that is not the current one.
    undelivered.note()
    undelivered.close()
    _write(path, b"three\n")
    rotate()
    _write(path, b"four\n")
    again = Undelivered(path)
    assert [entry.data for entry in again.read()] == [b"three\n", b"four\n"]
    again.close()
    path.with_name("output.log.2").unlink()
    afresh = Undelivered(path)
    assert [entry.data for entry in afresh.read()] == [b"three\n", b"four\n"]
    afresh.close()


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"place": null, "partial": {}}', '{"place": 1}']
)
def test_a_damaged_note(tmp_path: Path, damage: str) -> None:
    """All is delivered again rather than nothing."""
    path = tmp_path / "output.log"
    _write(path, b"one\n")
    (tmp_path / "delivered.json").write_text(damage)
    assert is_behind(path)
    undelivered = Undelivered(path)
    assert [entry.data for entry in undelivered.read()] == [b"one\n"]
    undelivered.close()


def test_long_lines_come_in_pieces(tmp_path: Path) -> None:
    """None is longer than 16 KiB, and the streams are kept apart."""
    path = tmp_path / "output.log"
    _write(path, b"a" * 40_000)
    _write(path, b"err\n", stream=STDERR)
    _write(path, b"b\n")
    undelivered = Undelivered(path)
    found = undelivered.read()
    undelivered.close()
    assert [len(entry.data) for entry in found if entry.stream == STDOUT] == [16384, 16384, 7232, 2]
    assert [entry.data for entry in found if entry.stream == STDERR] == [b"err\n"]
    assert isinstance(found[0], LogEntry)
