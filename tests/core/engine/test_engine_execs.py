"""Further processes in containers."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from pannier.drivers.runtime import Connection
from pannier.engine.attach import detach_sequence
from pannier.engine.model import ContainerConfig, HostOptions
from pannier.engine.sessions import ExecConfig
from pannier.errors import Conflict, DriverError, InvalidRequest, NotFound, StartFailed
from support.engine_rig import Rig, engine_test, eventually


@engine_test
async def test_an_exec_from_creation_to_its_end(rig: Rig) -> None:
    """It has the container's surroundings with its own above, and is told in events."""
    execs = rig.engine.execs
    config = ContainerConfig(env=("A=1",), working_dir="/srv", user="0:7")
    container = await rig.run("web", config=config, host=HostOptions(cap_drop=("CHOWN",)))
    id = await execs.create("web", ExecConfig(("ls", "-l"), env=("B=2",), tty=True))
    assert execs.ids_of(container) == [id]
    assert not execs.get(id).running
    await execs.start(id, detach=True, console_size=(24, 80))
    session = execs.get(id)
    assert (session.running, session.pid, session.exit_code) == (True, 4321, None)
    [request] = rig.runtime.exec_requests
    process = request.process
    assert (process["args"], process["cwd"]) == (["ls", "-l"], "/srv")
    assert process["user"]["gid"] == 7
    assert {"A=1", "B=2", "TERM=xterm"} <= set(process["env"])
    assert "CAP_CHOWN" not in process["capabilities"]["bounding"]
    assert process["consoleSize"] == {"height": 24, "width": 80}
    await execs.resize(id, 5, 6)
    assert f"resize {id} 5x6" in rig.world.log
    rig.runtime.end_exec(container.id, id, 3)
    # Asked at once, before the event loop has looked: the end is known all the same.
    assert execs.get(id).exit_code == 3
    assert execs.ids_of(container) == []
    actions = [item for item in rig.actions() if item.startswith("exec")]
    assert actions == ["exec_create: ls -l", "exec_start: ls -l", "exec_die"]


@engine_test
async def test_a_client_is_handed_over(rig: Rig) -> None:
    """Input only where it was asked for at the creation; detach keys only on a terminal."""
    await rig.run("web")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(theirs.fileno(), stdin=True, stdout=True)
        for config in (ExecConfig(("x",), attach_stdin=True, tty=True), ExecConfig(("x",))):
            id = await rig.engine.execs.create("web", config)
            await rig.engine.execs.start(id, connection=connection)
        first, second = rig.runtime.exec_requests
        assert first.connection is not None
        assert second.connection is not None
        assert (first.connection.stdin, first.connection.detach_keys) == (True, b"\x10\x11")
        assert (second.connection.stdin, second.connection.detach_keys) == (False, b"")
        # The caller's socket stays its own.
        os.fstat(theirs.fileno())


@engine_test
async def test_privileges_of_an_exec(rig: Rig) -> None:
    """``--privileged`` gives it what the engine has."""
    await rig.run("web", host=HostOptions(cap_drop=("ALL",)))
    id = await rig.engine.execs.create("web", ExecConfig(("x",), privileged=True))
    await rig.engine.execs.start(id, detach=True)
    from pannier.engine.caps import available  # noqa: PLC0415 - the only use

    held = rig.runtime.exec_requests[0].process["capabilities"]["bounding"]
    assert held == list(available())


@engine_test
async def test_what_cannot_be_executed(rig: Rig) -> None:
    """127 and 126 as of a shell; the exec is over then."""
    await rig.run("web")
    errors = [StartFailed("no", errno=2), StartFailed("no", errno=13), DriverError("no")]
    for error, code in zip(errors, (127, 126, 126), strict=True):
        rig.runtime.exec_error = error
        id = await rig.engine.execs.create("web", ExecConfig(("x",)))
        with pytest.raises(type(error)):
            await rig.engine.execs.start(id, detach=True)
        assert (rig.engine.execs.get(id).exit_code, rig.engine.execs.get(id).running) == (
            code,
            False,
        )


@engine_test
async def test_when_an_exec_is_refused(rig: Rig) -> None:
    """Docker's words for each."""
    execs = rig.engine.execs
    container = await rig.create("web")
    with pytest.raises(Conflict, match=f"Container {container.id} is not running"):
        await execs.create("web", ExecConfig(("x",)))
    await rig.engine.containers.start("web")
    with pytest.raises(InvalidRequest, match="No exec command specified"):
        await execs.create("web", ExecConfig(()))
    with pytest.raises(NotFound, match="No such exec instance: nope"):
        execs.get("nope")
    id = await execs.create("web", ExecConfig(("x",)))
    await execs.start(id, detach=True)
    with pytest.raises(Conflict, match="is already running"):
        await execs.start(id, detach=True)
    await rig.engine.containers.pause("web")
    with pytest.raises(Conflict, match="Container web is paused, unpause the container"):
        await execs.create("web", ExecConfig(("x",)))


