"""The host's own network namespace, shared."""

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

__all__ = ["HostDriver"]


class HostDriver(NetworkDriver):
    """Containers see the host's links, addresses and ports as the host's processes do."""

    id: ClassVar[str] = "host"
    priority: ClassVar[int] = -50  # nobody is to be on the host's network who did not ask for it
    config_type: ClassVar[type[Any]] = NoConfig

    @classmethod
    def probe(cls, context: DriverContext, config: NoConfig) -> None:
        """Nothing is needed."""

    def __init__(self, context: DriverContext, config: NoConfig) -> None:
        """There is no state."""

    def namespace(self, argument: str) -> Namespace:
        """Return the host's."""
        if argument:
            raise InvalidRequest(
                f'the network "host" takes no argument: "host:{argument}"',
                hint="use --network host",
            )
        return Namespace("host")

    def create_network(self, network: NetworkSpec) -> NetworkSpec:
        """Accept the predefined network."""
        if network.id != self.id:
            raise UnsupportedOperation(
                f'network {network.name}: only one instance of "host" network is allowed',
                hint="use --network host, or create a network of the driver bridge",
            )
        return network

    def remove_network(self, network: NetworkSpec) -> None:
        """There is nothing to remove."""

    def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:  # noqa: ARG002 - nothing is done in it
        """Do nothing: the container has all that the host has."""
        if request.ports:
            raise UnsupportedOperation(
                "port publishing has no meaning with the host's network: the container's ports are "
                "the host's",
                hint="leave -p out, or use another network",
            )
        if request.address or request.address6 or request.mac or request.link_local:
            raise UnsupportedOperation(
                "a container on the host's network cannot have an address of its own",
                hint="leave --ip, --ip6 and --mac-address out, or use another network",
            )
        return Plan(self.id, [], lambda: Attachment(Endpoint(request.network.id)))

    def detach(self, request: EndpointRequest, netns: int | None) -> None:
        """There is nothing to take away."""

    def reconcile(self, endpoints: Iterable[tuple[EndpointRequest, Endpoint]]) -> None:
        """There is nothing to hold."""
