"""Another container's network namespace, joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pannier.drivers.base import NoConfig
from pannier.drivers.network import (
    Attachment,
    Endpoint,
    EndpointRequest,
    Namespace,
    NetworkDriver,
    NetworkSpec,
)
from pannier.drivers.operations import Plan
from pannier.errors import InvalidRequest, UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.drivers.base import DriverContext

__all__ = ["ContainerDriver"]


class ContainerDriver(NetworkDriver):
    """Containers share the links, addresses and ports of another container."""

    id: ClassVar[str] = "container"
    priority: ClassVar[int] = -100  # it cannot do without being told whose network
    config_type: ClassVar[type[Any]] = NoConfig

    @classmethod
    def probe(cls, context: DriverContext, config: NoConfig) -> None:
        """Nothing is needed."""

    def __init__(self, context: DriverContext, config: NoConfig) -> None:
        """There is no state."""

    def namespace(self, argument: str) -> Namespace:
        """Return that of the container with the name or id *argument*."""
        if not argument:
            raise InvalidRequest(
                "invalid network mode: container: the name or id of a container is missing",
                hint="use --network container:NAME",
            )
        return Namespace("container", argument)

    def create_network(self, network: NetworkSpec) -> NetworkSpec:
        """Accept the predefined network."""
        if network.id != self.id:
            raise UnsupportedOperation(
                f"network {network.name}: networks of the driver container cannot be created",
                hint="use --network container:NAME, or create a network of the driver bridge",
            )
        return network

    def remove_network(self, network: NetworkSpec) -> None:
        """There is nothing to remove."""

    def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:  # noqa: ARG002 - nothing is done in it
        """Do nothing: the container has all that the other one has."""
        if request.ports:
            raise UnsupportedOperation(
                "conflicting options: port publishing and the container type network mode",
                hint="publish the ports of the container whose network is shared",
            )
        if request.address or request.address6 or request.mac or request.link_local:
            what = "mac-address" if request.mac else "ip address"
            raise UnsupportedOperation(
                f"conflicting options: {what} and the network mode",
                hint="give them to the container whose network is shared",
            )
        return Plan(self.id, [], lambda: Attachment(Endpoint(request.network.id)))

    def detach(self, request: EndpointRequest, netns: int | None) -> None:
        """Leave the namespace to its owner."""

    def reconcile(self, endpoints: Iterable[tuple[EndpointRequest, Endpoint]]) -> None:
        """There is nothing to hold."""
