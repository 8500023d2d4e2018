"""Networks: the predefined ones, one for each driver that can stand alone, and users' own."""

from __future__ import annotations

import logging
import re
import secrets
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pannier.drivers.network import NetworkCapability, NetworkSpec
from pannier.engine import netconfigs
from pannier.engine.filters import label_matches, patterns, refuse_unknown, truth, until
from pannier.engine.model import Network
from pannier.engine.results import Event, NetworkPruneResult
from pannier.engine.workers import uninterrupted
from pannier.errors import (
    Conflict,
    DriverError,
    Forbidden,
    InvalidRequest,
    NotFound,
    PannierError,
    UnsupportedOperation,
)

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping, Sequence

    from pannier.bounded import Patience
    from pannier.drivers.network import NetworkDriver, Subnet
    from pannier.driverset import DriverSet
    from pannier.engine.connecting import Connecting
    from pannier.engine.events import Events
    from pannier.engine.model import Container, EndpointOptions
    from pannier.engine.registry import Registry
    from pannier.engine.store import Store
    from pannier.engine.workers import Workers

__all__ = ["NetworkStore", "Networks"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_. -]*(?<! )")
_log = logging.getLogger("pannier.engine")


class NetworkStore:
    """The networks, in memory and in the database. Only the event loop's thread changes them."""

    def __init__(self, drivers: DriverSet, store: Store) -> None:
        self.drivers = drivers
        self._store = store
        self._by_name = {network.name: network for network in store.networks()}
        self.failures: dict[str, str] = {}

    def all(self) -> list[Network]:
        """Return every network."""
        return list(self._by_name.values())

    def get(self, name: str) -> Network | None:
        """Return the network of exactly this name, if there is one."""
        return self._by_name.get(name)

    def find(self, ref: str) -> Network:
        """Return a network by name, id or the beginning of an id.

        :raises NotFound: there is none.
        :raises InvalidRequest: several ids begin so.
        """
        found = self._by_name.get(ref)
        if found is not None:
            return found
        matches = [item for item in self._by_name.values() if ref and item.id.startswith(ref)]
        if len(matches) > 1:
            raise InvalidRequest(f"network {ref} is ambiguous ({len(matches)} matches found)")
        if not matches:
            raise NotFound(
                f"network {ref} not found", hint="`pannier network ls` lists the networks"
            )
        return matches[0]

    def predefined(self, network: Network) -> bool:
        """Whether a network is one that every engine has."""
        return network.name == network.driver and network.name in self.drivers.networks

    def add(self, network: Network) -> None:
        """Keep a network, new or changed."""
        self._store.put_network(network)
        self._by_name[network.name] = network

    def remove(self, network: Network) -> None:
        """Forget a network. Idempotent."""
        self._store.delete_network(network.id)
        self._by_name.pop(network.name, None)

    def open(self, patience: Patience) -> None:
        """Have every driver make its networks: at start, before containers are recovered.

        One that fails is noted in :attr:`failures`; the others are there all the same. A driver of
        users' networks may have none of its own.

        :param patience: asks the drivers.
        """
        for id, driver in self.drivers.networks.items():
            if id not in self._by_name and _stands_alone(driver, patience):
                self.add(Network(secrets.token_hex(32), id, id, created=time.time_ns()))
        for network in self.all():
            network_driver = self.drivers.networks.get(network.driver)
            if network_driver is None or network.config_only:
                continue
            try:
                self.realise(network, network_driver, patience)
            except UnsupportedOperation as error:
                if self.predefined(network) and _makes_networks(network_driver):
                    self.remove(network)
                else:
                    self._note_failure(network, error)
            except PannierError as error:
                self._note_failure(network, error)

    def _note_failure(self, network: Network, error: PannierError) -> None:
        self.failures[network.name] = str(error)
        _log.warning("the network %s could not be made: %s", network.name, error)

    def realise(
        self, network: Network, driver: NetworkDriver, patience: Patience | None = None
    ) -> Network:
        """Have the driver make a network, and keep the subnets that it chose.

        :param patience: asks the driver, where nobody else sees to it that it comes back.
        """
        create = partial(driver.create_network, self.spec(network))
        made = create() if patience is None else patience.ask(driver, create)
        self.failures.pop(network.name, None)
        completed = _completed(network, made)
        if completed != network:
            self.add(completed)
        return completed

    def spec(self, network: Network) -> NetworkSpec:
        """Return a network in its driver's words."""
        return NetworkSpec(
            id=network.driver if self.predefined(network) else network.id,
            name=network.name,
            internal=network.internal,
            ipv6=network.ipv6,
            subnets=tuple(one for one in network.subnets if one not in network.unused_subnets),
            options=network.options,
        )


