"""The drivers that the engine works with: opened together, looked up by name, closed together."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from pannier.bounded import LOADING, within
from pannier.config import KINDS
from pannier.drivers.base import Driver
from pannier.drivers.log import LogDriver
from pannier.drivers.network import NetworkDriver
from pannier.drivers.resources import ResourceDriver
from pannier.drivers.runtime import RuntimeDriver
from pannier.drivers.storage import StorageDriver
from pannier.errors import DriverUnavailable, InvalidRequest
from pannier.guarding import guard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.plugins import Drivers

__all__ = ["DriverSet", "open_drivers"]

D = TypeVar("D", bound=Driver)

_log = logging.getLogger("pannier.plugins")

_USUAL_RUNTIME = frozenset({"runc", "io.containerd.runc.v2"})
"""What Docker calls its own runtime; no driver's name."""


@dataclass(frozen=True, slots=True)
class DriverSet:
    """The drivers that the engine works with, opened.

    :param storages: every usable storage driver by id; *default_storage* is the one of images, and
        of a container that asks for none. Likewise *networks*, *runtimes* and *logs*.
    """

    storages: Mapping[str, StorageDriver]
    default_storage: str
    networks: Mapping[str, NetworkDriver]
    default_network: str
    resources: ResourceDriver
    runtimes: Mapping[str, RuntimeDriver]
    default_runtime: str
    logs: Mapping[str, LogDriver]
    default_log: str

    @property
    def storage(self) -> StorageDriver:
        """Return the default storage driver."""
        return self.storages[self.default_storage]

    def storage_of(self, id: str) -> StorageDriver:
        """Return the storage driver that a container was made with; an empty id is the default.

        :raises DriverUnavailable: it is not here any more, or cannot work here.
        """
        try:
            return self.storages[id or self.default_storage]
        except KeyError:
            raise DriverUnavailable(
                f"the storage driver {id!r}, which keeps the container's files, cannot be used",
                hint="`pannier drivers` says why; install it again, or mend what it lacks",
            ) from None

    def runtime(self, name: str) -> RuntimeDriver:
        """Return the runtime of a name; empty for the default one.

        That of Docker's own runtime, which its clients write into what they send, means the default
        one too, unless there is a driver of that name.

        :raises InvalidRequest: there is none.
        """
        found = self.runtimes.get(name or self.default_runtime)
        if found is None and name in _USUAL_RUNTIME:
            found = self.runtimes.get(self.default_runtime)
        if found is None:
            raise InvalidRequest(
                f"unknown or invalid runtime name: {name or self.default_runtime}",
                hint=f"runtimes: {', '.join(self.runtimes)}",
            )
        return found

    def guarded(self) -> DriverSet:
        """Return the same drivers behind guards, which is how the engine is to have them."""
        return replace(
            self,
            storages=_guarded(self.storages, StorageDriver),
            networks=_guarded(self.networks, NetworkDriver),
            resources=guard(self.resources, ResourceDriver),
            runtimes=_guarded(self.runtimes, RuntimeDriver),
            logs=_guarded(self.logs, LogDriver),
        )

    def close(self) -> None:
        """Close every driver."""
        for driver in (
            *self.logs.values(),
            *self.runtimes.values(),
            *self.networks.values(),
            self.resources,
            *self.storages.values(),
        ):
            try:
                within(LOADING, "closing it", driver.close)
            except Exception:  # noqa: BLE001 - a stranger's code may raise anything
                _log.exception("%s driver %r: could not be closed", driver.kind, driver.id)


def _guarded(drivers: Mapping[str, D], contract: type[D]) -> dict[str, D]:
    return {id: guard(driver, contract) for id, driver in drivers.items()}


def open_drivers(drivers: Drivers) -> DriverSet:
    """Open what the engine needs: one resource driver, and every usable one of the other kinds.

    A driver that was not named in the configuration and cannot be opened is left out, and the next
    best is used.

    :raises DriverUnavailable: a kind has no usable driver.
    :raises ConfigError: the configuration is wrong.
    """
    for record in drivers.records:
        if record.driver is None:
            _log.warning("the plugin %r is left out: %s", record.plugin, record.reason)
    drivers.check_tables()
    for kind in KINDS:
        drivers.choose(kind)  # before any is opened: it may be named, and not work here
    return DriverSet(
        storages=drivers.open_all("storage", StorageDriver),
        default_storage=drivers.choose("storage").id,
        networks=drivers.open_all("network", NetworkDriver),
        default_network=drivers.choose("network").id,
        resources=drivers.open_best("resources", ResourceDriver),
        runtimes=drivers.open_all("runtime", RuntimeDriver),
        default_runtime=drivers.choose("runtime").id,
        logs=drivers.open_all("log", LogDriver),
        default_log=drivers.choose("log").id,
    ).guarded()
