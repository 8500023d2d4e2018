"""Moving a running container's published ports: they are where its default route leads."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pannier.drivers.network import PortBinding
    from pannier.drivers.operations import Transaction
    from pannier.engine.endpoints import Endpoints, Joining
    from pannier.engine.model import Container

__all__ = ["attach", "leaving", "to_be_published"]


def leaving(container: Container, network: str) -> Container:
    """Return a container without the network *network*, whose ports its monitor still reserves."""
    endpoint = container.endpoints.get(network)
    held = _held(container, endpoint.ports if endpoint is not None else ())
    return replace(
        container,
        networks={name: one for name, one in container.networks.items() if name != network},
        endpoints={name: one for name, one in container.endpoints.items() if name != network},
        state=replace(container.state, reserved=held),
    )


def to_be_published(container: Container, endpoints: Endpoints) -> Joining | None:
    """Return the joining that is to publish a running container's ports; None where they are."""
    if any(endpoint.ports for endpoint in container.endpoints.values()):
        return None
    gateway = endpoints.gateway(container)
    if gateway not in container.endpoints:
        return None
    options = container.networks[gateway]
    joining = endpoints.joining(container, gateway, options, leads_out=True)
    return joining if joining.request.ports else None


def attach(
    transaction: Transaction,
    container: Container,
    joining: Joining,
    others: list[Joining],
    netns: int,
) -> tuple[Container, tuple[int, ...]]:
    """Attach an endpoint; the ports that it is to publish leave the endpoint that has them.

    :param others: the container's other endpoints.
    :returns: the container, and descriptors that reserve further ports, to be kept for it.
    """
    endpoints = dict(container.endpoints)
    held = _held(container)
    if joining.request.ports:
        for other in others:
            if not endpoints[other.network.name].ports:
                continue
            plan = other.driver.plan_attach(replace(other.request, ports=()), netns)
            withdrawn = transaction.run(plan)
            endpoints[other.network.name] = withdrawn.endpoint
            held = _held(container, *(one.ports for one in container.endpoints.values()))
            for descriptor in withdrawn.descriptors:
                os.close(descriptor)
    plan = joining.driver.plan_attach(replace(joining.request, held=held), netns)
    attachment = transaction.run(plan)
    endpoints[joining.network.name] = attachment.endpoint
    state = replace(container.state, reserved=held)
    return replace(container, endpoints=endpoints, state=state), attachment.descriptors


def _held(container: Container, *more: tuple[PortBinding, ...]) -> tuple[PortBinding, ...]:
    found = [*container.state.reserved, *(port for ports in more for port in ports)]
    return tuple(dict.fromkeys(found))
