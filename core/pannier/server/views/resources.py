"""Networks, volumes and events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pannier.server.views.endpoints import endpoint_id
from pannier.server.views.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.engine.model import Container, Network, Volume
    from pannier.engine.results import Event, VolumeUsage

__all__ = ["event_view", "network_view", "volume_view"]


def network_view(network: Network, containers: Iterable[Container] = ()) -> dict[str, Any]:
    """Return a ``Network``; *containers* are those that are attached."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": not network.config_only,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": None,
            "Config": [
                {
                    key: value
                    for key, value in (
                        ("Subnet", subnet.subnet),
                        ("IPRange", subnet.ip_range),
                        ("Gateway", subnet.gateway),
                        (
                            "AuxiliaryAddresses",
                            {
                                name: address
                                for name, address in network.auxiliary.items()
                                if address in subnet.reserved
                            },
                        ),
                    )
                    if value
                }
                for subnet in network.subnets
            ],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": _members(network, containers),
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def _members(network: Network, containers: Iterable[Container]) -> dict[str, Any]:
    members = {}
    for container in containers:
        endpoint = container.endpoints.get(network.name)
        if endpoint is None:
            continue
        members[container.id] = {
            "Name": container.name,
            "EndpointID": endpoint_id(container.id, endpoint.network),
            "MacAddress": endpoint.mac,
            "IPv4Address": f"{endpoint.address}/{endpoint.prefix}" if endpoint.address else "",
            "IPv6Address": f"{endpoint.address6}/{endpoint.prefix6}" if endpoint.address6 else "",
        }
    return members


def volume_view(volume: Volume, usage: VolumeUsage | None = None) -> dict[str, Any]:
    """Return a ``Volume``."""
    view: dict[str, Any] = {
        "CreatedAt": rfc3339(volume.created // 10**9 * 10**9),
        "Driver": volume.driver,
        "Labels": dict(volume.labels) or None,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": dict(volume.options) or None,
        "Scope": "local",
    }
    if usage is not None:
        view["UsageData"] = {"Size": usage.size, "RefCount": usage.references}
    return view


def event_view(event: Event) -> dict[str, Any]:
    """Return an ``EventMessage``, with the older fields that clients still read."""
    view: dict[str, Any] = {}
    if event.kind in {"container", "image"}:
        view["status"] = event.action
        if event.actor:  # a prune is about none
            view["id"] = event.actor
            if event.kind == "container":
                view["from"] = event.attributes.get("image", "")
    return view | {
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.actor, "Attributes": dict(event.attributes)},
        "scope": "local",
        "time": event.time_ns // 10**9,
        "timeNano": event.time_ns,
    }
