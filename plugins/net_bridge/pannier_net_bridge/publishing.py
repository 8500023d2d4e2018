"""The ports of an endpoint that is being attached: which, reserved by what, and told in steps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pannier.drivers.operations import Step
from pannier_net_bridge.ports import HostAddresses, Reservation, collide, place, reserve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ipaddress import IPv4Address, IPv6Address

    from pannier.drivers.network import EndpointRequest, PortBinding, PortRequest
    from pannier_net_bridge.leases import LeaseBook
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = ["EndpointPorts"]


@dataclass(slots=True)
class EndpointPorts:
    """The ports that an endpoint publishes.

    :param loopback6: whether connections to ::1 can be redirected.
    """

    network: BridgeNetwork
    request: EndpointRequest
    leases: LeaseBook
    loopback6: Callable[[], bool]
    reservations: list[Reservation] = field(default_factory=list)

    def reserve(self) -> None:
        """Reserve all of them; :meth:`release` undoes it, whole or not."""
        name = self.request.container[:12]
        for port in self.request.ports:
            held = self._held(port)
            wish = replace(port, host_ports=(held[0].host_port,) * 2) if held else port
            self.reservations += reserve(wish, name, self._host(), self._is_published, held)

    def _held(self, wish: PortRequest) -> list[PortBinding]:
        """Return what the container's own sockets hold already of a port, on one host port."""
        first, last = wish.host_ports
        meant = self._host().meant(wish)
        found = [
            one
            for one in self.request.held
            if (one.container_port, one.protocol) == (wish.container_port, wish.protocol)
            and any(collide(replace(one, host_ip=address), one) for address in meant)
            and (not first or first <= one.host_port <= last)
            and not self._is_published(one)
        ]
        return [one for one in found if one.host_port == found[0].host_port]

    def release(self) -> None:
        """Let go of them. Idempotent."""
        while self.reservations:
            self.reservations.pop().close()

    def bindings(self) -> tuple[PortBinding, ...]:
        """Return what is reserved."""
        return tuple(one.binding for one in self.reservations)

    def detach(self) -> tuple[int, ...]:
        """Return the descriptors of the sockets, which are the caller's from now on."""
        return tuple(one.socket.detach() for one in self.reservations if one.socket is not None)

    def steps(self) -> Sequence[Step]:
        """Return the steps of reserving them, with what is known of them by now."""
        return [Step("reserve port", where, protocol) for where, protocol, _ in self._places()]

    def redirections(
        self, address: IPv4Address | None, address6: IPv6Address | None
    ) -> Sequence[Step]:
        """Return the steps of redirecting them to the endpoint's addresses."""
        steps = []
        for where, protocol, port in self._places():
            to = address6 if where.startswith("[") else address
            target = place(to, port) if to else f"the container:{port}"
            steps.append(Step("add element", where, f"{protocol} to {target}"))
        return steps

    def _places(self) -> list[tuple[str, str, int]]:
        """Return where each port is published, with its protocol and the container's port."""
        if self.reservations:
            return [
                (place(found.host_ip, found.host_port), found.protocol, found.container_port)
                for found in self.bindings()
            ]
        return [
            (place(address, _range(port.host_ports)), port.protocol, port.container_port)
            for port in self.request.ports
            for address in self._host().meant(port)
        ]

    def _host(self) -> HostAddresses:
        network = self.network
        six = network.six is not None
        return HostAddresses(network.spec.name, network.bind, six=six, loopback6=self.loopback6())

    def _is_published(self, binding: PortBinding) -> bool:
        return (
            any(collide(one, binding) for one in self.bindings())
            or self.leases.holder(binding) is not None
        )


def _range(ports: tuple[int, int]) -> str:
    first, last = ports
    if last == 0:
        return "(any free)"
    return str(first) if first == last else f"{first}-{last}"
