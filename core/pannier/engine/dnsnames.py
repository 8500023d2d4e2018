"""The names that one container may find: those of its networks, read from what is there now."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pannier.dns.upstream import Upstream, parse_upstreams
from pannier.engine.hostfiles import resolvers
from pannier.engine.model import EndpointOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Address, IPv6Address

    from pannier.drivers.network import Endpoint
    from pannier.engine.model import Container, Network
    from pannier.engine.networkstore import NetworkStore
    from pannier.engine.registry import Registry

__all__ = ["ContainerNames", "HostResolvers", "dns_names"]

_UNASKED = EndpointOptions()


def dns_names(container: Container, options: EndpointOptions) -> list[str]:
    """Return what a container is called on a network of a user's, as Docker's ``DNSNames``."""
    names = [container.name, *options.aliases, container.id[:12]]
    if container.config.hostname:
        names.append(container.config.hostname)
    return list(dict.fromkeys(names))


@dataclass(slots=True)
class HostResolvers:
    """The servers of the host's resolv.conf, read again whenever the file has changed.

    So containers follow a host that joins another network, or a VPN.
    """

    path: str
    _seen: tuple[int, int] = (0, 0)
    _servers: tuple[str, ...] = field(default=())

    def servers(self) -> tuple[str, ...]:
        """Return the addresses; none where the file is missing."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 - on the way of each forwarded question
        except OSError:
            return ()
        seen = (found.st_mtime_ns, found.st_ino)
        if seen != self._seen:
            self._servers = resolvers(self.path)
            self._seen = seen
        return self._servers


@dataclass(frozen=True, slots=True)
class ContainerNames:
    """A :class:`pannier.dns.server.Source`: what the registry says at the moment of a question.

    Nothing is stored, so that nothing has to be kept true: a container that leaves a network, or
    gets another name, is found as it is now. A question costs one look at each container.

    Used on the event loop's thread.

    :param started: the container as it was started, which counts until the registry knows that it
        runs: the first instruction in it may ask already. From then on one that has left all its
        networks finds nobody, and nobody is asked for it.
    """

    started: Container
    registry: Registry
    networks: NetworkStore
    resolvers: HostResolvers

    def addresses(self, name: str) -> list[str] | None:
        """Return the addresses of a name; those of the first network that has it."""
        own = self._own()
        found = list(self._joined(own))
        for network, _ in found:
            addresses = self._in_network(own, network, name)
            if addresses is not None:
                return addresses
        for network, _ in found:
            # Also as NAME.NETWORK.
            short = name.removesuffix(f".{network.name.lower()}")
            if short != name:
                addresses = self._in_network(own, network, short)
                if addresses is not None:
                    return addresses
        return None

    def _in_network(self, own: Container, network: Network, name: str) -> list[str] | None:
        linked = self._linked(own, network, name)
        found = [
            address
            for container, endpoint in self._members(network)
            if linked == container.id or _is_called(container, network, name)
            for address in (endpoint.address, endpoint.address6)
            if address
        ]
        return found or None

    def _linked(self, own: Container, network: Network, name: str) -> str | None:
        """Return the id of the container that *own* calls by this name on a network."""
        for entry in own.networks.get(network.name, _UNASKED).links:
            ref, _, alias = entry.partition(":")
            if (alias or ref).lower() == name:
                for live in self.registry:
                    container = live.container
                    if ref == container.name or container.id.startswith(ref):
                        return container.id
        return None

    def name_of(self, address: str) -> str | None:
        """Return ``NAME.NETWORK`` of the container that has an address."""
        for network, _ in self._joined(self._own()):
            for container, endpoint in self._members(network):
                if address in (endpoint.address, endpoint.address6):
                    return f"{container.name}.{network.name}"
        return None

    def owns(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether an address is of one of the container's networks."""
        return any(
            address in ipaddress.ip_network(subnet.subnet)
            for network, _ in self._joined(self._own())
            for subnet in network.subnets
        )

    def upstreams(self) -> list[Upstream]:
        """Return the servers of ``--dns``, else the host's; none on internal networks only."""
        own = self._own()
        networks = [self.networks.get(name) for name in own.endpoints]
        if all(network is None or network.internal for network in networks):
            return []
        ipv6 = any(endpoint.gateway6 for endpoint in own.endpoints.values())
        if own.host.dns:
            return parse_upstreams(own.host.dns, of_host=False, ipv6=ipv6)
        return parse_upstreams(self.resolvers.servers(), of_host=True, ipv6=ipv6)

    def _own(self) -> Container:
        live = self.registry.get(self.started.id)
        return live.container if live is not None and live.container.state.running else self.started

    def _joined(self, own: Container) -> Iterator[tuple[Network, Endpoint]]:
        for name, endpoint in own.endpoints.items():
            network = self.networks.get(name)
            if network is not None and not self.networks.predefined(network):
                yield network, endpoint

    def _members(self, network: Network) -> Iterator[tuple[Container, Endpoint]]:
        own = self._own()
        for live in self.registry:
            container = own if live.container.id == own.id else live.container
            endpoint = container.endpoints.get(network.name)
            if endpoint is not None:
                yield container, endpoint


def _is_called(container: Container, network: Network, name: str) -> bool:
    """Whether a container has a name, in lower case, among its :func:`dns_names`."""
    if name in (container.name.lower(), container.id[:12], container.config.hostname.lower()):
        return True
    options = container.networks.get(network.name)
    return options is not None and any(name == alias.lower() for alias in options.aliases)
