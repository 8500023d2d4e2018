"""The network contract: a container's network namespace and what is in it.

Words. A *network* is what containers join (``pannier network ls``); an *endpoint* is one
container's place in one network. A network *driver* may serve many networks (``bridge``) or one
fixed one (``host``, ``none``). ``container:NAME`` joins another container's namespace.

Life cycle. The engine asks :meth:`NetworkDriver.namespace` which namespace the container gets. The
runtime creates (or joins) it together with the container's first process, still held back; then
the engine executes :meth:`NetworkDriver.plan_attach` with a descriptor of that namespace, and only
then starts the process. Attach and detach are idempotent; detach works after the container, the
namespace or the bridge has gone; a failed attach leaves nothing behind.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal

from pannier.drivers.base import Driver

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from pannier.drivers.operations import Plan

__all__ = [
    "Attachment",
    "Endpoint",
    "EndpointRequest",
    "Namespace",
    "NetworkCapability",
    "NetworkDriver",
    "NetworkSpec",
    "PortBinding",
    "PortRequest",
    "Subnet",
]


class NetworkCapability(StrEnum):
    """What a network driver may declare."""

    USER_DEFINED = "user-defined"
    """Users may create networks of this driver (``network create --driver``)."""

    PUBLISH = "publish"
    """Ports can be published on the host (``-p``)."""

    ADDRESSES = "addresses"
    """An endpoint gets an address, which a user may choose (``--ip``), and link-local ones."""

    LIVE = "live"
    """An endpoint may be attached to and detached from a running container."""

    IPV6 = "ipv6"
    """Networks may have an IPv6 subnet."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """Which network namespace a container is to get.

    :param kind: ``new``: one of its own; ``host``: the host's; ``container``: another container's.
    :param container: the other container's id, where *kind* is ``container``.
    """

    kind: Literal["new", "host", "container"]
    container: str | None = None


@dataclass(frozen=True, slots=True)
class Subnet:
    """An address pool of a network.

    :param subnet: in CIDR form, ``172.18.0.0/16``.
    :param gateway: an address in it; None lets the driver choose (the first).
    :param ip_range: the part to allocate from, in CIDR form; None for all of it.
    :param reserved: addresses never to allocate (aux addresses).
    """

    subnet: str
    gateway: str | None = None
    ip_range: str | None = None
    reserved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network, as its driver needs to know it.

    :param id: 64 hexadecimal digits, or the driver's id for a predefined network.
    :param options: the driver's own, as given with ``--opt``.
    :param internal: no way in or out of the network.
    :param subnets: empty lets the driver choose a free one.
    """

    id: str
    name: str
    internal: bool = False
    ipv6: bool = False
    subnets: tuple[Subnet, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PortRequest:
    """A port to publish.

    :param protocol: ``tcp``, ``udp`` or ``sctp``.
    :param host_ip: empty for every address of the host that the network can serve.
    :param host_ports: an inclusive range to choose from; (0, 0) for any free port.
    """

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_ports: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class PortBinding:
    """A port that is published; *host_ip* is the address it answers on."""

    container_port: int
    protocol: str
    host_ip: str
    host_port: int


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """One container joining one network.

    :param container: the container's id.
    :param address: the IPv4 address asked for; None lets the driver choose.
    :param mac: the MAC address asked for, ``02:42:…``.
    :param interface: the wished name inside (``eth0``); None picks the next free ``ethN``.
    :param link_local: further addresses that the interface gets, of 169.254.0.0/16 or fe80::/64.
    :param default_route: whether this endpoint's gateway becomes the default route.
    :param held: what earlier endpoints of this container published. Its monitor keeps the sockets
        that reserve these for as long as the container runs: where a port asked for is among them,
        it is published again without a further reservation.
    """

    container: str
    network: NetworkSpec
    address: str | None = None
    address6: str | None = None
    mac: str | None = None
    interface: str | None = None
    default_route: bool = True
    ports: tuple[PortRequest, ...] = ()
    link_local: tuple[str, ...] = ()
    held: tuple[PortBinding, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What an attached container has on a network; empty strings where it has none.

    :param prefix: the prefix length of *address*.
    """

    network: str
    interface: str = ""
    address: str = ""
    prefix: int = 0
    gateway: str = ""
    address6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    mac: str = ""
    ports: tuple[PortBinding, ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """The answer to an attach.

    :param descriptors: sockets that reserve the published ports. The engine has them kept open by
        whatever outlives the daemon with the container, and closes its own copies.
    """

    endpoint: Endpoint
    descriptors: tuple[int, ...] = ()


class NetworkDriver(Driver):
    """Gives containers their network."""

    kind: ClassVar[str] = "network"
    capabilities: ClassVar[AbstractSet[NetworkCapability]] = frozenset()

    @abstractmethod
    def namespace(self, argument: str) -> Namespace:
        """Say which namespace a container of this network gets.

        Computed from the argument alone, and at once: the answer is remembered, and nothing else
        goes on meanwhile.

        :param argument: what followed the driver's id in ``--network ID:ARGUMENT``; else empty.
        """

    @abstractmethod
    def create_network(self, network: NetworkSpec) -> NetworkSpec:
        """Create a network and return it with its subnets filled in. Idempotent.

        Also called for each known network when the driver is opened: then what users have made is
        there already, and may lack something on the host that comes later.

        :raises UnsupportedOperation: without the capability, except for the predefined network,
            which has the driver's id. A driver that declares ``USER_DEFINED`` may refuse that one
            in this way: then the engine has none.
        :raises Conflict: a subnet overlaps with another network or, where the host is to have an
            address in it, with a route of the host.
        """

    @abstractmethod
    def remove_network(self, network: NetworkSpec) -> None:
        """Remove a network with its links and rules. Idempotent."""

    @abstractmethod
    def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
        """Give a container its endpoint; in a new namespace the loopback link comes up as well.

        An endpoint that is attached already stays as it is, but for its published ports: without
        any in the request they are withdrawn, and those of the request are published where it has
        none. So the ports of a running container move with its default route.

        :param netns: a descriptor of the container's network namespace; None only when the plan
            will be described and not executed: nothing may be reserved before execution.
        :raises Conflict: an address is taken; a port is in use on the host.
        :raises UnsupportedOperation: what the capabilities do not declare.
        """

    @abstractmethod
    def detach(self, request: EndpointRequest, netns: int | None) -> None:
        """Take an endpoint away: links, leases, rules, reservations. Idempotent.

        :param netns: the namespace, or None where it has gone already.
        """

    @abstractmethod
    def reconcile(self, endpoints: Iterable[tuple[EndpointRequest, Endpoint]]) -> None:
        """After a restart of the daemon: hold what these endpoints have, release all else.

        Called once for each opened driver, with the endpoints of all running containers. Published
        is what these say, also where the last daemon was killed while ports moved.
        """

    def reserve(self, ports: Iterable[PortBinding]) -> tuple[int, ...]:  # noqa: ARG002 - see below
        """After a restart: reserve ports of a running container that nobody reserves any more.

        A port that a running container was given late, by being connected to a network, is reserved
        by the daemon of then; and any one, where the runtime keeps no descriptors.

        :param ports: published by the container's endpoints, or held for it (see
            :attr:`EndpointRequest.held`); what is reserved by others, its monitor for instance, is
            passed over.
        :returns: descriptors as those of an :class:`Attachment`, which the engine keeps; none where
            a driver reserves nothing by sockets.
        """
        return ()
