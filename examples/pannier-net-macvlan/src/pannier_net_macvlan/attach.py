"""The steps of attaching a container: its address, its link, and what the link is given."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, Final

from pannier.drivers.network import Attachment, Endpoint
from pannier.drivers.operations import Action, Plan, Step
from pannier.errors import Conflict, DriverError
from pannier.linux import rtnl
from pannier.linux.carrier import settle_carrier
from pannier.linux.namespaces import in_network_namespace
from pannier.linux.neighbours import await_reachable
from pannier.linux.netlink import ROUTE, NetlinkError, NetlinkSocket, is_errno
from pannier.linux.sysctl import write_sysctl

from pannier_net_macvlan.links import (
    create_macvlan,
    delete_macvlan,
    find_macvlan,
    find_parent,
    inside,
    refusal,
    set_mac,
)
from pannier_net_macvlan.options import Mode
from pannier_net_macvlan.wishes import check_wishes, link_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pannier.drivers.network import EndpointRequest

    from pannier_net_macvlan.addresses import Allocator
    from pannier_net_macvlan.leases import Book, Lease
    from pannier_net_macvlan.networks import MacvlanNetwork

__all__ = ["AttachContext", "endpoint_of", "plan"]

_LOOPBACK: Final = 1
"""The index of ``lo``, in every namespace."""

_PATIENCE: Final = 5.0
"""Seconds that a link of a container which has ended may take to go with its namespace."""
_PAUSE: Final = 0.005


@dataclass(frozen=True, slots=True)
class AttachContext:
    """What the driver lends to an attach.

    :param rival: returns the lease of another endpoint that has a MAC address on a parent.
    """

    driver: str
    book: Book
    allocator: Allocator
    rival: Callable[[str, Lease], Lease | None]


def endpoint_of(network: MacvlanNetwork, lease: Lease) -> Endpoint:
    """Return an endpoint in the contract's words."""
    pool, pool6 = network.pool_of(lease.address), network.pool_of(lease.address6)
    return Endpoint(
        network=lease.network,
        interface=lease.interface,
        address=lease.address,
        prefix=pool.subnet.prefixlen if pool else 0,
        gateway=str(network.gateway(lease.address) or ""),
        address6=lease.address6,
        prefix6=pool6.subnet.prefixlen if pool6 else 0,
        gateway6=str(network.gateway(lease.address6) or ""),
        mac=lease.mac,
    )


def plan(
    context: AttachContext, network: MacvlanNetwork, request: EndpointRequest, netns: int | None
) -> Plan[Attachment]:
    """Return the plan of an attach; nothing is held before it is executed."""
    check_wishes(network, request)
    attach = _Attach(context, network, request, netns)
    name = request.interface or "eth0"
    subnets = ", ".join(str(pool.subnet) for pool in network.pools)
    wish = request.address or "the next free address"
    mode = network.options.mode.name.lower()
    lease = Action(Step("lease address", wish, f"of {subnets}"), attach.lease, attach.release)
    link = Action(
        Step("create link", name, f"macvlan on {network.parent}, mode {mode}"),
        attach.create,
        attach.delete,
    )
    addresses = Action(Step("add address", wish, f"to {name}"), attach.give_addresses)
    up = Action(Step("set link up", name, "and lo, in the container's namespace"), attach.set_up)
    operations = [lease, link, addresses, up]
    gateways = [str(pool.gateway) for pool in network.pools]
    if request.default_route and not network.private:
        step = Step("add route", "default", f"via {', '.join(gateways)}")
        operations.append(Action(step, attach.add_routes))
    return Plan(context.driver, [*operations], attach.result)


