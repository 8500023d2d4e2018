"""Which networks a container joins, and as what: between the engine's words and the drivers'."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.bounded import AT_ONCE, Patience
from pannier.drivers.network import (
    EndpointRequest,
    Namespace,
    NetworkCapability,
    PortRequest,
)
from pannier.engine.gateways import gateway_of
from pannier.engine.model import EndpointOptions
from pannier.engine.netconfigs import refuse_endpoint
from pannier.errors import InvalidRequest, NotFound, PannierError, UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.drivers.network import NetworkDriver
    from pannier.driverset import DriverSet
    from pannier.engine.model import Container, HostOptions, Network
    from pannier.engine.networkstore import NetworkStore

__all__ = ["Endpoints", "Joining"]

_INTERFACE = "com.docker.network.endpoint.ifname"
_SYSCTLS = "com.docker.network.endpoint.sysctls"
_MOST_KNOWN = 1024
"""However many arguments containers are made with."""


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
        self._patience = Patience(AT_ONCE)
        self._namespaces: dict[tuple[str, str], Namespace] = {}

    def namespace(self, mode: str) -> Namespace:
        """Return which network namespace a network mode means.

        :raises NotFound: there is no such network or driver.
        """
        kind, colon, argument = mode.partition(":")
        if colon:
            driver = self._drivers.networks.get(kind)
            if driver is None:
                raise InvalidRequest(f"invalid network mode: {mode}")
            return self._namespace(driver, argument)
        return self._namespace(self.driver(self.primary(mode)), "")

    def _namespace(self, driver: NetworkDriver, argument: str) -> Namespace:
        """Ask a driver, on the event loop, and so not twice what it has answered before."""
        key = (driver.id, argument)
        known = self._namespaces.get(key)
        if known is None:
            if len(self._namespaces) >= _MOST_KNOWN:
                self._namespaces.clear()
            known = self._patience.ask(driver, lambda: driver.namespace(argument))
            self._namespaces[key] = known
        return known

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
        :raises Forbidden: the network is only a configuration.
        """
        refuse_endpoint(network)
        driver = self._drivers.networks.get(network.driver)
        if driver is None:
            raise NotFound(
                f"the network {network.name} needs the driver {network.driver!r}, which is missing",
                hint="`pannier drivers` lists the drivers and why one cannot be used",
            )
        return driver

    def check_options(self, network: Network, options: EndpointOptions) -> None:
        """Refuse what a network cannot give, before anything is kept.

        :raises InvalidRequest: aliases, or addresses where the engine or nobody chose the subnet.
        :raises UnsupportedOperation: settings of the kernel's for the interface.
        """
        if options.driver_options.get(_SYSCTLS):
            raise UnsupportedOperation(
                f"network {network.name}: the option {_SYSCTLS} is not offered",
                hint="use --sysctl, with the interface's name",
            )
        if self._networks.predefined(network) and options.aliases:
            raise InvalidRequest(
                "network-scoped alias is supported only for containers in user defined networks",
                hint="create a network: pannier network create NAME",
            )
        for text, version in ((options.address, 4), (options.address6, 6)):
            if not text:
                continue
            if self._networks.predefined(network):
                raise InvalidRequest(
                    "invalid endpoint settings:\nuser specified IP address is supported on user "
                    "defined networks only"
                )
            _check_address(network, text, version)

    def named(self, container: Container) -> bool:
        """Whether a container finds others by name: on any network that a user made."""
        for name in container.networks:
            network = self._networks.get(name)
            if network is not None and not self._networks.predefined(network):
                return True
        return False

    def host_address(self) -> str:
        """Return the host's address on the default network; its loopback where it has none."""
        network = self._networks.get(self._drivers.default_network)
        gateways = [one.gateway for one in network.subnets] if network is not None else []
        return next((one for one in gateways if one and ":" not in one), "127.0.0.1")

    def gateway(self, container: Container) -> str:
        """Return the name of the network that leads out of a container; empty for none."""
        return gateway_of(container.networks, self._networks)

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
            self.check_options(network, options)
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
        gateway = self.gateway(container)
        return [
            self.joining(container, name, options, leads_out=name == gateway)
            for name, options in container.networks.items()
        ]

    def attached(self, container: Container) -> list[Joining]:
        """Return the joinings of which a container has an endpoint; for its detaching.

        A network whose driver has gone is left out.
        """
        found = []
        gateway = self.gateway(container)
        for name, options in container.networks.items():
            if name not in container.endpoints:
                continue
            try:
                joining = self.joining(container, name, options, leads_out=name == gateway)
                found.append(joining)
            except PannierError:
                continue
        return found

    def joining(
        self, container: Container, name: str, options: EndpointOptions, *, leads_out: bool
    ) -> Joining:
        """Return how a container joins the network *name*.

        :param leads_out: it gets the default route and the published ports.
        :raises NotFound: there is no such network, or it is being removed.
        """
        network = self._networks.staying(name)
        driver = self.driver(network)
        ports: tuple[PortRequest, ...] = ()
        if leads_out and NetworkCapability.PUBLISH in driver.capabilities:
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
                link_local=options.link_local,
                interface=options.driver_options.get(_INTERFACE) or None,
                default_route=leads_out,
                ports=ports,
                held=container.state.reserved,
            ),
        )


def _check_address(network: Network, text: str, version: int) -> None:
    """Refuse an address that is in none of a network's subnets."""
    address = ipaddress.ip_address(text)
    subnets = [
        ipaddress.ip_network(one.subnet)
        for one in network.subnets
        if one not in network.unused_subnets
    ]
    if not subnets or (address.version == version and any(address in subnet for subnet in subnets)):
        return  # a driver that named no subnet decides by itself
    raise InvalidRequest(
        f"invalid endpoint settings:\nno configured subnet contains IP address {text}",
        hint=f"the network {network.name} has {', '.join(map(str, subnets))}",
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
