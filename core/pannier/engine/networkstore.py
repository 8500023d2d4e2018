"""The networks that there are, in memory and in the database, and their drivers' making of them."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pannier.drivers.network import NetworkCapability, NetworkSpec
from pannier.engine.model import Network
from pannier.errors import InvalidRequest, NotFound, PannierError, UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.bounded import Patience
    from pannier.drivers.network import NetworkDriver
    from pannier.driverset import DriverSet
    from pannier.engine.store import Store

__all__ = ["NetworkStore", "completed", "makes_networks"]

_log = logging.getLogger("pannier.engine")


class NetworkStore:
    """The networks, in memory and in the database. Only the event loop's thread changes them."""

    def __init__(self, drivers: DriverSet, store: Store) -> None:
        self.drivers = drivers
        self._store = store
        self._by_name = {network.name: network for network in store.networks()}
        self.failures: dict[str, str] = {}
        self._going: set[str] = set()  # those being removed, by their ids

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
            raise _missing(ref)
        return matches[0]

    def staying(self, ref: str) -> Network:
        """As :meth:`find`, but a network that is being removed is none any more."""
        network = self.find(ref)
        if network.id in self._going:
            raise _missing(ref)
        return network

    @contextlib.contextmanager
    def removal(self, network: Network) -> Iterator[None]:
        """Have nobody join a network, nor another remove it, while it is being removed."""
        self._going.add(network.id)
        try:
            yield
        finally:
            self._going.discard(network.id)

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
                if self.predefined(network) and makes_networks(network_driver):
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
        after = completed(network, made)
        if after != network:
            self.add(after)
        return after

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


def _missing(ref: str) -> NotFound:
    return NotFound(f"network {ref} not found", hint="`pannier network ls` lists the networks")


def completed(network: Network, made: NetworkSpec) -> Network:
    """Return a network with the subnets that its driver chose."""
    return replace(network, subnets=(*made.subnets, *network.unused_subnets))


def makes_networks(driver: NetworkDriver) -> bool:
    """Whether a driver makes networks of users'."""
    return NetworkCapability.USER_DEFINED in driver.capabilities


def _stands_alone(driver: NetworkDriver, patience: Patience) -> bool:
    """Whether a driver gives a network without being told whose: all but joining another's."""
    try:
        return patience.ask(driver, lambda: driver.namespace("")).kind != "container"
    except PannierError:
        return False