def _completed(network: Network, made: NetworkSpec) -> Network:
    """Return a network with the subnets that its driver chose."""
    return replace(network, subnets=(*made.subnets, *network.unused_subnets))


def _makes_networks(driver: NetworkDriver) -> bool:
    return NetworkCapability.USER_DEFINED in driver.capabilities


def _stands_alone(driver: NetworkDriver, patience: Patience) -> bool:
    """Whether a driver gives a network without being told whose: all but joining another's."""
    try:
        return patience.ask(driver, lambda: driver.namespace("")).kind != "container"
    except PannierError:
        return False


@dataclass(slots=True)
class Networks:
    """Creates, removes and knows networks; *ref* is a name, an id or a prefix of one."""

    drivers: DriverSet
    networks: NetworkStore
    connecting: Connecting
    registry: Registry
    events: Events
    workers: Workers

    def list(self, filters: Mapping[str, tuple[str, ...]]) -> builtins.list[Network]:
        """Return networks; filters are ``docker network ls``'s.

        :raises InvalidRequest: a filter is not known.
        """
        refuse_unknown(filters, {"dangling", "driver", "id", "label", "name", "scope", "type"})
        for kind in filters.get("type", ()):
            if kind not in {"builtin", "custom"}:
                raise InvalidRequest(f"invalid filter: 'type'='{kind}'")
        named, identified = patterns(filters, "name"), patterns(filters, "id")
        return [
            network
            for network in self.networks.all()
            if named(network.name) and identified(network.id) and self._passes(network, filters)
        ]

    def _passes(self, network: Network, filters: Mapping[str, tuple[str, ...]]) -> bool:
        kind = "builtin" if self.networks.predefined(network) else "custom"
        unused = kind == "custom" and not self.containers_of(network)
        return (
            (not filters.get("driver") or network.driver in filters["driver"])
            and (not filters.get("type") or kind in filters["type"])
            and (not filters.get("scope") or "local" in filters["scope"])
            and all(truth(value, "dangling") == unused for value in filters.get("dangling", ()))
            and label_matches(network.labels, filters)
        )

    def get(self, ref: str) -> Network:
        """Return a network.

        :raises NotFound: there is none.
        """
        return self.networks.find(ref)

    def containers_of(self, network: Network) -> builtins.list[Container]:
        """Return the containers that have an endpoint in a network."""
        return [
            live.container for live in self.registry if network.name in live.container.endpoints
        ]

    @uninterrupted
    async def create(
        self,
        name: str,
        *,
        driver: str = "",
        internal: bool = False,
        ipv6: bool = False,
        attachable: bool = False,
        subnets: Sequence[Subnet] = (),
        auxiliary: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        config_only: bool = False,
        config_from: str = "",
    ) -> Network:
        """Create a network, or only a configuration for some.

        :raises Conflict: the name is taken.
        :raises Forbidden: the name is that of a predefined network, or means one; a subnet is
            taken; or see :func:`netconfigs.completed`.
        :raises NotFound: the driver, or the configuration, is not known.
        :raises UnsupportedOperation: the driver makes no networks, or lacks what was asked.
        """
        driver = driver or self.drivers.default_network
        self._check_name(name)
        network = Network(
            id=secrets.token_hex(32),
            name=name,
            driver=driver,
            created=time.time_ns(),
            internal=internal,
            ipv6=ipv6,
            attachable=attachable,
            subnets=tuple(subnets),
            auxiliary=dict(auxiliary or {}),
            options=dict(options or {}),
            labels=dict(labels or {}),
            config_only=config_only,
            config_from=config_from,
        )
        network = netconfigs.completed(network, self.networks)
        if config_only:
            network = replace(network, driver="null")
        else:
            network = await self._make(network, self._maker(name, driver))
        self.networks.add(network)
        self._publish("create", network)
        return network

    async def _make(self, network: Network, driver: NetworkDriver) -> Network:
        """Have a driver make a network; return it with its subnets.

        :raises Forbidden: a subnet is taken, which Docker answers so; 409 is for names alone.
        """
        # Known first: a link without a row would outlive a kill at this point.
        self.networks.add(network)
        try:
            made = await self.workers.run(driver.create_network, self.networks.spec(network))
        except Conflict as error:
            self.networks.remove(network)
            raise Forbidden(error.message, hint=error.hint) from error
        except BaseException:
            self.networks.remove(network)
            raise
        return _completed(network, made)

    def _check_name(self, name: str) -> None:
        """Refuse a name that cannot be, or is, a network's; see :meth:`create`."""
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"invalid network name: {name!r}", hint="letters, digits and _.- only"
            )
        existing = self.networks.get(name)
        if name == "default" or (existing is not None and self.networks.predefined(existing)):
            raise Forbidden(
                f"operation is not permitted on predefined {name} network",
                hint="choose another name",
            )
        if existing is not None:
            raise Conflict(f"network with name {name} already exists")

    def _maker(self, name: str, driver: str) -> NetworkDriver:
        """Return the driver that is to make a network, if it may; see :meth:`create`."""
        found = self.drivers.networks.get(driver)
        if found is None:
            raise NotFound(
                f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not '
                f"found",
                hint=f"network drivers: {', '.join(self.drivers.networks)}",
            )
        if not _makes_networks(found):
            raise Forbidden(f'only one instance of "{driver}" network is allowed')
        if name == driver:  # which the driver would take for a network of its own
            raise Forbidden(
                f"a network cannot have the name of its driver, {name}", hint="choose another name"
            )
        return found

    @uninterrupted
    async def remove(self, ref: str) -> None:
        """Remove a network of a user's.

        :raises NotFound: there is none.
        :raises Forbidden: it is predefined, or containers are in it.
        """
        network = self.networks.find(ref)
        if self.networks.predefined(network):
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        users = self.containers_of(network)
        if users:
            raise Forbidden(
                f"error while removing network: network {network.name} id {network.id} has active "
                f"endpoints",
                hint=f"disconnect or stop: {', '.join(user.name for user in users)}",
            )
        netconfigs.check_unused(network, self.networks)
        driver = self.drivers.networks.get(network.driver)
        if driver is not None and not network.config_only:
            await self.workers.run(driver.remove_network, self.networks.spec(network))
        self.networks.remove(network)
        self._publish("destroy", network)

    async def connect(self, ref: str, container: str, options: EndpointOptions) -> None:
        """Have a container join a network, at once if it is running.

        :raises NotFound: there is no such network or container.
        :raises Forbidden: it is in the network already.
        :raises InvalidRequest: its networks cannot be combined.
        """
        await self.connecting.connect(self.networks.find(ref), container, options)

    async def disconnect(
        self,
        ref: str,
        container: str,
        *,
        force: bool = False,  # noqa: ARG002 - see below
    ) -> None:
        """Have a container leave a network, at once if it is running.

        :param force: as Docker has it; here nothing of an endpoint can be left that hinders.
        :raises NotFound: there is no such network or container.
        """
        await self.connecting.disconnect(self.networks.find(ref), container)

    async def prune(self, filters: Mapping[str, tuple[str, ...]]) -> NetworkPruneResult:
        """Remove the networks of users that no container, running or not, is in."""
        refuse_unknown(filters, {"label", "label!", "until"})
        limit = until(filters)
        used = {name for live in self.registry for name in live.container.networks}
        deleted = []
        for network in self.networks.all():
            if (
                self.networks.predefined(network)
                or network.config_only
                or network.name in used
                or not label_matches(network.labels, filters)
                or (limit is not None and network.created >= limit)
            ):
                continue
            try:
                await self.remove(network.id)
            except (DriverError, Forbidden) as error:
                _log.warning("the network %s could not be pruned: %s", network.name, error)
                continue
            deleted.append(network.name)
        self.events.publish(Event("network", "prune", "", {"reclaimed": "0"}))
        return NetworkPruneResult(tuple(deleted))

    def _publish(self, action: str, network: Network) -> None:
        attributes = {"name": network.name, "type": network.driver}
        self.events.publish(Event("network", action, network.id, attributes))
