"""Networks: the predefined ones, one for each driver that can stand alone, and users' own."""

from __future__ import annotations

import logging
import re
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pannier.engine import netconfigs
from pannier.engine.filters import label_matches, patterns, refuse_unknown, truth, until
from pannier.engine.model import Network
from pannier.engine.networkstore import completed, makes_networks
from pannier.engine.results import Event, NetworkPruneResult
from pannier.engine.workers import uninterrupted
from pannier.errors import (
    Conflict,
    DriverError,
    Forbidden,
    InvalidRequest,
    NotFound,
)

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping, Sequence

    from pannier.drivers.network import NetworkDriver, Subnet
    from pannier.driverset import DriverSet
    from pannier.engine.connecting import Connecting
    from pannier.engine.events import Events
    from pannier.engine.model import Container, EndpointOptions
    from pannier.engine.networkstore import NetworkStore
    from pannier.engine.registry import Registry
    from pannier.engine.workers import Workers

__all__ = ["Networks"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_. -]*(?<! )")
_log = logging.getLogger("pannier.engine")


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

    def _users(self, network: Network) -> builtins.list[Container]:
        """As :meth:`containers_of`, with those that are just getting an endpoint or losing it."""
        return [
            live.container
            for live in self.registry
            if network.name in live.container.endpoints or network.name in live.moving
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
        return completed(network, made)

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
        if not makes_networks(found):
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
        :raises Forbidden: it is predefined, or containers are in it, or on their way in or out.
        """
        network = self.networks.staying(ref)
        if self.networks.predefined(network):
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        users = self._users(network)
        if users:
            raise Forbidden(
                f"error while removing network: network {network.name} id {network.id} has active "
                f"endpoints",
                hint=f"disconnect or stop: {', '.join(user.name for user in users)}",
            )
        netconfigs.check_unused(network, self.networks)
        driver = self.drivers.networks.get(network.driver)
        with self.networks.removal(network):
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
            except NotFound:  # somebody else's doing, meanwhile
                continue
            except (DriverError, Forbidden) as error:
                _log.warning("the network %s could not be pruned: %s", network.name, error)
                continue
            deleted.append(network.name)
        self.events.publish(Event("network", "prune", "", {"reclaimed": "0"}))
        return NetworkPruneResult(tuple(deleted))

    def _publish(self, action: str, network: Network) -> None:
        attributes = {"name": network.name, "type": network.driver}
        self.events.publish(Event("network", action, network.id, attributes))
