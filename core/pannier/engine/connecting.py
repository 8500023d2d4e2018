"""Connecting containers to networks and disconnecting them, running or not."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pannier.drivers.network import NetworkCapability
from pannier.drivers.operations import Transaction
from pannier.engine import links, portmoves
from pannier.engine.wiring import close_all, marked, open_netns
from pannier.engine.workers import uninterrupted
from pannier.errors import Forbidden, InvalidRequest, PannierError

if TYPE_CHECKING:
    from pannier.engine.dns import NameService
    from pannier.engine.endpoints import Endpoints, Joining
    from pannier.engine.hostfiles import HostFiles, Link
    from pannier.engine.model import Container, EndpointOptions, Network
    from pannier.engine.registry import Live, Registry
    from pannier.engine.store import Store
    from pannier.engine.telling import Teller
    from pannier.engine.wiring import Wiring
    from pannier.engine.workers import Workers

__all__ = ["Connecting"]

_log = logging.getLogger("pannier.engine")


@dataclass(slots=True)
class Connecting:
    """Changes the networks that a container is in.

    While it changes those of one that runs, the record has a note of it: an engine that is killed
    meanwhile leaves a route, published ports and files that are neither as before nor as after, for
    the next one to put right.
    """

    registry: Registry
    store: Store
    endpoints: Endpoints
    wiring: Wiring
    files: HostFiles
    names: NameService
    teller: Teller
    workers: Workers

    @uninterrupted
    async def connect(self, network: Network, ref: str, options: EndpointOptions) -> None:
        """See :meth:`pannier.engine.networks.Networks.connect`."""
        live = self.registry.find(ref)
        async with live.lock:
            container = live.container
            if network.name in container.networks:
                raise Forbidden(
                    f"endpoint with name {container.name} already exists in network {network.name}"
                )
            self._check_live(network)
            for name in container.networks:
                self._check_live(self.endpoints.primary(name))
            if self.endpoints.namespace(container.host.network_mode).kind != "new":
                raise InvalidRequest(
                    "container sharing network namespace with another container or host cannot "
                    "be connected to any other network"
                )
            networks = {**container.networks, network.name: options}
            container = replace(container, networks=networks)
            self.endpoints.check_options(network, options)
            leads_out = self.endpoints.gateway(container) == network.name
            joining = self.endpoints.joining(container, network.name, options, leads_out=leads_out)
            with live.changing([network.name]):
                live.container = await self._join(live, container, joining)
        self.teller.network(container, network, "connect")

    def _check_live(self, network: Network) -> None:
        """Refuse a network that a running container cannot join, nor leave."""
        driver = self.endpoints.driver(network)
        if NetworkCapability.LIVE in driver.capabilities:
            return
        if self.endpoints.namespace(network.name).kind == "host":
            raise InvalidRequest(
                "container cannot be disconnected from host network or connected to host network",
                hint="create the container anew, with or without --network host",
            )
        raise InvalidRequest(
            f"container cannot be connected to multiple networks with one of the networks in "
            f"private ({network.name}) mode",
            hint=f"the network driver {network.driver} allows no changes",
        )

    async def _join(self, live: Live, after: Container, joining: Joining) -> Container:
        """Have the record say that a container is in a network, and let it be so."""
        before = live.container
        if not before.state.running:
            await self.workers.run(self.store.save, after)
            return after
        linked = links.there(before, self.registry, named=self.endpoints.named(before))
        await self._record(live, marked(before))
        try:
            joined, kept = await self.workers.run(self._attach, before, after, joining, linked)
        except BaseException:
            route = joining.request.default_route
            await self._take_back(live, before, linked, route=route)
            raise
        live.kept += kept
        return joined

    async def _take_back(
        self, live: Live, before: Container, linked: tuple[Link, ...], *, route: bool
    ) -> None:
        """Have route and files be as they were; what is not done now the next engine does."""
        try:
            await self._settle(live, before, linked, route=route)
        except PannierError as error:
            _log.warning("%s: not all is as before: %s", before.id[:12], error)

    async def _settle(
        self, live: Live, container: Container, linked: tuple[Link, ...], *, route: bool
    ) -> None:
        settle = self.wiring.settle
        live.container, kept = await self.workers.run(settle, container, linked, route=route)
        live.kept += kept

    def _attach(
        self, before: Container, after: Container, joining: Joining, linked: tuple[Link, ...]
    ) -> tuple[Container, tuple[int, ...]]:
        """Return the container, and descriptors that are to be kept for it."""
        transaction = Transaction()
        after, kept = self.wiring.attach(transaction, after, joining)
        try:
            self._begin_names(before, after)
            # The driver has moved the route, unless what went before left that undone.
            after, more = self.wiring.settle(after, linked, route=before.state.rewiring)
        except BaseException:
            transaction.rollback()
            close_all(kept)
            raise
        return after, kept + more

    def _begin_names(self, before: Container, after: Container) -> None:
        """Serve names from now on, where this is the first network of a user's."""
        if self.endpoints.named(after) and not self.names.serves(after.id):
            self.names.open(after, after.state.pid)
            self.files.connected(before, after)

    @uninterrupted
    async def disconnect(self, network: Network, ref: str) -> None:
        """See :meth:`pannier.engine.networks.Networks.disconnect`."""
        live = self.registry.find(ref)
        async with live.lock:
            container = live.container
            if network.name not in container.networks:
                the = "" if container.state.running else "the "
                raise Forbidden(
                    f"container {container.id} is not connected to {the}network {network.name}"
                )
            self._check_live(network)
            attached = [
                joining
                for joining in self.endpoints.attached(container)
                if joining.network.name == network.name
            ]
            running = container.state.running
            linked = links.there(container, self.registry, named=self.endpoints.named(container))
            left = portmoves.leaving(container, network.name)
            # The record first: if the engine is killed now, the next one takes a link away that is
            # in no record, whereas it would believe in an endpoint that has none.
            with live.changing([network.name]):
                await self._record(live, marked(left) if running else left)
                try:
                    await self.workers.run(self._leave, container, attached)
                except BaseException:
                    await self._record(live, container)
                    raise
            if running:
                led_out = self.endpoints.gateway(container) == network.name
                route = led_out or container.state.rewiring
                await self._settle(live, left, linked, route=route)
        self.teller.network(container, network, "disconnect")

    async def _record(self, live: Live, container: Container) -> None:
        await self.workers.run(self.store.save, container)
        live.container = container

    def _leave(self, container: Container, attached: list[Joining]) -> None:
        for joining in attached:
            netns = open_netns(container) if container.state.running else None
            try:
                joining.driver.detach(joining.request, netns)
            finally:
                if netns is not None:
                    os.close(netns)
