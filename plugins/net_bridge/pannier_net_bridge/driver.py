"""The driver: networks, attach and detach, and what a restart finds again."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pannier.drivers.network import (
    Attachment,
    Endpoint,
    EndpointRequest,
    Namespace,
    NetworkCapability,
    NetworkDriver,
    NetworkSpec,
)
from pannier.errors import Conflict, InvalidRequest, NotFound, UnsupportedOperation
from pannier_net_bridge import republish
from pannier_net_bridge.attach import AttachContext, plan
from pannier_net_bridge.backends import open_firewall
from pannier_net_bridge.bridges import (
    Forwarding,
    Forwarding6,
    ensure_bridge,
    names,
    names_with_six,
    redirects_loopback6,
    rejoin,
    remove_bridge,
    strays,
)
from pannier_net_bridge.config import BridgeConfig
from pannier_net_bridge.diagnosis import diagnose
from pannier_net_bridge.firewall import Closed, published
from pannier_net_bridge.flows import forget_flows_around, forget_flows_to
from pannier_net_bridge.foreign import accept_in_foreign_chains, forget_in_foreign_chains
from pannier_net_bridge.leases import Lease, LeaseBook, regained
from pannier_net_bridge.networks import BridgeNetwork, check_offered, resolve, spec_from_record
from pannier_net_bridge.ports import reserve_again
from pannier_net_bridge.probe import probe
from pannier_net_bridge.reaper import Reaper, delete_inside
from pannier_net_bridge.records import Records
from pannier_net_bridge.subnets import with_subnets
from pannier_net_bridge.watch import RuleWatch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from pannier.drivers.base import DriverContext
    from pannier.drivers.network import PortBinding
    from pannier.drivers.operations import Plan

__all__ = ["BridgeDriver"]

_log = logging.getLogger("pannier.network.bridge")


class BridgeDriver(NetworkDriver):
    """Containers on bridges of the host: addresses, routes, masquerading, published ports.

    A network may have IPv6 beside IPv4. Its ports are published on the host's IPv6 addresses too;
    those of other networks on IPv4 addresses only, since nothing translates between the two: a
    client that tries ``::1`` first is refused there at once and goes on to 127.0.0.1.
    """

    id: ClassVar[str] = "bridge"
    priority: ClassVar[int] = 100
    capabilities: ClassVar[AbstractSet[NetworkCapability]] = frozenset(
        {
            NetworkCapability.USER_DEFINED,
            NetworkCapability.PUBLISH,
            NetworkCapability.ADDRESSES,
            NetworkCapability.LIVE,
            NetworkCapability.IPV6,
        }
    )
    config_type: ClassVar[type[Any]] = BridgeConfig

    @classmethod
    def probe(cls, context: DriverContext, config: BridgeConfig) -> None:  # noqa: ARG003 - the contract's
        """Make all that a container needs in a scratch namespace, and throw it away."""
        probe(config)

    def __init__(self, context: DriverContext, config: BridgeConfig) -> None:
        self._config = config
        self._firewall = open_firewall(config)
        self._forwarding = Forwarding(context.state, wanted=config.forwarding)
        self._forwarding6 = Forwarding6(context.state, wanted=config.forwarding)
        self._records = Records(context.root / "networks.journal")
        self._leases = LeaseBook(context.root / "endpoints.journal")
        self._reaper = Reaper()
        self._watch: RuleWatch | None = None
        # Guards the networks, and the rules together with the leases that they follow from.
        self._lock = threading.RLock()
        self._networks: dict[str, BridgeNetwork] = {}
        self._mtus: dict[str, int] = {}
        for record in self._records.all():
            network = resolve(spec_from_record(record), config)
            self._networks[network.spec.id] = network
        self._confirmed: set[str] = set()

    def close(self) -> None:
        """Delete the links that still wait for it, and close what is open."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._reaper.close()
        self._firewall.close()
        self._leases.close()
        self._records.close()

    def namespace(self, argument: str) -> Namespace:
        """Return a new one."""
        if argument:
            raise InvalidRequest(
                f'the network "bridge" takes no argument: "bridge:{argument}"',
                hint="use --network bridge",
            )
        return Namespace("new")

    def diagnose(self) -> list[tuple[str, str]]:
        """Say what keeps these networks from working, each with what to do."""
        with self._lock:
            networks = list(self._networks.values())
        return diagnose(self._config, self._forwarding, networks)

    # Networks.

    def create_network(self, network: NetworkSpec) -> NetworkSpec:
        """Set up the bridge and the rules; a network that was there keeps its subnet."""
        check_offered(network)
        with self._lock:
            filled = with_subnets(network, self._networks, self._leases, self._config)
            resolved = resolve(filled, self._config)
            for other in self._networks.values():
                if other.bridge == resolved.bridge and other.spec.id != network.id:
                    raise Conflict(
                        f"network {network.name}: the bridge {other.bridge} belongs to the "
                        f"network {other.spec.name}",
                        hint="choose another com.docker.network.bridge.name",
                    )
            earlier = self._networks.get(network.id)
            self._networks[network.id] = resolved
            self._confirmed.add(network.id)
            try:
                self._records.write(network.id, resolved.record())
                self._ensure_bridge(resolved)
                self._repair()
            except BaseException:
                if earlier is None:
                    self._take_back(resolved)
                raise
            return resolved.spec

    def remove_network(self, network: NetworkSpec) -> None:
        """Remove the bridge, its containers' links, the rules and the leases. Can be repeated."""
        with self._lock:
            known = self._networks.get(network.id)
            if known is not None:
                self._forget(known)

    def _forget(self, network: BridgeNetwork) -> None:
        """Remove all that there is of a network; where that fails, it can be asked for again."""
        id = network.spec.id
        for lease in self._leases.all():
            if lease.network == id:
                self._leases.release(lease.network, lease.container)
        del self._networks[id]
        try:
            self._forget_rules(network)
            remove_bridge(network.bridge)
        except BaseException:
            self._networks[id] = network
            raise
        self._drop(network)

    def _forget_rules(self, network: BridgeNetwork) -> None:
        """Have the rules be those of the networks that are left."""
        forget_in_foreign_chains(self._config.table, [network.bridge])
        if self._networks:
            self._repair()
        else:
            # Forwarding goes first: without our rules it would be open to everyone.
            self._forwarding.restore()
            self._forwarding6.restore()
            self._firewall.tear_down()

    def _take_back(self, network: BridgeNetwork) -> None:
        """Remove what was made of a network that could not be made, which nobody asks for again.

        Rules that cannot be changed now are put right with the next change. A record is kept as
        long as the bridge: the next start then finds what is to be removed.
        """
        try:
            self._forget(network)
        except Exception:  # noqa: BLE001 - what kept it from being made is what the caller is told
            _log.exception("could not take back all of the network %s", network.spec.name)
            del self._networks[network.spec.id]
            with contextlib.suppress(OSError):
                remove_bridge(network.bridge)
                self._drop(network)

    def _drop(self, network: BridgeNetwork) -> None:
        """Forget what is remembered of a network that has gone."""
        self._mtus.pop(network.spec.id, None)
        self._confirmed.discard(network.spec.id)
        self._records.remove(network.spec.id)

    def _repair(self) -> None:
        """Make the rules what the networks and leases say, whatever they are now."""
        with self._lock:
            if self._watch is None:
                # Before anything is looked at. Without it the next container, or the next start,
                # mends what others break.
                with contextlib.suppress(OSError):
                    self._watch = RuleWatch(self._mend)
            networks = list(self._networks.values())
            six = self._has_six()
            if not six:
                self._forwarding6.restore()  # before the rules go, as in _forget
            self._firewall.set_up(
                networks,
                closed=Closed(self._forwarding.closed(), self._forwarding6.closed()),
                loopback6=redirects_loopback6(networks),
            )
            self._firewall.synchronize(
                [port for lease in self._leases.all() for port in published(lease)]
            )
            self._accept_elsewhere(networks)
            self._forwarding.turn_on()
            if six:
                self._forwarding6.turn_on()

    def _accept_elsewhere(self, networks: list[BridgeNetwork]) -> None:
        accept_in_foreign_chains(self._config.table, names(networks), names_with_six(networks))

    def _has_six(self) -> bool:
        return any(network.six is not None for network in self._networks.values())

    # Endpoints.

    def plan_attach(self, request: EndpointRequest, netns: int | None) -> Plan[Attachment]:
        """Give a container a veth pair, an address, a route, and its published ports."""
        network = self._networks.get(request.network.id)
        if network is None:
            raise NotFound(
                f"network {request.network.name} not found", hint="create the network first"
            )
        if request.address6 is not None and network.six is None:
            raise UnsupportedOperation(
                f"the network {network.spec.name} has no IPv6, and so no address "
                f"{request.address6}",
                hint="create the network with --ipv6",
            )
        context = AttachContext(
            leases=self._leases,
            reaper=self._reaper,
            ready=lambda: self._ready(network),
            write=partial(self._write, network),
            publish=partial(self._publish, network),
            withdraw=self._withdraw,
            discard=lambda lease: self._end(lease, leave_to_kernel=False),
            loopback6=lambda: redirects_loopback6(list(self._networks.values())),
        )
        lease = self._leases.get(network.spec.id, request.container)
        if lease is not None and republish.differs(network, request, lease, netns):
            return republish.plan(context, network, request, lease)
        return plan(context, network, request, netns)

    def _ready(self, network: BridgeNetwork) -> tuple[int, int]:
        """Return the bridge's index and MTU, after mending what others have broken."""
        try:
            index = socket.if_nametoindex(network.bridge)
            mtu = self._mtus[network.spec.id]
        except (OSError, KeyError):
            with self._lock:
                self._check_held(network, None)
                mtu = self._ensure_bridge(network)
            index = socket.if_nametoindex(network.bridge)
        self._mend()
        return index, mtu

    def _ensure_bridge(self, network: BridgeNetwork) -> int:
        """Have a network's bridge there, with the links of its endpoints; return its MTU."""
        id = network.spec.id
        mtu = self._mtus[id] = ensure_bridge(network)
        rejoin(network, {lease.link for lease in self._leases.all() if lease.network == id})
        return mtu

    def _mend(self) -> None:
        """Put right what others have done to the rules; changes nothing where nothing is wrong."""
        with self._lock:
            if not self._networks or self._firewall.intact():
                return
            generation = self._firewall.generation()
            if self._firewall.present(six=self._has_six()):
                self._accept_elsewhere(list(self._networks.values()))
                # Not where we changed something: of that we hear as well, and look once more.
                self._firewall.note_generation(generation)
            else:
                self._repair()

    def _check_held(self, network: BridgeNetwork, lease: Lease | None) -> None:
        """Refuse to go on where the network was removed meanwhile, and an endpoint's lease with it.

        What is made after that would belong to nobody, and nobody would take it away.
        """
        held = lease is None or self._leases.get(lease.network, lease.container) == lease
        if not held or network.spec.id not in self._networks:
            raise NotFound(
                f"network {network.spec.name} not found: it was removed while a container was "
                f"being connected",
                hint="create the network again",
            )

    def _write(self, network: BridgeNetwork, lease: Lease, earlier: Lease | None = None) -> None:
        with self._lock:
            self._check_held(network, earlier)
            self._leases.write(lease)

    def _publish(self, network: BridgeNetwork, lease: Lease) -> None:
        with self._lock:
            self._check_held(network, lease)
            self._firewall.publish(published(lease))
        forget_flows_around(published(lease))

    def _withdraw(self, lease: Lease) -> None:
        if lease.ports:
            with self._lock:
                self._firewall.withdraw(published(lease))
            forget_flows_to(published(lease))

    def detach(self, request: EndpointRequest, netns: int | None) -> None:
        """Withdraw the ports and free the address at once; the link goes in the background."""
        lease = self._leases.get(request.network.id, request.container)
        if lease is not None:
            self._end(lease, leave_to_kernel=netns is None)
            if not lease.link and netns is not None:
                delete_inside(netns, lease.mac)

    def _end(self, lease: Lease, *, leave_to_kernel: bool) -> None:
        with self._lock:
            if lease.ports:
                self._firewall.withdraw(published(lease))
                forget_flows_to(published(lease))
            self._leases.release(lease.network, lease.container)
        if lease.link:
            self._reaper.delete(lease.link, leave_to_kernel=leave_to_kernel)

    def reconcile(self, endpoints: Iterable[tuple[EndpointRequest, Endpoint]]) -> None:
        """Hold what these endpoints have; release every other lease, link and redirection."""
        with self._lock:
            alive = {}
            for request, endpoint in endpoints:
                lease = self._leases.get(request.network.id, request.container)
                if lease is None or lease.address != endpoint.address:
                    lease = regained(request, endpoint)
                    self._leases.write(lease)
                elif lease.ports != endpoint.ports:
                    # The engine died while they moved: they are where its record says.
                    lease = replace(lease, ports=endpoint.ports)
                    self._leases.write(lease)
                alive[lease.id] = lease
            for lease in self._leases.all():
                if lease.id not in alive:
                    self._leases.release(lease.network, lease.container)
            self._forget_unconfirmed(alive.values())
            if self._networks:
                self._repair()
            # Of a lease that was lost its link's name is lost too: then any may be it.
            unsure = {lease.network for lease in alive.values() if not lease.link}
            bridges = {
                network.bridge
                for network in self._networks.values()
                if network.spec.id not in unsure
            }
            for link in strays(bridges, {lease.link for lease in alive.values()}):
                self._reaper.delete(link, leave_to_kernel=False)

    def reserve(self, ports: Iterable[PortBinding]) -> tuple[int, ...]:
        """Bind sockets to those that can be had."""
        found = [one.socket for one in reserve_again(ports)]
        return tuple(one.detach() for one in found if one is not None)

    def _forget_unconfirmed(self, alive: Iterable[Lease]) -> None:
        """Remove networks that the engine does not know: it died while it made or removed them."""
        used = {lease.network for lease in alive}
        for network in list(self._networks.values()):
            if network.spec.id not in self._confirmed | used:
                self._forget(network)
