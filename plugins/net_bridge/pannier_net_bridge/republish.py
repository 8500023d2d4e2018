"""Publishing the ports of an endpoint that is attached already, or withdrawing them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pannier.drivers.network import Attachment
from pannier.drivers.operations import Plan, Step
from pannier.errors import NotFound
from pannier.linux import rtnl
from pannier.linux.namespaces import in_network_namespace
from pannier.linux.netlink import ROUTE, NetlinkSocket
from pannier_net_bridge.batch import Batch
from pannier_net_bridge.ports import place
from pannier_net_bridge.publishing import EndpointPorts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.network import EndpointRequest
    from pannier_net_bridge.attach import AttachContext
    from pannier_net_bridge.leases import Lease
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = ["differs", "plan"]


def differs(
    network: BridgeNetwork, request: EndpointRequest, lease: Lease | None, netns: int | None
) -> bool:
    """Whether an endpoint is attached, and has ports that are not asked for, or lacks all."""
    if lease is None or netns is None:
        return False
    wanted = bool(request.ports) and not network.internal
    return wanted != bool(lease.ports) and _is_attached(lease, netns)


def _is_attached(lease: Lease, netns: int) -> bool:
    try:
        with in_network_namespace(netns):
            inside = NetlinkSocket(ROUTE)
    except OSError:
        return False
    with inside, NetlinkSocket(ROUTE) as outside:
        link = rtnl.find_link(inside, lease.interface)
        found = rtnl.find_link(outside, lease.link) if lease.link else None
    return found is not None and link is not None and link.mac == lease.mac


@dataclass(slots=True)
class _Republish:
    """A change of an endpoint's ports under way.

    :param lease: of the endpoint, as it was.
    """

    context: AttachContext
    network: BridgeNetwork
    lease: Lease
    ports: EndpointPorts
    changed: Lease | None = None

    def publish(self) -> None:
        self.context.ready()
        self.changed = replace(self.lease, ports=self.ports.bindings())
        self.context.write(self.changed, self.lease)
        self.context.publish(self.changed)

    def withdraw(self) -> None:
        self.context.withdraw(self.lease)
        self.changed = replace(self.lease, ports=())
        self.context.write(self.changed, self.lease)

    def revert(self) -> None:
        if self.changed is None:
            return
        self.context.withdraw(self.changed)
        with contextlib.suppress(NotFound):  # the endpoint has gone with its network
            if self.context.leases.get(self.lease.network, self.lease.container) != self.lease:
                self.context.write(self.lease, self.changed)
            if self.lease.ports:
                self.context.publish(self.lease)
        self.changed = None

    def publish_steps(self) -> Sequence[Step]:
        return self.ports.redirections(None, None)

    def withdraw_steps(self) -> Sequence[Step]:
        return [
            Step("delete element", place(port.host_ip, port.host_port), port.protocol)
            for port in self.lease.ports
        ]

    def result(self) -> Attachment:
        lease = self.changed or self.lease
        return Attachment(lease.endpoint(self.network), self.ports.detach())


def plan(
    context: AttachContext, network: BridgeNetwork, request: EndpointRequest, lease: Lease
) -> Plan[Attachment]:
    """Return the plan of giving an attached endpoint the ports asked for, or of taking all away."""
    ports = EndpointPorts(network, request, context.leases, context.loopback6)
    change = _Republish(context, network, lease, ports)
    if lease.ports:
        operations = [Batch(change.withdraw_steps, change.withdraw, change.revert)]
    else:
        operations = [
            Batch(ports.steps, ports.reserve, ports.release),
            Batch(change.publish_steps, change.publish, change.revert),
        ]
    return Plan("bridge", list(operations), change.result)