@dataclass(slots=True)
class _Attach:
    """An attach under way.

    :param held: the endpoint's lease.
    :param kept: whether it was attached before: then nothing is done, and nothing undone.
    :param made: whether the link was made.
    """

    context: AttachContext
    network: MacvlanNetwork
    request: EndpointRequest
    netns: int | None
    held: Lease | None = None
    kept: bool = False
    made: bool = False

    @property
    def _descriptor(self) -> int:
        assert self.netns is not None, "a plan without a namespace is for describing only"
        return self.netns

    @property
    def _lease(self) -> Lease:
        assert self.held is not None, "the lease is the first operation"
        return self.held

    # The address.

    def lease(self) -> None:
        earlier = self.context.book.lease(self.network.spec.id, self.request.container)
        with inside(self._descriptor) as netlink:
            if earlier is not None:
                if _is_attached(netlink, earlier):
                    self.held, self.kept = earlier, True
                    return
                delete_macvlan(netlink, earlier)
                self.context.book.release(earlier)
        inode = os.fstat(self._descriptor).st_ino
        self.held = self.context.allocator.take(self.network, self.request, inode)

    def release(self) -> None:
        if self.held is not None and not self.kept:
            self.context.book.release(self.held)

    # The link.

    def create(self) -> None:
        if self.kept:
            return
        with inside(self._descriptor) as there, NetlinkSocket(ROUTE) as here:
            parent = self._parent(here)
            passthru = self.network.options.mode is Mode.PASSTHRU
            mac = self.request.mac.lower() if self.request.mac else self._own_mac(parent)
            name = self.request.interface or _free_name(there)
            # Written before the link is made: whoever finds it after a kill knows whose it is.
            lease = replace(self._lease, interface=name, mac=parent.mac if passthru else mac)
            if not passthru:
                self._check_mac(lease, parent)
            self._put(lease)
            try:
                self._make(here, lease, parent)
                self.made = True
                self._put(replace(lease, index=self._link(there).index))
                if mac != lease.mac:
                    # Such a link passes it on to the parent, which has its own again afterwards.
                    there.request([set_mac(name, mac)])
                    self._put(replace(self._lease, mac=mac))
            except NetlinkError as error:
                raise self._refused(error, lease) from error

    def _parent(self, netlink: NetlinkSocket) -> rtnl.Link:
        parent = find_parent(self.network, netlink)
        if not parent.up:  # the kernel would make the link all the same, and pass no packet
            raise DriverError(
                f"network {self.network.spec.name}: the parent {parent.name} is down",
                hint=f"bring it up: ip link set {parent.name} up",
            )
        return parent

    def _own_mac(self, parent: rtnl.Link) -> str:
        """Return the MAC address that belongs to the IPv4 address.

        So a machine of the network that still remembers an address's last owner finds its new one.
        """
        if self.network.options.mode is Mode.PASSTHRU:
            return parent.mac
        return (b"\x02\x42" + IPv4Interface(self._lease.address).ip.packed).hex(":")

    def _make(self, here: NetlinkSocket, lease: Lease, parent: rtnl.Link) -> None:
        mode = self.network.options.mode
        message = create_macvlan(
            lease.interface,
            parent=parent.index,
            netns=self._descriptor,
            mode=mode,
            mac=lease.mac,
            mtu=self.network.options.mtu,
        )
        if mode is Mode.PASSTHRU and not self._others():
            # The kernel's word for a parent that has another link.
            _until_gone("EINVAL", lambda: here.request([message]))
        else:
            here.request([message])

    def _others(self) -> bool:
        leases = self.context.book.leases(self.network.spec.id)
        return any(one.key != self._lease.key for one in leases)

    def _put(self, lease: Lease) -> None:
        self.context.book.put_lease(lease)
        self.held = lease

    def _check_mac(self, lease: Lease, parent: rtnl.Link) -> None:
        rival = self.context.rival(parent.name, lease)
        if rival is not None or lease.mac == parent.mac:
            owner = f"the container {rival.container[:12]}" if rival else "the parent itself"
            raise Conflict(
                f"network {self.network.spec.name}: {owner} has the MAC address {lease.mac} on "
                f"{parent.name}",
                hint="leave --mac-address out, or choose another one",
            )

    def _refused(self, error: NetlinkError, lease: Lease) -> Exception:
        if is_errno(error, "EEXIST"):
            return Conflict(
                f"network {self.network.spec.name}: the container has an interface "
                f"{lease.interface} already",
                hint="let the engine choose the interface's name",
            )
        return refusal(error, self.network)

    def delete(self) -> None:
        if self.held is not None and self.made:
            with contextlib.suppress(DriverError), inside(self._descriptor) as netlink:
                delete_macvlan(netlink, self.held)

    # What the link is given.

    def give_addresses(self) -> None:
        with self._configuring() as netlink:
            if netlink is None:
                return
            link = self._link(netlink)
            extra = link_local(self.request)
            six = bool(self._lease.address6) or any(one.version == 6 for one in extra)
            with in_network_namespace(self._descriptor):
                _set_parameters(link.name, six=six)
            given = [rtnl.add_address(link.index, one) for one in [*self._interfaces(), *extra]]
            netlink.request(given)

    def _interfaces(self) -> Iterator[IPv4Interface | IPv6Interface]:
        for address, kind in (
            (self._lease.address, IPv4Interface),
            (self._lease.address6, IPv6Interface),
        ):
            pool = self.network.pool_of(address)
            if pool is not None:
                yield kind(f"{address}/{pool.subnet.prefixlen}")

    def set_up(self) -> None:
        with self._configuring() as netlink:
            if netlink is None:
                return
            link = self._link(netlink)
            netlink.request([rtnl.set_up(_LOOPBACK)])
            self._bring_up(netlink, link)
            # So that the first packet arrives: the kernel does both of these in its own time.
            with contextlib.suppress(OSError):
                settle_carrier(netlink, link.name)
            if self._lease.address6:
                with in_network_namespace(self._descriptor):
                    await_reachable(IPv6Address(self._lease.address6))

    def _bring_up(self, netlink: NetlinkSocket, link: rtnl.Link) -> None:
        try:
            _until_gone("EADDRINUSE", lambda: netlink.request([rtnl.set_up(link.index)]))
        except NetlinkError as error:
            if not is_errno(error, "EADDRINUSE"):
                raise
            raise Conflict(
                f"network {self.network.spec.name}: another link on {self.network.parent} has the "
                f"MAC address {link.mac}",
                hint="end what is still in the network namespace of a container that has ended, or "
                "choose another --ip or --mac-address",
            ) from error

    def add_routes(self) -> None:
        with self._configuring() as netlink:
            if netlink is None:
                return
            link = self._link(netlink)
            ways = map(self.network.gateway, (self._lease.address, self._lease.address6))
            netlink.request([rtnl.add_route(link.index, one) for one in ways if one is not None])

    @contextlib.contextmanager
    def _configuring(self) -> Iterator[NetlinkSocket | None]:
        """Give a socket of the namespace, or None where there is nothing to do."""
        if self.kept:
            yield None
            return
        with inside(self._descriptor) as netlink:
            try:
                yield netlink
            except OSError as error:
                raise DriverError(
                    f"network {self.network.spec.name}: could not configure the container's "
                    f"interface {self._lease.interface}: {error.strerror}",
                    hint="start the container again",
                ) from error

    def _link(self, netlink: NetlinkSocket) -> rtnl.Link:
        link = rtnl.find_link(netlink, self._lease.interface)
        if link is None:
            raise DriverError(
                f"network {self.network.spec.name}: the interface {self._lease.interface} has gone "
                f"while it was configured",
                hint="start the container again",
            )
        return link

    def result(self) -> Attachment:
        return Attachment(endpoint_of(self.network, self._lease))


