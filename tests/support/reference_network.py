"""A network driver to test the kit with: macvlan links on a link of the host, plainly written.

Quite another mechanism than bridges: the host has no part in the networks, and their gateway is a
machine outside. Not for use: one file has all of the state, and nothing is mended.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Interface, IPv4Network, ip_address
from typing import TYPE_CHECKING, Any, ClassVar

from pannier.drivers.base import DriverContext, NoConfig
from pannier.drivers.network import (
    Attachment,
    Endpoint,
    EndpointRequest,
    Namespace,
    NetworkCapability,
    NetworkDriver,
    NetworkSpec,
    Subnet,
)
from pannier.drivers.operations import Action, Plan, Step
from pannier.errors import (
    Conflict,
    DriverError,
    DriverUnavailable,
    InvalidRequest,
    NotFound,
    UnsupportedOperation,
)
from pannier.linux import rtnl
from pannier.linux.namespaces import in_network_namespace
from pannier.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    ROUTE,
    Message,
    NetlinkError,
    NetlinkSocket,
    attribute,
    nested,
    text,
    u32,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet

__all__ = ["ReferenceNetwork"]

_LOOPBACK = 1
_NEWLINK = 16
_BRIDGE_MODE = 4


def _macvlan(name: str, mac: str, parent: int, netns: int | None = None) -> Message:
    """Create a macvlan link of *parent*, in another namespace (linux/if_link.h)."""
    payload = (
        bytes(16)
        + text(3, name)
        + attribute(1, bytes.fromhex(mac.replace(":", "")))
        + u32(5, parent)
        + (b"" if netns is None else u32(28, netns))
        + nested(18, text(1, "macvlan"), nested(2, u32(1, _BRIDGE_MODE)))
    )
    return Message(_NEWLINK, payload, NLM_F_CREATE | NLM_F_EXCL)


@dataclass
class _Attach:
    """An attach under way; *fresh* is whether there was no endpoint yet."""

    driver: ReferenceNetwork
    request: EndpointRequest
    netns: int | None
    endpoint: Endpoint | None = None
    fresh: bool = True

    def lease(self) -> None:
        kept = self.driver.leases.get(self.driver.key(self.request))
        if kept is not None:
            with self.inside() as inside:
                self.fresh = self.driver.link_of(kept, inside) is None
        if kept is not None and not self.fresh:
            self.endpoint = kept
            return
        self.endpoint = self.driver.take(self.request)

    def release(self) -> None:
        if self.fresh:
            self.driver.drop(self.request)

    def inside(self) -> NetlinkSocket:
        assert self.netns is not None
        try:
            with in_network_namespace(self.netns):
                return NetlinkSocket(ROUTE)
        except OSError as error:
            raise DriverError(f"no network namespace: {error.strerror}") from error

    def connect(self) -> None:
        if not self.fresh:
            return
        assert self.endpoint is not None
        assert self.netns is not None
        with self.inside() as inside, NetlinkSocket(ROUTE) as netlink:
            names = {link.name for link in rtnl.links(inside)}
            free = (f"eth{n}" for n in range(len(names) + 1) if f"eth{n}" not in names)
            self.endpoint = replace(self.endpoint, interface=self.request.interface or next(free))
            parent = socket.if_nametoindex(self.driver.parent(self.request.network))
            try:
                netlink.request(
                    [_macvlan(self.endpoint.interface, self.endpoint.mac, parent, self.netns)]
                )
                self.configure(inside, self.endpoint)
            except NetlinkError as error:
                raise DriverError(f"the link cannot be made: {error.strerror}") from error
        self.driver.put(self.request, self.endpoint)

    def configure(self, inside: NetlinkSocket, endpoint: Endpoint) -> None:
        rtnl.disable_ipv6_address(inside, endpoint.interface)
        link = self.driver.link_of(endpoint, inside)
        assert link is not None
        address = IPv4Interface((endpoint.address, endpoint.prefix))
        inside.request(
            [rtnl.set_up(_LOOPBACK), rtnl.add_address(link.index, address), rtnl.set_up(link.index)]
        )
        if self.request.default_route and not self.request.network.internal:
            inside.request([rtnl.add_route(link.index, ip_address(endpoint.gateway))])

    def disconnect(self) -> None:
        if self.fresh and self.endpoint is not None:
            self.driver.unlink(self.endpoint, self.netns)

    def result(self) -> Attachment:
        assert self.endpoint is not None
        return Attachment(self.endpoint)


class ReferenceNetwork(NetworkDriver):
    """Containers on the host's own segment: the option ``parent`` names the link."""

    id: ClassVar[str] = "reference"
    capabilities: ClassVar[AbstractSet[NetworkCapability]] = frozenset(
        {NetworkCapability.USER_DEFINED, NetworkCapability.ADDRESSES, NetworkCapability.LIVE}
    )

    @classmethod
    def probe(cls, context: DriverContext, config: Any) -> None:
        """Ask for a macvlan link of the loopback, which a kernel that has macvlan refuses too."""
        del context, config
        with NetlinkSocket(ROUTE) as netlink:
            try:
                netlink.request([_macvlan("probe", "02:00:00:00:00:01", _LOOPBACK)])
            except NetlinkError as error:
                if "Unknown device type" in str(error):
                    raise DriverUnavailable("no macvlan", hint="modprobe macvlan") from error

    def __init__(self, context: DriverContext, config: Any = NoConfig) -> None:
        del config
        self._file = context.root / "state.json"
        self._lock = threading.RLock()
        self.networks: dict[str, NetworkSpec] = {}
        self.leases: dict[str, Endpoint] = {}
        if self._file.exists():
            kept = json.loads(self._file.read_text())
            for spec in kept["networks"]:
                subnets = tuple(
                    Subnet(**{**one, "reserved": tuple(one["reserved"])})
                    for one in spec.pop("subnets")
                )
                self.networks[spec["id"]] = NetworkSpec(**spec, subnets=subnets)
            self.leases = {
                key: Endpoint(**{**one, "ports": ()}) for key, one in kept["leases"].items()
            }

    # State.

    def key(self, request: EndpointRequest) -> str:
        """Return what a lease is kept under."""
        return f"{request.network.id}/{request.container}"

    def _change(self, change: Callable[[], object]) -> None:
        with self._lock:
            change()
            if not self.networks and not self.leases:
                self._file.unlink(missing_ok=True)
                return
            staged = self._file.with_suffix(".new")
            text = {
                "networks": [asdict(spec) for spec in self.networks.values()],
                "leases": {key: asdict(lease) for key, lease in self.leases.items()},
            }
            staged.write_text(json.dumps(text))
            staged.rename(self._file)

    def put(self, request: EndpointRequest, endpoint: Endpoint) -> None:
        """Keep a lease."""
        self._change(lambda: self.leases.update({self.key(request): endpoint}))

    def drop(self, request: EndpointRequest) -> None:
        """Forget a lease. Idempotent."""
        self._change(lambda: self.leases.pop(self.key(request), None))

    def parent(self, network: NetworkSpec) -> str:
        """Return the link of the host that a network is on."""
        return network.options["parent"]

    # Networks.

    def namespace(self, argument: str) -> Namespace:
        if argument:
            raise InvalidRequest(f"{self.id} takes no argument")
        return Namespace("new")

    def create_network(self, network: NetworkSpec) -> NetworkSpec:
        if network.id == self.id or network.ipv6:
            raise UnsupportedOperation(
                "only IPv4 networks of users are offered", hint="create a network, without --ipv6"
            )
        with self._lock:
            if network.id in self.networks:
                return self.networks[network.id]
            taken = [IPv4Network(one.subnets[0].subnet) for one in self.networks.values()]
            pool = IPv4Network("10.220.0.0/16").subnets(new_prefix=24)
            free = (one for one in pool if not any(one.overlaps(other) for other in taken))
            chosen = network.subnets[0] if network.subnets else Subnet(str(next(free)))
            subnet = IPv4Network(chosen.subnet)
            if any(subnet.overlaps(other) for other in taken):
                raise Conflict(f"{subnet} overlaps with another network")
            chosen = replace(chosen, gateway=chosen.gateway or str(subnet[1]))
            made = replace(network, subnets=(chosen,), options=dict(network.options))
            self._change(lambda: self.networks.update({made.id: made}))
            return made

    def remove_network(self, network: NetworkSpec) -> None:
        def forget() -> None:
            self.networks.pop(network.id, None)
            for key in [key for key in self.leases if key.startswith(f"{network.id}/")]:
                del self.leases[key]

        self._change(forget)

    # Endpoints.

    def take(self, request: EndpointRequest) -> Endpoint:
        """Lease the address asked for, or the next free one."""
        subnet = self.networks[request.network.id].subnets[0]
        network = IPv4Network(subnet.subnet)
        with self._lock:
            taken = {
                one.address for one in self.leases.values() if one.network == request.network.id
            }
            barred = {subnet.gateway, *subnet.reserved, str(network[0]), str(network[-1])}
            if request.address is not None:
                try:
                    possible = ip_address(request.address) in network
                except ValueError:
                    possible = False
                if not possible or request.address in barred:
                    raise InvalidRequest(f"{request.address} is no address for a container")
                if request.address in taken:
                    raise Conflict(f"{request.address} is in use")
            pool = map(str, IPv4Network(subnet.ip_range or subnet.subnet))
            free = (one for one in pool if one not in barred | taken)
            address = request.address or next(free, None)
            if address is None:
                raise Conflict("no address is left")
            # Not made from the address: the link of a namespace that has gone keeps its own for a
            # while, and one parent has each only once.
            mac = request.mac or (b"\x02\x42" + secrets.token_bytes(4)).hex(":")
            endpoint = Endpoint(
                request.network.id,
                address=address,
                prefix=network.prefixlen,
                gateway=subnet.gateway or "",
                mac=mac,
            )
            self.put(request, endpoint)
            return endpoint

    def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
        if request.network.id not in self.networks:
            raise NotFound(f"there is no network {request.network.name}")
        if request.ports or request.address6:
            raise UnsupportedOperation("no ports and no IPv6", hint="leave -p and --ip6 out")
        attach = _Attach(self, request, netns)
        address = request.address or "the next free address"
        return Plan(
            self.id,
            [
                Action(Step("lease", address), attach.lease, attach.release),
                Action(
                    Step("create link", request.interface or "eth0", "macvlan"),
                    attach.connect,
                    attach.disconnect,
                ),
            ],
            attach.result,
        )

    def link_of(self, endpoint: Endpoint, inside: NetlinkSocket) -> rtnl.Link | None:
        """Return an endpoint's link, where the namespace has it."""
        link = rtnl.find_link(inside, endpoint.interface) if endpoint.interface else None
        return link if link is not None and link.mac == endpoint.mac else None

    def unlink(self, endpoint: Endpoint, netns: int | None) -> None:
        """Delete an endpoint's link; one whose namespace has gone went with it."""
        if netns is None:
            return
        with in_network_namespace(netns):
            inside = NetlinkSocket(ROUTE)
        with inside:
            if self.link_of(endpoint, inside) is not None:
                inside.request([rtnl.delete_link(endpoint.interface)])

    def detach(self, request: EndpointRequest, netns: int | None) -> None:
        endpoint = self.leases.get(self.key(request))
        if endpoint is not None:
            self.unlink(endpoint, netns)
            self.drop(request)

    def reconcile(self, endpoints: Iterable[tuple[EndpointRequest, Endpoint]]) -> None:
        alive = {self.key(request): endpoint for request, endpoint in endpoints}

        def hold() -> None:
            self.leases = alive

        self._change(hold)
