"""What follows from a running container's networks: default route, published ports, /etc/hosts.

A container may change route and file by itself, and what it has changed stays: they are put right
only where the engine was changing the networks. That it is at that is in the database from before
until after, so that the engine after a killed one knows where to look.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pannier.drivers.operations import Transaction
from pannier.engine import portmoves
from pannier.engine.gateways import move_default_route
from pannier.engine.joins import Joins
from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.engine.endpoints import Endpoints, Joining
    from pannier.engine.hostfiles import HostFiles, Link
    from pannier.engine.model import Container
    from pannier.engine.store import Store

__all__ = ["Wiring", "close_all", "marked", "open_netns"]


def marked(container: Container, *, rewiring: bool = True) -> Container:
    """Return a container with the note that its networks are being changed, or without it."""
    return replace(container, state=replace(container.state, rewiring=rewiring))


def open_netns(container: Container) -> int:
    """Return a descriptor of a running container's network namespace."""
    path = f"/proc/{container.state.pid}/ns/net"
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors that were to be kept for a container."""
    for descriptor in descriptors:
        os.close(descriptor)


@dataclass(slots=True)
class Wiring:
    """Has them follow from a container's record; on worker threads, under its lock."""

    store: Store
    endpoints: Endpoints
    files: HostFiles

    def settle(
        self, container: Container, links: Iterable[Link], *, route: bool
    ) -> tuple[Container, tuple[int, ...]]:
        """Do so, and keep the record without the note. Idempotent.

        :param container: one that runs, and whose networks are its own.
        :param route: whether the default route is to be moved, and with it the published ports,
            besides.
        :returns: the container, and descriptors that reserve further ports, to be kept for it.
        :raises DriverError: the route could not be moved.
        :raises Conflict: a port that was not reserved for the container is in use on the host.
        """
        if route:
            self.lead_out(container)
        self.rewrite_hosts(container, links)
        transaction = Transaction()
        kept: tuple[int, ...] = ()
        try:
            if route:
                container, kept = self._publish(transaction, container)
            container = marked(container, rewiring=False)
            self.store.save(container)
        except BaseException:
            transaction.rollback()
            close_all(kept)
            raise
        return container, kept

    def attach(
        self, transaction: Transaction, container: Container, joining: Joining
    ) -> tuple[Container, tuple[int, ...]]:
        """Attach an endpoint, or have one publish the ports; see :func:`portmoves.attach`."""
        others = [
            other
            for other in self.endpoints.attached(container)
            if other.network.name != joining.network.name
        ]
        netns = open_netns(container)
        try:
            return portmoves.attach(transaction, container, joining, others, netns)
        finally:
            os.close(netns)

    def _publish(
        self, transaction: Transaction, container: Container
    ) -> tuple[Container, tuple[int, ...]]:
        """Publish the ports where the way out is now, if they went with the network left."""
        joining = portmoves.to_be_published(container, self.endpoints)
        return self.attach(transaction, container, joining) if joining else (container, ())

    def lead_out(self, container: Container) -> None:
        """Move the default route to the network that leads out now.

        :raises DriverError: the kernel refused.
        """
        endpoint = container.endpoints.get(self.endpoints.gateway(container))
        if endpoint is None:
            return
        netns = open_netns(container)
        try:
            move_default_route(netns, endpoint)
        except OSError as error:
            raise DriverError(
                f"container {container.name}: the default route could not be moved to the "
                f"network of {endpoint.interface}: {error.strerror}",
                hint="restart the container",
            ) from error
        finally:
            os.close(netns)

    def rewrite_hosts(self, container: Container, links: Iterable[Link]) -> None:
        """Have /etc/hosts name the container's addresses as they are now."""
        self.files.attached(container, Joins(), container.endpoints, links)
