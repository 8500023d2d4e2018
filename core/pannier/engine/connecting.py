"""Connecting containers to networks and disconnecting them, running or not."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from pannier.drivers.network import NetworkCapability
from pannier.drivers.operations import Transaction
from pannier.engine.gateways import move_default_route
from pannier.engine.workers import uninterrupted
from pannier.errors import DriverError, Forbidden, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.engine.dns import NameService
    from pannier.engine.endpoints import Endpoints, Joining
    from pannier.engine.hostfiles import HostFiles
    from pannier.engine.launching import Launch
    from pannier.engine.lifecycle import Lifecycle
    from pannier.engine.model import Container, EndpointOptions, Network
    from pannier.engine.registry import Live, Registry
    from pannier.engine.store import Store
    from pannier.engine.telling import Teller
    from pannier.engine.workers import Workers

__all__ = ["Connecting"]

T = TypeVar("T")


@dataclass(slots=True)
class Connecting:
    """Changes the networks that a container is in."""

    registry: Registry
    store: Store
    endpoints: Endpoints
    lifecycle: Lifecycle
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
            self._check_live(network, "connected to")
            for name in container.networks:
                self._check_live(self.endpoints.primary(name), "connected beside")
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
            launch = self._launch(live)
            container = await self.workers.run(self._attach, container, joining, launch)
            live.container = container
        self.teller.network(container, network, "connect")

    def _check_live(self, network: Network, how: str) -> None:
        driver = self.endpoints.driver(network)
        if NetworkCapability.LIVE not in driver.capabilities:
            raise InvalidRequest(
                f"container cannot be {how} the network {network.name}: its driver "
                f"{network.driver} allows no changes"
            )

    def _launch(self, live: Live) -> Launch | None:
        """Look up what /etc/hosts is made of; None where nobody reads it yet."""
        running = live.container.state.running
        return self.lifecycle.launch(live.container) if running else None

    def _attach(self, container: Container, joining: Joining, launch: Launch | None) -> Container:
        transaction = Transaction()
        before = replace(container, networks=_without(container.networks, joining.network.name))
        if container.state.running:
            netns = self._netns(container)
            try:
                plan = joining.driver.plan_attach(joining.request, netns)
                attachment = transaction.run(plan)
            finally:
                os.close(netns)
            for descriptor in attachment.descriptors:
                os.close(descriptor)
            endpoints = {**container.endpoints, joining.network.name: attachment.endpoint}
            container = replace(container, endpoints=endpoints)
        try:
            if launch is not None:
                self._begin_names(before, container)
            self.store.save(container)
            self._rewrite_hosts(container, launch)
        except BaseException:
            transaction.rollback()
            raise
        return container

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
                raise Forbidden(
                    f"container {container.id} is not connected to network {network.name}"
                )
            self._check_live(network, "disconnected from")
            attached = [
                joining
                for joining in self.endpoints.attached(container)
                if joining.network.name == network.name
            ]
            launch = self._launch(live)
            left = replace(
                container,
                networks=_without(container.networks, network.name),
                endpoints=_without(container.endpoints, network.name),
            )
            # The record first: if the engine is killed now, the next one takes a link away that is
            # in no record, whereas it would believe in an endpoint that has none.
            await self._record(live, left)
            try:
                await self.workers.run(self._leave, container, attached)
            except BaseException:
                await self._record(live, container)
                raise
            led_out = self.endpoints.gateway(container) == network.name
            await self.workers.run(self._left, left, launch, led_out=led_out)
        self.teller.network(container, network, "disconnect")

    async def _record(self, live: Live, container: Container) -> None:
        await self.workers.run(self.store.save, container)
        live.container = container

    def _leave(self, container: Container, attached: list[Joining]) -> None:
        for joining in attached:
            netns = self._netns(container) if container.state.running else None
            try:
                joining.driver.detach(joining.request, netns)
            finally:
                if netns is not None:
                    os.close(netns)

    def _left(self, container: Container, launch: Launch | None, *, led_out: bool) -> None:
        if led_out and container.state.running:
            self._lead_out(container)
        self._rewrite_hosts(container, launch)

    def _lead_out(self, container: Container) -> None:
        """Move the default route to the network that leads out now."""
        endpoint = container.endpoints.get(self.endpoints.gateway(container))
        if endpoint is None:
            return
        netns = self._netns(container)
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

    def _netns(self, container: Container) -> int:
        path = f"/proc/{container.state.pid}/ns/net"
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _rewrite_hosts(self, container: Container, launch: Launch | None) -> None:
        if launch is not None:
            self.files.attached(container, launch.joins, container.endpoints, launch.links)


def _without(mapping: Mapping[str, T], name: str) -> dict[str, T]:
    return {key: value for key, value in mapping.items() if key != name}