def _until_gone(refusal: str, do: Callable[[], object]) -> None:
    """Do something for which the link of a container that has ended must have gone.

    The kernel deletes it together with the namespace, a while after the last process; and says so
    to nobody outside of it.

    :param refusal: the kernel's error as long as the link is there.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            do()
        except NetlinkError as error:
            if not is_errno(error, refusal) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _is_attached(netlink: NetlinkSocket, lease: Lease) -> bool:
    """Whether a namespace has a lease's link, as it was made."""
    link = find_macvlan(netlink, lease)
    return link is not None and (link.name, link.mac) == (lease.interface, lease.mac)


def _free_name(netlink: NetlinkSocket) -> str:
    """Return the first ``ethN`` that a namespace does not have."""
    names = {link.name for link in rtnl.links(netlink)}
    return next(name for n in range(len(names) + 1) if (name := f"eth{n}") not in names)


def _set_parameters(name: str, *, six: bool) -> None:
    """Set an interface's kernel parameters, in the namespace of the calling thread.

    It is on a network of strangers. Their router advertisements give it neither addresses nor a way
    out, since the network's specification says which it has; and that an address has another owner
    from now on, it tells them by itself (gratuitous ARP).
    """
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        write_sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
        write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0" if six else "1")
        write_sysctl(f"net/ipv6/conf/{name}/ndisc_notify", "1")
    write_sysctl(f"net/ipv4/conf/{name}/arp_notify", "1")
