"""The steps of attaching a container: address, ports, veth pair, route, redirections."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Final, Protocol

from pannier.drivers.network import Attachment
from pannier.drivers.operations import Plan, Step
from pannier.errors import Conflict, DriverError
from pannier.linux import rtnl
from pannier.linux.carrier import settle_carrier
from pannier.linux.namespaces import in_network_namespace
from pannier.linux.neighbours import await_reachable
from pannier.linux.netlink import ROUTE, NetlinkError, NetlinkSocket, is_errno
from pannier_net_bridge.batch import Batch
from pannier_net_bridge.bridges import isolates_ports, turn_on_ipv6
from pannier_net_bridge.leases import Lease
from pannier_net_bridge.publishing import EndpointPorts
from pannier_net_bridge.reaper import LINK_GROUP, delete_links
from pannier_net_bridge.wishes import check_wishes, link_local

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ipaddress import IPv4Address, IPv6Address

    from pannier.drivers.network import EndpointRequest
    from pannier.drivers.operations import Operation
    from pannier.linux.netlink import Message
    from pannier_net_bridge.leases import LeaseBook
    from pannier_net_bridge.networks import BridgeNetwork
    from pannier_net_bridge.reaper import Reaper

__all__ = ["AttachContext", "plan"]

_LOOPBACK: Final = 1
"""The index of ``lo`` in every namespace."""


_IPV6: Final = 6
_UNKNOWN_LINK: Final = "vethXXXXXXX"


class WriteLease(Protocol):
    """Keeps a lease."""

    def __call__(self, lease: Lease, earlier: Lease | None = None) -> None:
        """Keep it in the place of *earlier*."""


@dataclass(frozen=True, slots=True)
class AttachContext:
    """What the driver lends to an attach.

    :param ready: has the network's bridge and rules in place; returns the bridge's index and MTU.
    :param write: keeps a lease, in the place of an earlier one where there is one.
    :param publish: redirects a lease's ports.
    :param discard: takes away what a lease of an earlier life holds.
    :param loopback6: whether connections to ::1 can be redirected.

    The first three raise NotFound where the network was removed meanwhile: its leases went with it.
    """

    leases: LeaseBook
    reaper: Reaper
    ready: Callable[[], tuple[int, int]]
    write: WriteLease
    publish: Callable[[Lease], None]
    withdraw: Callable[[Lease], None]
    discard: Callable[[Lease], None]
    loopback6: Callable[[], bool]


@dataclass(slots=True)
class _Attach:
    """An attach under way.

    :param kept: the lease of an endpoint that is attached already; nothing is to be done then.
    """

    context: AttachContext
    network: BridgeNetwork
    request: EndpointRequest
    netns: int | None
    kept: Lease | None = None
    lease: Lease | None = None
    address: IPv4Address | None = None
    address6: IPv6Address | None = None
    made: list[str] = field(default_factory=list)
    inside: NetlinkSocket | None = None
    ports: EndpointPorts = field(init=False)

    def __post_init__(self) -> None:
        self.ports = EndpointPorts(
            self.network, self.request, self.context.leases, self.context.loopback6
        )

    # Addresses.

    def lease_steps(self) -> Sequence[Step]:
        where = f"of {self.network.subnet}"
        address: object = self.address or self.request.address
        if address is None:
            address, where = self.context.leases.peek(self.network), f"{where} (the next free one)"
        return (Step("lease address", str(address), where),)

    def take_address(self) -> None:
        leases = self.context.leases
        earlier = leases.get(self.network.spec.id, self.request.container)
        if earlier is not None:
            if self._is_attached(earlier):
                self.kept = earlier
                return
            self.context.discard(earlier)
        wish = self.request.address
        self.address = leases.reserve(self.network, self.request.container, wish)
        try:
            self.address6 = leases.reserve6(
                self.network, self.request.container, self.address, self.request.address6
            )
        except BaseException:
            self.give_address_back()
            raise

    def give_address_back(self) -> None:
        if self.address is not None:
            network = self.network.spec.id
            self.context.leases.release(network, self.request.container, self.address)
            self.address = self.address6 = self.lease = None
        self.leave()

    def _is_attached(self, lease: Lease) -> bool:
        """Whether the container's namespace still has the interface of this lease."""
        with NetlinkSocket(ROUTE) as netlink:
            if rtnl.find_link(netlink, lease.link) is None:
                return False
        link = rtnl.find_link(self._inside(), lease.interface)
        return link is not None and link.mac == lease.mac

    def _inside(self) -> NetlinkSocket:
        """Return a socket of the container's namespace."""
        if self.inside is None:
            assert self.netns is not None, "a plan without a namespace is for describing only"
            try:
                with in_network_namespace(self.netns):
                    self.inside = NetlinkSocket(ROUTE)
            except OSError as error:
                raise DriverError(
                    f"could not enter the network namespace of the container "
                    f"{self.request.container[:12]}: {error.strerror}",
                    hint="start the container again",
                ) from error
        return self.inside

    def leave(self) -> None:
        if self.inside is not None:
            self.inside.close()
            self.inside = None

    # Ports.

    @property
    def wanted_ports(self) -> bool:
        return bool(self.request.ports) and not self.network.internal

    def reserve_ports(self) -> None:
        if self.kept is None:
            self.ports.reserve()

    # Links.

    def link_steps(self) -> Sequence[Step]:
        link = self.lease.link if self.lease else _UNKNOWN_LINK
        peer = self.lease.interface if self.lease else self.request.interface or self._first_name
        options = "hairpin on, isolated" if self._isolated else "hairpin on"
        return (
            Step("create link", link, f"veth, with its peer {peer} in the container's namespace"),
            Step("attach link", link, f"to the bridge {self.network.bridge}, {options}"),
        )

    @property
    def _first_name(self) -> str:
        return f"{self.network.prefix}0"

    @property
    def _isolated(self) -> bool:
        return not self.network.icc and isolates_ports()

    def create_link(self) -> None:
        if self.kept is not None:
            return
        assert self.address is not None
        index, mtu = self.context.ready()
        lease = Lease(
            container=self.request.container,
            network=self.network.spec.id,
            address=str(self.address),
            mac=self.request.mac or _mac(self.address),
            link=f"veth{secrets.token_hex(4)[:7]}",
            interface=self.request.interface or self._free_name(),
            ports=self.ports.bindings(),
            address6=str(self.address6 or ""),
        )
        # Written before the link is made: whoever finds it after a crash knows what to take away.
        self.context.write(lease)
        self.lease = lease
        assert self.netns is not None
        with NetlinkSocket(ROUTE) as netlink:
            veth = rtnl.create_veth(
                lease.link,
                lease.interface,
                peer_netns=self.netns,
                peer_mac=lease.mac,
                mtu=mtu,
                master=index,
                group=LINK_GROUP,
            )
            self.made.append(lease.link)
            try:
                netlink.request([veth])
                rtnl.disable_ipv6_address(netlink, lease.link)
                netlink.request(
                    [
                        rtnl.set_bridge_port(lease.link, hairpin=True, isolated=self._isolated),
                    ]
                )
            except NetlinkError as error:
                raise self._failed(error, lease) from error

    def _free_name(self) -> str:
        """Return the first ``ethN`` that the namespace does not have."""
        if rtnl.find_link(self._inside(), self._first_name) is None:
            return self._first_name
        names = {link.name for link in rtnl.links(self._inside())}
        if not self.context.reaper.idle():
            # One of them may be on its way out.
            self.context.reaper.flush()
            names = {link.name for link in rtnl.links(self._inside())}
        prefix = self.network.prefix
        return next(
            name for number in range(len(names) + 1) if (name := f"{prefix}{number}") not in names
        )

    def _failed(self, error: OSError, lease: Lease) -> Conflict | DriverError:
        if is_errno(error, "EEXIST"):
            return Conflict(
                f"network {self.network.spec.name}: the container has an interface "
                f"{lease.interface} already",
                hint="let the engine choose the interface's name",
            )
        return DriverError(
            f"network {self.network.spec.name}: could not connect the container "
            f"{lease.container[:12]}: {error.strerror}",
            hint="run `pannier doctor`",
        )

    def delete_link(self) -> None:
        if self.made:
            with NetlinkSocket(ROUTE) as netlink:
                delete_links(netlink, self.made)
            self.made.clear()
        self.leave()

    def address_steps(self) -> Sequence[Step]:
        link = self.lease.interface if self.lease else self.request.interface or self._first_name
        (lease,) = self.lease_steps()
        steps = [
            Step("set link up", "lo", "in the container's namespace"),
            Step("add address", f"{lease.subject}/{self.network.subnet.prefixlen}", f"to {link}"),
            Step("set link up", link),
        ]
        if self._routed:
            steps.append(Step("add route", "default", f"via {self.network.gateway}"))
        six = self.network.six
        if six is not None:
            address6 = self.address6 or self.request.address6 or "address"
            steps.append(Step("add address", f"{address6}/{six.subnet.prefixlen}", f"to {link}"))
            if self._routed:
                steps.append(Step("add route", "default", f"via {six.gateway}"))
        steps += [Step("add address", str(one), f"to {link}") for one in link_local(self.request)]
        return steps

    @property
    def _routed(self) -> bool:
        return self.request.default_route and not self.network.internal

    def configure(self) -> None:
        if self.kept is not None:
            self.leave()
            return
        assert self.lease is not None
        netlink = self._inside()
        try:
            link = rtnl.find_link(netlink, self.lease.interface)
            if link is None:
                raise DriverError(
                    f"network {self.network.spec.name}: the interface {self.lease.interface} has "
                    f"gone while it was configured",
                    hint="start the container again",
                )
            rtnl.disable_ipv6_address(netlink, link.name)
            address = IPv4Interface((self.lease.address, self.network.subnet.prefixlen))
            messages = [
                rtnl.set_up(_LOOPBACK),
                rtnl.add_address(link.index, address),
                rtnl.set_up(link.index),
            ]
            if self._routed:
                messages.append(rtnl.add_route(link.index, self.network.gateway))
            messages += self._six_messages(link)
            netlink.request([*messages, *self._link_local_messages(link)])
            if self.address6 is not None:
                assert self.netns is not None
                with in_network_namespace(self.netns):
                    await_reachable(self.address6)
            self._settle(netlink)
        except NetlinkError as error:
            raise self._failed(error, self.lease) from error
        finally:
            self.leave()

    def _six_messages(self, link: rtnl.Link) -> list[Message]:
        """Return what gives the interface its IPv6 address and route."""
        six = self.network.six
        if six is None or self.address6 is None:
            return []
        assert self.netns is not None
        with in_network_namespace(self.netns):
            turn_on_ipv6(link.name)
        address = IPv6Interface((self.address6, six.subnet.prefixlen))
        messages = [rtnl.add_address(link.index, address)]
        if self._routed:
            messages.append(rtnl.add_route(link.index, six.gateway))
        return messages

    def _link_local_messages(self, link: rtnl.Link) -> list[Message]:
        """Return what gives the interface the link-local addresses that are asked for."""
        found = link_local(self.request)
        if any(one.version == _IPV6 for one in found):
            assert self.netns is not None
            with in_network_namespace(self.netns):
                turn_on_ipv6(link.name)
        return [rtnl.add_address(link.index, one) for one in found]

    def _settle(self, netlink: NetlinkSocket) -> None:
        """Have packets pass from now on, inside out: the bridge's carrier is that of its ports."""
        assert self.lease is not None
        with contextlib.suppress(OSError):
            settle_carrier(netlink, self.lease.interface)
            with NetlinkSocket(ROUTE) as outside:
                settle_carrier(outside, self.lease.link)
                settle_carrier(outside, self.network.bridge)

    # Redirections.

    def publish_steps(self) -> Sequence[Step]:
        return self.ports.redirections(self.address, self.address6)

    def publish(self) -> None:
        if self.lease is not None:
            self.context.publish(self.lease)

    def withdraw(self) -> None:
        if self.lease is not None:
            self.context.withdraw(self.lease)

    def result(self) -> Attachment:
        lease = self.kept or self.lease
        assert lease is not None
        return Attachment(lease.endpoint(self.network), self.ports.detach())


def plan(
    context: AttachContext, network: BridgeNetwork, request: EndpointRequest, netns: int | None
) -> Plan[Attachment]:
    """Return the plan of an attach; nothing is held before it is executed."""
    check_wishes(request)
    attach = _Attach(context, network, request, netns)
    operations: list[Operation] = [
        Batch(attach.lease_steps, attach.take_address, attach.give_address_back)
    ]
    if attach.wanted_ports:
        operations.append(Batch(attach.ports.steps, attach.reserve_ports, attach.ports.release))
    operations.append(Batch(attach.link_steps, attach.create_link, attach.delete_link))
    operations.append(Batch(attach.address_steps, attach.configure, attach.leave))
    if attach.wanted_ports:
        operations.append(Batch(attach.publish_steps, attach.publish, attach.withdraw))
    return Plan("bridge", operations, attach.result)


def _mac(address: IPv4Address) -> str:
    """Return the MAC address that belongs to an address.

    So a neighbour that still remembers an address's last owner finds its new one.
    """
    return (bytes((0x02, 0x42)) + address.packed).hex(":")
