"""What the network driver's tests share: the lab, the driver, and all that was asked of it."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pannier.drivers.network import (
    EndpointRequest,
    NetworkCapability,
    NetworkDriver,
    NetworkSpec,
)
from pannier.errors import InvalidRequest
from pannier.testing.base import Conformance, Opened
from pannier.testing.leaks import Watch, snapshot, unmount_below, wait_until
from pannier.testing.network_lab import Lab, lab

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pannier.drivers.network import Attachment, Endpoint

__all__ = ["Guest", "NetworkBench", "NetworkTests", "container_id"]


def container_id() -> str:
    """Return an id as the engine gives one to a container or a network."""
    return secrets.token_hex(32)


@dataclass(slots=True)
class Guest:
    """A container with an endpoint.

    :param netns: -1 once its namespace has gone.
    """

    request: EndpointRequest
    netns: int
    attachment: Attachment

    @property
    def endpoint(self) -> Endpoint:
        """What it has on the network."""
        return self.attachment.endpoint

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return self.attachment.endpoint.address

    @property
    def listed(self) -> tuple[EndpointRequest, Endpoint]:
        """As the engine lists it for :meth:`~pannier.drivers.network.NetworkDriver.reconcile`."""
        return self.request, self.attachment.endpoint

    def close_ports(self) -> None:
        """Close the descriptors that reserve its ports, as whoever held them does by ending."""
        for descriptor in self.attachment.descriptors:
            os.close(descriptor)
        self.attachment = replace(self.attachment, descriptors=())


@dataclass
class NetworkBench:
    """The driver in the lab, as the engine and the runtime use it; remembers what it made.

    :param argument: what follows the driver's id in ``--network ID:ARGUMENT``.
    :param options: the options of the networks that are created.
    :param patience: seconds that what is removed in the background may take.
    """

    lab: Lab
    opened: Opened[NetworkDriver]
    argument: str
    options: Mapping[str, str]
    patience: float
    networks: list[NetworkSpec] = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)

    @property
    def driver(self) -> NetworkDriver:
        """The instance that is open now."""
        return self.opened.driver

    def declares(self, capability: NetworkCapability) -> bool:
        """Whether the driver declares a capability."""
        return capability in self.opened.capabilities

    @property
    def isolated(self) -> bool:
        """Whether a container gets a namespace of its own."""
        return self.driver.namespace(self.argument).kind == "new"

    def namespace(self) -> int:
        """Make (or join) the namespace that a container gets, as the runtime does."""
        kind = self.driver.namespace(self.argument).kind
        if kind == "host":
            return self.lab.host_namespace()
        return self.lab.new_namespace(loopback=kind == "container")

    def spec(self, name: str = "net", **wishes: Any) -> NetworkSpec:
        """Return a network that the driver must be able to create: its own, or a user's."""
        if not self.declares(NetworkCapability.USER_DEFINED):
            return NetworkSpec(self.driver.id, self.driver.id, **wishes)
        return NetworkSpec(container_id(), name, options=self.options, **wishes)

    def network(self, name: str = "net", **wishes: Any) -> NetworkSpec:
        """Create a network."""
        return self.create(self.spec(name, **wishes))

    def create(self, spec: NetworkSpec) -> NetworkSpec:
        """Have the driver create a network; it is removed after the test."""
        self.networks.append(spec)
        made = self.driver.create_network(spec)
        self.networks[-1] = made
        return made

    def attach(
        self, network: NetworkSpec, container: str = "", *, netns: int | None = None, **wishes: Any
    ) -> Guest:
        """Start a container on a network; it is detached after the test."""
        request = EndpointRequest(container or container_id(), network, **wishes)
        place = self.namespace() if netns is None else netns
        attachment = self.opened.run(self.driver.plan_attach(request, place))
        guest = Guest(request, place, attachment)
        self.guests.append(guest)
        self._answer_for_gateways(guest.endpoint)
        return guest

    def _answer_for_gateways(self, endpoint: Endpoint) -> None:
        """Play the router where an endpoint's gateway is meant to be another machine."""
        of_host = {one.partition("/")[0] for one in self.lab.addresses(None)}
        for gateway, prefix in (
            (endpoint.gateway, endpoint.prefix),
            (endpoint.gateway6, endpoint.prefix6),
        ):
            if gateway and gateway not in of_host:
                self.lab.play_router(gateway, prefix)

    def detach(self, guest: Guest) -> None:
        """End a container's endpoint, as the engine does."""
        self.driver.detach(guest.request, guest.netns if guest.netns >= 0 else None)
        guest.close_ports()

    def kill(self, guest: Guest) -> None:
        """End a container without telling the driver: its namespace and its ports' sockets."""
        self.lab.destroy(guest.netns)
        guest.netns = -1
        guest.close_ports()

    def view(self) -> Counter[str]:
        """Return the host's links, addresses, routes and firewall: how many there are of each.

        Rules are counted by their chain, without their handles: a driver may write them anew.
        """
        things = snapshot(Watch(network=True)).things
        return things["link"] + Counter(
            line.partition(" handle ")[0] for line in things["firewall rule"].elements()
        )

    def left(self, before: Counter[str]) -> list[str]:
        """Return what is on the host beyond an earlier view; what is on its way is awaited."""
        wait_until(lambda: not self.view() - before, self.patience)
        return sorted(self.view() - before)

    def restart(self, listed: Sequence[Guest] | None = None) -> NetworkDriver:
        """Re-open the driver and have it do what the engine asks at its start.

        :param listed: the containers that the engine knows to run; None for all of them.
        """
        driver = self.opened.reopen()
        self.recover(listed)
        return driver

    def recover(self, listed: Sequence[Guest] | None = None) -> None:
        """Tell an opened driver of the networks and the running containers."""
        for network in self.networks:
            self.driver.create_network(network)
        self.driver.reconcile([one.listed for one in (self.guests if listed is None else listed)])

    def sweep(self) -> None:
        """Detach every container and remove every network, each twice."""
        for guest in self.guests:
            place = guest.netns if guest.netns >= 0 else None
            self.driver.detach(guest.request, place)
            self.driver.detach(guest.request, place)
            guest.close_ports()
        for network in self.networks:
            self.driver.remove_network(network)
            self.driver.remove_network(network)


