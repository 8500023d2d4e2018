"""Which networks a container joins, and as what: between the engine's words and the drivers'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.drivers.network import (
    EndpointRequest,
    Namespace,
    NetworkCapability,
    PortRequest,
)
from pannier.engine.model import EndpointOptions
from pannier.errors import InvalidRequest, NotFound, PannierError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.drivers.network import NetworkDriver
    from pannier.engine.model import Container, HostOptions, Network
    from pannier.engine.networks import NetworkStore
    from pannier.plugins import DriverSet

__all__ = ["Endpoints", "Joining"]


@dataclass(frozen=True, slots=True)
class Joining:
    """One container joining one network."""

    network: Network
    driver: NetworkDriver
    request: EndpointRequest


class Endpoints:
    """Answers what a container's network options mean."""

    def __init__(self, drivers: DriverSet, networks: NetworkStore) -> None:
        self._drivers = drivers
        self._networks = networks

    def namespace(self, mode: str) -> Namespace:
        """Return which network namespace a network mode means.

        :raises NotFound: there is no such network or driver.
        """
        kind, colon, argument = mode.partition(":")
        if colon:
            driver = self._drivers.networks.get(kind)
            if driver is None:
                raise InvalidRequest(f"invalid network mode: {mode}")
            return driver.namespace(argument)
        network = self.primary(mode)
        return self.driver(network).namespace("")

    def primary(self, mode: str) -> Network:
        """Return the network that a mode names; a mode with a colon names none.

        :raises NotFound: there is no such network.
        """
        if mode in ("", "default"):
            mode = self._drivers.default_network
        return self._networks.find(mode)

    def driver(self, network: Network) -> NetworkDriver:
        """Return a network's driver.

        :raises NotFound: the driver is not installed any more.
        """
        driver = self._drivers.networks.get(network.driver)
        if driver is None:
            raise NotFound(
                f"the network {network.name} needs the driver {network.driver!r}, which is missing",
                hint="`pannier drivers` lists the drivers and why one cannot be used",
            )
        return driver

    def complete(
        self, mode: str, asked: Mapping[str, EndpointOptions]
    ) -> dict[str, EndpointOptions]:
        """Return the networks to join, by name, that of the mode first.

        :raises NotFound: a network does not exist.
        :raises InvalidRequest: networks that cannot be combined.
        """
        if self.namespace(mode).kind == "container":
            return {}
        first = self.primary(mode)
        found = {first.name: EndpointOptions()}
        for ref, options in asked.items():
            network = self.primary(ref)
            found[network.name] = options
        if len(found) > 1:
            for name in found:
                network = self._networks.find(name)
                if NetworkCapability.LIVE not in self.driver(network).capabilities:
                    raise InvalidRequest(
                        f"Container cannot be connected to network endpoints: {', '.join(found)}",
                        hint=f"the network {name} cannot be combined with others",
                    )
        return found

    def joinings(self, container: Container) -> list[Joining]:
        """Return what a container's networks are to be asked, in order."""
        return [
            self.joining(container, name, options, first=index == 0)
            for index, (name, options) in enumerate(container.networks.items())
        ]

    def attached(self, container: Container) -> list[Joining]:
        """Return the joinings of which a container has an endpoint; for its detaching.

        A network whose driver has gone is left out.
        """
        found = []
        for index, (name, options) in enumerate(container.networks.items()):
            if name not in container.endpoints:
                continue
            try:
                found.append(self.joining(container, name, options, first=index == 0))
            except PannierError:
                continue
        return found

    def joining(
        self, container: Container, name: str, options: EndpointOptions, *, first: bool
    ) -> Joining:
        """Return how a container joins the network *name*.

        :param first: the network of the default route and the published ports.
        :raises NotFound: there is no such network.
        """
        network = self._networks.find(name)
        driver = self.driver(network)
        ports: tuple[PortRequest, ...] = ()
        if first and NetworkCapability.PUBLISH in driver.capabilities:
            ports = _ports(container.host, container.config.exposed_ports)
        return Joining(
            network,
            driver,
            EndpointRequest(
                container=container.id,
                network=self._networks.spec(network),
                address=options.address or None,
                address6=options.address6 or None,
                mac=options.mac or None,
                default_route=first,
                ports=ports,
            ),
        )


def _ports(host: HostOptions, exposed: tuple[str, ...]) -> tuple[PortRequest, ...]:
    if not host.publish_all:
        return host.ports
    published = {(port.container_port, port.protocol) for port in host.ports}
    found = list(host.ports)
    for text in exposed:
        number, _, protocol = text.partition("/")
        request = PortRequest(int(number), protocol or "tcp")
        if (request.container_port, request.protocol) not in published:
            found.append(request)
    return tuple(found)
