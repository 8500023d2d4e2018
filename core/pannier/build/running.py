"""RUN: a command in a container of the engine, and what it writes on the way."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.build.model import BuildFailed
from pannier.drivers.resources import Limits
from pannier.engine.model import ContainerConfig, CreateOptions, HealthCheck, HostOptions, LogConfig
from pannier.engine.sessions import AttachOptions
from pannier.errors import NotFound, PannierError, StartFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.build.model import BuildRequest
    from pannier.engine.engine import Engine
    from pannier.engine.model import MountSpec

__all__ = ["Command", "Running"]

_HEADER: Final = 8
_STDERR: Final = 2


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run.

    :param words: all that is executed.
    :param shown: as messages show it.
    :param env: the arguments in scope.
    :param network: of the instruction: ``default``, ``none`` or ``host``.
    """

    image: str
    words: tuple[str, ...]
    shown: str
    env: tuple[str, ...]
    network: str = "default"
    mounts: tuple[MountSpec, ...] = ()


class Running:
    """Runs the commands of one build."""

    def __init__(self, engine: Engine, request: BuildRequest) -> None:
        self._engine = engine
        self._request = request

    async def create(self, command: Command) -> str:
        """Make the container of a command; return its id."""
        request = self._request
        network = request.network if command.network == "default" else command.network
        config = ContainerConfig(
            image=command.image,
            # An empty word takes the image's entrypoint away.
            entrypoint=("",),
            cmd=command.words,
            env=command.env,
            attach_stdout=True,
            attach_stderr=True,
            health_check=HealthCheck(("NONE",)),
        )
        host = HostOptions(
            network_mode=network,
            limits=request.limits or Limits(),
            cgroup_parent=request.cgroup_parent,
            ulimits=request.ulimits,
            security_options=request.security_options,
            shm_size=request.shm_size,
            extra_hosts=request.extra_hosts,
            mounts=command.mounts,
            log=LogConfig("none"),
        )
        made = await self._engine.containers.create(CreateOptions(config, host, step=True))
        return made.container.id

    async def run(self, id: str, command: Command, write: Callable[[str], None]) -> None:
        """Run a command to its end.

        :param write: takes the output.
        :raises BuildFailed: it could not be started, or its status is not 0.
        """
        containers = self._engine.containers
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            with theirs:
                options = AttachOptions(stream=True, stdout=True, stderr=True)
                await containers.attach(id, options, theirs.fileno())
            try:
                await containers.start(id)
            except StartFailed as error:
                code = 127 if error.errno == 2 else 126
                raise BuildFailed(
                    f"The command '{command.shown}' could not be started: {error.message}",
                    code=code,
                    hint=error.hint or "is the program in the image?",
                ) from None
            waiting = containers.wait(id, "not-running")
            await _pass_on(reader, write)
            status = (await waiting).exit_code
        finally:
            writer.close()
        if status:
            raise BuildFailed(
                f"The command '{command.shown}' returned a non-zero code: {status}", code=status
            )

    async def remove(self, id: str) -> None:
        """Remove a container, whatever it does, with its volumes. Idempotent."""
        with contextlib.suppress(NotFound):
            await self._engine.containers.remove(id, force=True, volumes=True)

    async def end(self, id: str, *, keep: bool) -> None:
        """Remove a container, or only stop it where it is to be kept."""
        if not keep:
            await self.remove(id)
            return
        with contextlib.suppress(PannierError):
            await self._engine.containers.keep(id)
            await self._engine.containers.kill(id)


async def _pass_on(reader: asyncio.StreamReader, write: Callable[[str], None]) -> None:
    """Take the frames of an attached stream apart, to its end."""
    decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in (1, 2)}
    while True:
        try:
            header = await reader.readexactly(_HEADER)
            data = await reader.readexactly(int.from_bytes(header[4:], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            break
        text = decoders.get(header[0], decoders[1]).decode(data)
        if text:
            write(_shown(header[0], text))
    for stream, decoder in decoders.items():
        rest = decoder.decode(b"", final=True)
        if rest:
            write(_shown(stream, rest))


def _shown(stream: int, text: str) -> str:
    """Return output as the builder's clients expect it: errors in red."""
    return f"\x1b[91m{text}\x1b[0m" if stream == _STDERR else text
