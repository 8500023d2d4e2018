"""Further processes in running containers."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from pannier.drivers.runtime import Connection
from pannier.engine.attach import detach_sequence
from pannier.server.body import read_fields
from pannier.server.call import Route
from pannier.server.hijack import MULTIPLEXED, RAW, hijack
from pannier.server.interactive import terminal_size
from pannier.server.parse.execs import parse_exec, parse_exec_start
from pannier.server.respond import created, json_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.engine.sessions import ExecSession
    from pannier.server.call import Call
    from pannier.server.parse.execs import ExecStart

__all__ = ["ROUTES"]

_MULTIPLEXED_SINCE: Final = (1, 42)


async def _create(call: Call) -> web.StreamResponse:
    config = parse_exec(await read_fields(call.request))
    return created({"Id": await call.engine.execs.create(call.name, config)})


async def _start(call: Call) -> web.StreamResponse:
    how = parse_exec_start(await read_fields(call.request, empty=True))
    session = call.engine.execs.startable(call.name)
    if how.detach:
        await call.engine.execs.start(session.id, detach=True, console_size=how.console_size)
        return web.Response()
    return await _start_attached(call, session, how)


async def _start_attached(call: Call, session: ExecSession, how: ExecStart) -> web.StreamResponse:
    config = session.config
    # As Docker has it, the creation says whether there is a terminal, and the start whether the
    # output is framed: docker-py has frames even of a terminal's output.
    framed = not how.tty
    multiplexed = framed and call.version >= _MULTIPLEXED_SINCE

    async def hand_over(descriptor: int, pending: bytes, announce: Callable[[], None]) -> None:
        announce()
        if not (config.attach_stdin or config.attach_stdout or config.attach_stderr):
            # Nothing is to be waited for: as Docker has it, the client has its end at once.
            await call.engine.execs.start(session.id, detach=True, console_size=how.console_size)
            return
        connection = Connection(
            socket=descriptor,
            stdin=config.attach_stdin,
            stdout=config.attach_stdout,
            stderr=config.attach_stderr,
            pending=pending,
            detach_keys=detach_sequence(config.detach_keys) if config.tty else b"",
            framed=framed,
        )
        await call.engine.execs.start(
            session.id, connection=connection, console_size=how.console_size
        )

    return await hijack(call, MULTIPLEXED if multiplexed else RAW, hand_over, framed=framed)


async def _resize(call: Call) -> web.StreamResponse:
    rows, columns = terminal_size(call)
    await call.engine.execs.resize(call.name, rows, columns)
    return web.Response()


async def _inspect(call: Call) -> web.StreamResponse:
    return json_response(_view(call.engine.execs.get(call.name)))


def _view(session: ExecSession) -> dict[str, Any]:
    config = session.config
    process: dict[str, Any] = {
        "tty": config.tty,
        "entrypoint": config.args[0],
        "arguments": list(config.args[1:]),
        "privileged": config.privileged,
    }
    if config.user:
        process["user"] = config.user
    return {
        "ID": session.id,
        "Running": session.running,
        "ExitCode": session.exit_code,
        "ProcessConfig": process,
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": False,
        "ContainerID": session.container,
        # Bytes, as Go's encoding of JSON writes them.
        "DetachKeys": b64encode(detach_sequence(config.detach_keys or "")).decode("ascii"),
        "Pid": session.pid,
    }


ROUTES: Final = (
    Route("POST", "/containers/{name}/exec", _create),
    Route("POST", "/exec/{name}/start", _start),
    Route("POST", "/exec/{name}/resize", _resize),
    Route("GET", "/exec/{name}/json", _inspect),
)