@engine_test
async def test_execs_end_with_their_container(rig: Rig) -> None:
    """A running one was killed with its container; with that one's removal it is forgotten."""
    container = await rig.run("web")
    id = await rig.engine.execs.create("web", ExecConfig(("x",)))
    await rig.engine.execs.start(id, detach=True)
    await rig.ended(container)
    assert rig.engine.execs.get(id).exit_code == 137
    await rig.engine.containers.remove("web")
    with pytest.raises(NotFound):
        rig.engine.execs.get(id)
    assert rig.engine._registry.get(container.id) is None


@engine_test
async def test_who_leaves_an_exec_by_keys_is_told_of(rig: Rig) -> None:
    """It is an event of the container's with the exec's id; the exec runs on."""
    container = await rig.run("web")
    id = await rig.engine.execs.create("web", ExecConfig(("cat",), tty=True, attach_stdin=True))
    await rig.engine.execs.start(id, detach=True)
    rig.runtime.leave(container.id, id)
    await eventually(lambda: "exec_detach" in rig.actions())
    [event] = [item for item in rig.engine.events._history if item.action == "exec_detach"]
    assert event.attributes["execID"] == id
    assert rig.engine.execs.get(id).running


@engine_test
async def test_detach_keys_need_an_input(rig: Rig) -> None:
    """A client that has no part in it cannot leave by what it sends."""
    await rig.run("web")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(theirs.fileno(), stdin=True, stdout=True)
        id = await rig.engine.execs.create("web", ExecConfig(("x",), tty=True))
        await rig.engine.execs.start(id, connection=connection)
    [request] = rig.runtime.exec_requests
    assert request.connection is not None
    assert (request.connection.stdin, request.connection.detach_keys) == (False, b"")


@engine_test
async def test_a_resize_waits_for_the_start(rig: Rig) -> None:
    """Clients ask for both at once; what is not started in time is refused."""
    await rig.run("web")
    id = await rig.engine.execs.create("web", ExecConfig(("x",), tty=True))
    resizing = asyncio.ensure_future(rig.engine.execs.resize(id, 5, 6))
    await asyncio.sleep(0)
    assert not resizing.done()
    await rig.engine.execs.start(id, detach=True)
    await resizing
    assert f"resize {id} 5x6" in rig.world.log


@engine_test
async def test_a_resize_of_what_does_not_start(rig: Rig) -> None:
    """Of an exec that failed it is refused, and of one that nobody starts after a while."""
    await rig.run("web")
    rig.runtime.exec_error = StartFailed("no such program", errno=2)
    id = await rig.engine.execs.create("web", ExecConfig(("x",), tty=True))
    resizing = asyncio.ensure_future(rig.engine.execs.resize(id, 5, 6))
    await asyncio.sleep(0)
    with pytest.raises(StartFailed):
        await rig.engine.execs.start(id, detach=True)
    with pytest.raises(Conflict, match="is not running"):
        await resizing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pannier.engine.execs.START_PATIENCE", 0.01)
        id = await rig.engine.execs.create("web", ExecConfig(("x",), tty=True))
        with pytest.raises(Conflict, match="is not running"):
            await rig.engine.execs.resize(id, 5, 6)


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (None, b"\x10\x11"),
        ("", b""),
        ("ctrl-a", b"\x01"),
        ("ctrl-@,ctrl-[,ctrl-],ctrl-^,ctrl-_,a,DEL", b"\x00\x1b\x1d\x1e\x1fa\x7f"),
        ("ctrl-\\", b"\x1c"),
    ],
)
def test_detach_keys(keys: str | None, wanted: bytes) -> None:
    """Docker's notation."""
    assert detach_sequence(keys) == wanted


@pytest.mark.parametrize(
    "keys",
    ["ctrl-", "ctrl-1", "ab", "ctrl-ä", "ä", "f1", "ctrl-A", "Ctrl-a", "del", ",", "a,", "a,,b"],
)
def test_malformed_detach_keys(keys: str) -> None:
    """They are refused before anything is attached."""
    with pytest.raises(InvalidRequest, match="Invalid detach keys"):
        detach_sequence(keys)
