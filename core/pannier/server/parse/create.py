"""A container to create, from the whole body of the request."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pannier.engine.model import CreateOptions, EndpointOptions
from pannier.errors import InvalidRequest
from pannier.server.parse.config import parse_config
from pannier.server.parse.hostconfig import parse_host
from pannier.server.parse.networks import check_mac, parse_endpoint

if TYPE_CHECKING:
    from pannier.engine.model import HostOptions
    from pannier.server.parse.fields import Fields

__all__ = ["check_container_name", "parse_create"]

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")


def check_container_name(name: str) -> str:
    """Return a container's name without the slash that it may begin with.

    :raises InvalidRequest: no container can have that name.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return name.removeprefix("/")


def parse_create(fields: Fields, name: str = "", platform: str = "") -> CreateOptions:
    """Read a create body; *name* and *platform* are parameters of the query."""
    if not fields:
        raise InvalidRequest("config cannot be empty in order to create a container")
    rootfs = fields.text("Rootfs")
    if rootfs and not rootfs.startswith("/"):
        raise InvalidRequest(f"the rootfs '{rootfs}' is invalid, it needs to be an absolute path")
    host = parse_host(fields.object("HostConfig"))
    # Docker's library for Python puts it here.
    host = replace(host, runtime=host.runtime or fields.text("Runtime"))
    networks = _endpoints(fields.object("NetworkingConfig").object("EndpointsConfig"))
    _refuse_joined(fields, host)
    return CreateOptions(
        config=parse_config(fields),
        host=host,
        networks=_with_mac(networks, check_mac(fields.text("MacAddress")), host.network_mode),
        name=check_container_name(name) if name else "",
        rootfs=rootfs,
        platform=platform,
    )


def _endpoints(fields: Fields) -> dict[str, EndpointOptions]:
    # Docker takes {"mynet": null} for a network with nothing special asked.
    return {
        name: parse_endpoint(fields.object(name))
        for name in fields.keys()  # noqa: SIM118 - Fields is no dictionary
    }


def _with_mac(
    networks: dict[str, EndpointOptions], mac: str, mode: str
) -> dict[str, EndpointOptions]:
    """Give the endpoint of the container's first network the address of the older field."""
    if not mac:
        return networks
    name = mode if mode in networks or len(networks) != 1 else next(iter(networks))
    name = name or "bridge"
    return networks | {name: replace(networks.get(name, EndpointOptions()), mac=mac)}


def _refuse_joined(fields: Fields, host: HostOptions) -> None:
    """Refuse what a container that joins another's network cannot have of its own."""
    kind = host.network_mode.partition(":")[0]
    if kind == "host" and host.links:
        raise InvalidRequest(
            "conflicting options: host type networking can't be used with links. This would "
            "result in undefined behavior"
        )
    if kind != "container":
        return
    conflicts = {
        "hostname": fields.text("Hostname"),
        "links": host.links,
        "dns": host.dns,
        "custom host-to-IP mapping": host.extra_hosts,
        "mac-address": fields.text("MacAddress"),
        "port publishing": host.ports or host.publish_all,
        "port exposing": fields.object("ExposedPorts"),
    }
    for what, given in conflicts.items():
        if given:
            with_ = "the network mode" if what == "hostname" else "the container type network mode"
            raise InvalidRequest(f"conflicting options: {what} and {with_}")
