"""Clients of a container's streams: who is handed over, and who is told to have left."""

from __future__ import annotations

import asyncio
import select
import socket
from typing import TYPE_CHECKING

import pytest

from pannier.engine.model import ContainerConfig, Status
from pannier.engine.sessions import AttachOptions
from pannier.errors import Conflict
from support.engine_rig import Rig, engine_test, eventually

if TYPE_CHECKING:
    from pannier.drivers.runtime import Connection

TERMINAL = ContainerConfig(tty=True, open_stdin=True)
EVERYTHING = AttachOptions(stream=True, stdin=True, stdout=True, stderr=True)


async def attached(rig: Rig, options: AttachOptions) -> bytes | None:
    """Attach to ``web``; return what comes up to the end, None while that does not come."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            await rig.engine.containers.attach("web", options, theirs.fileno())
        ours.setblocking(False)
        try:
            return ours.recv(4096)
        except BlockingIOError:
            return None


def handed_over(rig: Rig) -> list[Connection]:
    """Return the connections that the runtime was given."""
    return [item for several in rig.runtime.connections.values() for item in several]


@engine_test
async def test_who_leaves_by_keys_is_told_of(rig: Rig) -> None:
    """It is an event of the container's, once; the container runs on and can still end."""
    container = await rig.run("web", config=TERMINAL)
    rig.runtime.leave(container.id)
    await eventually(lambda: "detach" in rig.actions())
    assert rig.status("web") is Status.RUNNING
    rig.runtime.leave(container.id)
    await rig.ended(container, 3)
    assert rig.actions()[-3:] == ["detach", "detach", "die"]


@engine_test
async def test_one_that_has_just_stopped(rig: Rig) -> None:
    """The client sees the end and no error, as the end's own news are on their way."""
    container = await rig.run("web")
    rig.runtime.attach_error = Conflict("cannot attach: it has stopped")
    assert await attached(rig, EVERYTHING) == b""
    assert rig.actions()[-1] == "attach"
    await rig.ended(container)


@pytest.mark.parametrize(
    "options", [AttachOptions(stream=True), AttachOptions(stream=True, stdin=True)]
)
def test_a_part_in_nothing(options: AttachOptions, tmp_path: object) -> None:
    """A client without a stream that it could have is not kept, whether or not it runs."""

    @engine_test
    async def test(rig: Rig) -> None:
        await rig.create("web")
        assert await attached(rig, options) == b""
        await rig.engine.containers.start("web")
        assert await attached(rig, options) == b""
        assert handed_over(rig) == []

    test(tmp_path)  # type: ignore[arg-type] # which is a path


@engine_test
async def test_detach_keys_need_a_terminal_and_an_input(rig: Rig) -> None:
    """Without either there is nothing to leave by."""
    await rig.run("web", config=TERMINAL)
    only_output = AttachOptions(stream=True, stdout=True)
    for options in (EVERYTHING, only_output):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            await rig.engine.containers.attach("web", options, theirs.fileno())
    assert [item.detach_keys for item in handed_over(rig)] == [b"\x10\x11", b""]


@engine_test
async def test_the_client_is_told_once_it_is_attached(rig: Rig) -> None:
    """Behind a gate, which opens behind that; of one that is kept for the start there is none."""
    shut: list[bool] = []

    def announce() -> None:
        [connection] = handed_over(rig)
        shut.append(select.select([connection.gate], [], [], 0)[0] == [])

    for start in (True, False):
        name = f"box{start}"
        await rig.create(name)
        if start:
            await rig.engine.containers.start(name)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            said = announce if start else shut.clear
            await rig.engine.containers.attach(name, EVERYTHING, theirs.fileno(), b"", said)
        assert shut == ([True] if start else [])
    [kept] = rig.live("boxFalse").pending
    assert kept.gate == -1


@engine_test
async def test_an_end_that_was_told_is_noted_before_an_inspection(rig: Rig) -> None:
    """Who saw the streams close asks for the status before the event loop has looked."""
    container = await rig.run("web")
    rig.runtime.end(container.id, 7)
    found = await rig.engine.containers.settled("web")
    assert (found.state.status, found.state.exit_code) == (Status.EXITED, 7)
    assert (await rig.engine.containers.settled("web")).state.exit_code == 7


@engine_test
async def test_an_inspection_does_not_wait_for_ever(rig: Rig) -> None:
    """An end that cannot be noted, since the container is busy, holds nobody up."""
    container = await rig.run("web")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pannier.engine.supervision.SETTLING", 0.01)
        async with rig.live("web").lock:
            rig.runtime.end(container.id, 7)
            assert (await rig.engine.containers.settled("web")).state.running
    async with asyncio.timeout(10):
        await rig.live("web").stopped.wait()
    assert rig.status("web") is Status.EXITED
