"""The driver on a host of its own, and what the engine and the runtime do with it."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from pannier.drivers.base import DriverContext
from pannier.drivers.network import Endpoint, EndpointRequest, NetworkSpec, Subnet
from pannier.drivers.operations import Transaction

from lab import PARENT, Lab, lab
from pannier_net_macvlan.config import MacvlanConfig
from pannier_net_macvlan.driver import MacvlanDriver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pannier.drivers.network import Attachment
    from pannier.drivers.operations import Plan


@dataclass
class Guest:
    """A container with an endpoint."""

    request: EndpointRequest
    netns: int
    endpoint: Endpoint

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return self.endpoint.address


@dataclass
class Rig:
    """An open driver; its networks and containers are removed after the test."""

    lab: Lab
    context: DriverContext
    driver: MacvlanDriver
    networks: list[NetworkSpec] = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)

    def network(self, *subnets: str | Subnet, **more: Any) -> NetworkSpec:
        """Create a network; on the parent, unless *options* say otherwise."""
        more.setdefault("options", {"parent": PARENT})
        given = tuple(Subnet(one) if isinstance(one, str) else one for one in subnets)
        id = secrets.token_hex(32)
        spec = self.driver.create_network(NetworkSpec(id, id[:6], subnets=given, **more))
        self.networks.append(spec)
        return spec

    def plan(self, network: NetworkSpec, netns: int, **wishes: Any) -> Plan[Attachment]:
        """Plan to attach a new container."""
        return self.driver.plan_attach(
            EndpointRequest(secrets.token_hex(32), network, **wishes), netns
        )

    def attach(self, network: NetworkSpec, netns: int = -1, **wishes: Any) -> Guest:
        """Start a container on a network."""
        netns = self.lab.namespace() if netns < 0 else netns
        request = EndpointRequest(secrets.token_hex(32), network, **wishes)
        attachment = Transaction().run(self.driver.plan_attach(request, netns))
        self.guests.append(Guest(request, netns, attachment.endpoint))
        return self.guests[-1]

    def detach(self, guest: Guest) -> None:
        """End a container's endpoint."""
        self.driver.detach(guest.request, guest.netns)
        self.guests.remove(guest)

    def kill(self, guest: Guest) -> None:
        """End a container, whose link the kernel deletes later; then its endpoint."""
        os.close(guest.netns)
        self.driver.detach(guest.request, None)
        self.guests.remove(guest)

    def restart(self, listed: list[Guest] | None = None) -> None:
        """Open the driver anew, as an engine does that knows these containers to run."""
        self.driver.close()
        self.driver = MacvlanDriver(self.context, MacvlanConfig())
        for network in self.networks:
            self.driver.create_network(network)
        running = self.guests if listed is None else listed
        self.driver.reconcile([(one.request, one.endpoint) for one in running])

    def close(self) -> None:
        """Detach every container and remove every network."""
        for guest in self.guests:
            self.driver.detach(guest.request, guest.netns)
        for network in self.networks:
            self.driver.remove_network(network)
        self.driver.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Give an open driver on a host of its own, which must be as before afterwards."""
    context = DriverContext(tmp_path / "root", tmp_path / "state")
    for folder in (context.root, context.state):
        folder.mkdir()
    with lab() as host, contextlib.ExitStack() as stack:
        made = Rig(host, context, MacvlanDriver(context, MacvlanConfig()))
        stack.callback(made.close)
        yield made
        stack.close()
        assert {name for name in host.links() if name.startswith(("dm-", "dp-"))} == set()