class NetworkTests(Conformance[NetworkDriver]):
    """What the parts of the network kit share: the lab, and what an author may set."""

    contract: ClassVar[type[NetworkDriver]] = NetworkDriver
    options_attribute: ClassVar[str] = "network_options"

    argument: ClassVar[str] = ""
    """What follows the driver's id in ``--network ID:ARGUMENT``. Where it is empty and the driver
    demands something, the tests give it a name."""

    network_options: ClassVar[Mapping[str, str]] = {}
    """The options of the networks that the tests create (``--opt``). The host of the tests has one
    link to an outside, :data:`~pannier.testing.network_lab.UPLINK`, for drivers that sit on one."""

    _bench: NetworkBench | None = None
    _lab: Lab | None = None

    @pytest.fixture
    def surroundings(self, place: Path) -> Iterator[Watch]:
        """Put the test on a host of its own: a new network namespace, connected to an outside."""
        with lab() as made:
            self._lab = made
            yield Watch(folders=(place,), network=True)
        unmount_below(place)

    @pytest.fixture
    def bench(self, opened: Opened[NetworkDriver]) -> NetworkBench:
        """Return the driver in the lab."""
        assert self._lab is not None
        self._bench = NetworkBench(
            self._lab,
            opened,
            self.argument or _needed_argument(opened.driver),
            self.network_options,
            self.patience,
        )
        return self._bench

    def sweep(self, driver: NetworkDriver) -> None:  # noqa: ARG002 - the bench knows it
        """Detach and remove what the test made; the host's parameters must be as they were."""
        assert self._lab is not None
        settings = self._lab.first_settings
        try:
            if self._bench is not None:
                self._bench.sweep()
        finally:
            self._lab.close()
        assert self._lab.settings() == settings, "the host's kernel parameters stay changed"


def _needed_argument(driver: NetworkDriver) -> str:
    """Return an argument for a driver that cannot do without one."""
    try:
        driver.namespace("")
    except InvalidRequest:
        return "web"
    return ""
