"""The embedded DNS of all containers: whose it is, from when until when."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.dns.server import DNSServer
from pannier.dns.sockets import ADDRESS, adopt_sockets, open_sockets
from pannier.drivers.operations import Action, Plan, Step
from pannier.engine.dnsnames import ContainerNames, HostResolvers
from pannier.errors import PannierError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.dns.sockets import DNSSockets
    from pannier.engine.endpoints import Endpoints
    from pannier.engine.model import Container
    from pannier.engine.networkstore import NetworkStore
    from pannier.engine.registry import Registry

__all__ = ["NameService"]

_OWN_NAMESPACE = Path("/proc/thread-self/ns/net")
_log = logging.getLogger("pannier.engine")


@dataclass(slots=True)
class NameService:
    """Serves names to every container on a network of a user's, or that was on one.

    The sockets are made on a worker thread, before the container's process runs: what it asks at
    once waits in them. The runtime keeps duplicates of them, where it can, so that a question asked
    while no daemon runs waits for the next one, which takes them over.

    :param asks: whether a container's own files have it look names up here.
    """

    registry: Registry
    networks: NetworkStore
    endpoints: Endpoints
    resolv_conf: str
    asks: Callable[[Container], bool]
    _servers: dict[str, DNSServer] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _resolvers: HostResolvers = field(init=False)

    def __post_init__(self) -> None:
        self._resolvers = HostResolvers(self.resolv_conf)

    # On worker threads.

    def plan(self, container: Container, pid: int) -> Plan[tuple[int, ...]]:
        """Have a container served that is about to start; return descriptors to be kept.

        :param container: with its endpoints.
        :param pid: its first process; 0 where the plan will only be described.
        """
        if not self.endpoints.named(container):
            return Plan("engine", [], tuple)
        made: list[DNSSockets | None] = []

        def result() -> tuple[int, ...]:
            sockets = made[0]
            return (sockets.udp.fileno(), sockets.tcp.fileno()) if sockets is not None else ()

        action = Action(
            Step("bind", f"{ADDRESS}:53", "to answer names, in the container's namespace"),
            lambda: made.append(self.open(container, pid)),
            lambda: self._later(self.close, container.id),
        )
        return Plan("engine", [action], result)

    def open(self, container: Container, pid: int) -> DNSSockets | None:
        """Make a container's sockets, and have them served.

        None where its runtime left it in the engine's own network namespace: what is bound and
        redirected there would be the host's.

        :raises DriverError: they could not be made.
        """
        netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.path.samestat(os.fstat(netns), _OWN_NAMESPACE.stat()):
                return None
            sockets = open_sockets(netns)
        finally:
            os.close(netns)
        self._later(self._serve, container, sockets)
        return sockets

    def recover(self, containers: list[Container]) -> None:
        """Serve the containers that run since before this daemon."""
        for container in containers:
            pid = container.state.pid
            try:
                sockets = adopt_sockets(pid)
                if sockets is not None:
                    self._later(self._serve, container, sockets)
                else:
                    self.open(container, pid)
                self._later(self._check, container.id)
            except (PannierError, OSError) as error:
                _log.warning("%s: its names cannot be answered: %s", container.id[:12], error)

    def _later(self, call: object, *arguments: object) -> None:
        assert self._loop is not None, "the engine was not started"
        self._loop.call_soon_threadsafe(call, *arguments)  # type: ignore[arg-type] # callables, all

    # On the event loop's thread.

    def begin(self) -> None:
        """Take the running event loop to serve on; before any container is started."""
        self._loop = asyncio.get_running_loop()

    def unserved(self) -> list[Container]:
        """Return the running containers that ought to be served and are not: to recover them."""
        found = [live.container for live in self.registry if live.container.state.running]
        return [
            one
            for one in found
            if not self.serves(one.id) and (self.endpoints.named(one) or self.asks(one))
        ]

    def _serve(self, container: Container, sockets: DNSSockets) -> None:
        self.close(container.id)
        names = ContainerNames(container, self.registry, self.networks, self._resolvers)
        self._servers[container.id] = DNSServer(sockets, names)

    def _check(self, id: str) -> None:
        """Let go of a container that ended while it was taken over, and was cleared before that."""
        live = self.registry.get(id)
        if live is None or not live.container.state.running:
            self.close(id)

    def serves(self, id: str) -> bool:
        """Whether a container is served."""
        return id in self._servers

    def close(self, id: str) -> None:
        """Stop serving a container. Idempotent."""
        server = self._servers.pop(id, None)
        if server is not None:
            server.close()

    def close_all(self) -> None:
        """Stop serving; containers whose sockets are kept are answered by the next daemon."""
        for id in tuple(self._servers):
            self.close(id)
