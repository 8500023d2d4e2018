"""A container's network settings: endpoints and published ports."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pannier.drivers.network import Endpoint
from pannier.engine.dnsnames import dns_names
from pannier.engine.model import EndpointOptions

if TYPE_CHECKING:
    from pannier.engine.model import Container

__all__ = [
    "endpoint_id",
    "endpoint_view",
    "endpoints_view",
    "port_map",
    "port_summaries",
    "settings_view",
]

_NOTHING = Endpoint("")
_UNASKED = EndpointOptions()
# The hosts that mean "every address of the host", by IP version.
_EVERYWHERE = {"": "0.0.0.0"}


def endpoint_id(container: str, network: str) -> str:
    """Return an endpoint's id: Pannier names endpoints by what they join, clients want digits."""
    return hashlib.sha256(f"{container} {network}".encode()).hexdigest()


def endpoint_view(container: Container, name: str) -> dict[str, Any]:
    """Return the ``EndpointSettings`` of a container on the network *name*."""
    endpoint = container.endpoints.get(name, _NOTHING)
    options = container.networks.get(name, _UNASKED)
    asked = {
        "IPv4Address": options.address,
        "IPv6Address": options.address6,
        "LinkLocalIPs": list(options.link_local),
    }
    ipam = {key: value for key, value in asked.items() if value} or None
    attached = bool(endpoint.network)
    return {
        "IPAMConfig": ipam,
        "Links": list(options.links) or None,
        "Aliases": list(options.aliases) or None,
        "MacAddress": endpoint.mac or options.mac,
        "DriverOpts": dict(options.driver_options) or None,
        "GwPriority": options.gw_priority,
        "NetworkID": endpoint.network,
        "EndpointID": endpoint_id(container.id, endpoint.network) if attached else "",
        "Gateway": endpoint.gateway,
        "IPAddress": endpoint.address,
        "IPPrefixLen": endpoint.prefix,
        "IPv6Gateway": endpoint.gateway6,
        "GlobalIPv6Address": endpoint.address6,
        "GlobalIPv6PrefixLen": endpoint.prefix6,
        "DNSNames": dns_names(container, options) if name not in _PREDEFINED else None,
    }


_PREDEFINED = {"bridge", "host", "none"}


def endpoints_view(container: Container) -> dict[str, dict[str, Any]]:
    """Return ``NetworkSettings.Networks``: none for a container that has left all of them."""
    names = dict.fromkeys((*container.networks, *container.endpoints))
    return {name: endpoint_view(container, name) for name in names}


def port_map(container: Container) -> dict[str, list[dict[str, str]] | None]:
    """Return ``NetworkSettings.Ports``: the exposed ports, each with where it is published."""
    ports: dict[str, list[dict[str, str]] | None] = {}
    if not container.state.running:
        return ports
    if container.host.network_mode not in {"host", "none"}:
        ports.update(dict.fromkeys(container.config.exposed_ports))
    for endpoint in container.endpoints.values():
        for port in endpoint.ports:
            key = f"{port.container_port}/{port.protocol}"
            places = ports.get(key) or []
            places.append(
                {
                    "HostIp": _EVERYWHERE.get(port.host_ip, port.host_ip),
                    "HostPort": str(port.host_port),
                }
            )
            ports[key] = places
    return ports


def port_summaries(container: Container) -> list[dict[str, Any]]:
    """Return the ``Ports`` of a ``ContainerSummary``."""
    summaries: list[dict[str, Any]] = []
    for key, places in port_map(container).items():
        number, _, protocol = key.partition("/")
        if not places:
            summaries.append({"PrivatePort": int(number), "Type": protocol})
            continue
        summaries += [
            {
                "IP": place["HostIp"],
                "PrivatePort": int(number),
                "PublicPort": int(place["HostPort"]),
                "Type": protocol,
            }
            for place in places
        ]
    return summaries


def settings_view(container: Container) -> dict[str, Any]:
    """Return a ``NetworkSettings``; the older fields repeat the first network's."""
    networks = endpoints_view(container)
    running = container.state.running
    default = container.endpoints.get("bridge", _NOTHING)
    attached = bool(default.network)
    return {
        "Bridge": "",
        "SandboxID": endpoint_id(container.id, "sandbox") if running else "",
        "SandboxKey": f"/proc/{container.state.pid}/ns/net" if running else "",
        "Ports": port_map(container),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": endpoint_id(container.id, default.network) if attached else "",
        "Gateway": default.gateway,
        "GlobalIPv6Address": default.address6,
        "GlobalIPv6PrefixLen": default.prefix6,
        "IPAddress": default.address,
        "IPPrefixLen": default.prefix,
        "IPv6Gateway": default.gateway6,
        "MacAddress": default.mac,
        "Networks": networks,
    }
