"""A network namespace of its own, with nothing but loopback."""

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
from pannier.drivers.operations import Action, Plan, Step
from pannier.errors import DriverError, DriverUnavailable, InvalidRequest, UnsupportedOperation
from pannier.linux import rtnl
from pannier.linux.namespaces import in_network_namespace
from pannier.linux.netlink import ROUTE, NetlinkSocket

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.drivers.base import DriverContext

__all__ = ["NoneDriver"]

_LOOPBACK = 1


class NoneDriver(NetworkDriver):
    """Containers reach themselves by 127.0.0.1, and nobody else."""

    id: ClassVar[str] = "none"
    priority: ClassVar[int] = 50  # the next best to the bridge: apart from everybody, as that is
    config_type: ClassVar[type[Any]] = NoConfig

    @classmethod
    def probe(cls, context: DriverContext, config: NoConfig) -> None:  # noqa: ARG003 - the contract's
        """Open a netlink socket."""
        try:
            NetlinkSocket(ROUTE).close()
        except OSError as error:
            raise DriverUnavailable(
                f"rtnetlink cannot be used: {error.strerror}",
                hint="let the daemon open AF_NETLINK sockets (RestrictAddressFamilies, seccomp)",
            ) from error

    def __init__(self, context: DriverContext, config: NoConfig) -> None:
        """There is no state."""

    def namespace(self, argument: str) -> Namespace:
        """Return a new one."""
        if argument:
            raise InvalidRequest(
                f'the network "none" takes no argument: "none:{argument}"',
                hint="use --network none",
            )
        return Namespace("new")

    def create_network(self, network: NetworkSpec) -> NetworkSpec:
        """Accept the predefined network."""
        if network.id != self.id:
            raise UnsupportedOperation(
                f'network {network.name}: only one instance of "null" network is allowed',
                hint="use --network none, or create a network of the driver bridge",
            )
        return network

    def remove_network(self, network: NetworkSpec) -> None:
        """There is nothing to remove."""

    def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
        """Bring loopback up; where it is up already nothing changes."""
        if (
            request.ports
            or request.address
            or request.address6
            or request.mac
            or request.link_local
        ):
            raise UnsupportedOperation(
                "a container without a network has no address and publishes no ports",
                hint="leave -p, --ip, --ip6 and --mac-address out, or use another network",
            )
        step = Step("set link up", "lo", "in the container's namespace")
        return Plan(
            self.id,
            [Action(step, lambda: _bring_up(netns))],
            lambda: Attachment(Endpoint(request.network.id)),
        )

    def detach(self, request: EndpointRequest, netns: int | None) -> None:
        """Loopback goes with its namespace."""

    def reconcile(self, endpoints: Iterable[tuple[EndpointRequest, Endpoint]]) -> None:
        """There is nothing to hold."""


def _bring_up(netns: int | None) -> None:
    assert netns is not None, "a plan without a namespace is for describing only"
    try:
        with in_network_namespace(netns):
            netlink = NetlinkSocket(ROUTE)
        with netlink:
            netlink.request([rtnl.set_up(_LOOPBACK)])
    except OSError as error:
        raise DriverError(
            f"could not bring up the container's loopback link: {error.strerror}",
            hint="run `pannier doctor`",
        ) from error
