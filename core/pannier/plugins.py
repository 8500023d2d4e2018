"""Plugins: entry points loaded one at a time, the drivers in them examined, and one picked.

Nothing that a plugin does wrong reaches the engine: a plugin that fails to import, that implements
a hook which does not exist, or whose driver breaks the contract becomes a :class:`DriverRecord`
with the reason and a hint.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import re
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pluggy

from pannier.bounded import LOADING, within
from pannier.drivers.base import Driver, DriverContext
from pannier.drivers.log import LogCapability, LogDriver
from pannier.drivers.network import NetworkCapability, NetworkDriver
from pannier.drivers.resources import ResourceCapability, ResourceDriver
from pannier.drivers.runtime import RuntimeCapability, RuntimeDriver
from pannier.drivers.storage import StorageCapability, StorageDriver
from pannier.errors import (
    ConfigError,
    ContractViolation,
    DriverUnavailable,
    PannierError,
)
from pannier.hookspecs import GROUP, DriverHooks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from enum import StrEnum
    from importlib.metadata import EntryPoint

    from pannier.config import Config

__all__ = ["DriverRecord", "Drivers", "load_plugins"]

D = TypeVar("D", bound=Driver)

_log = logging.getLogger("pannier.plugins")
_ID = re.compile(r"[a-z][a-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the core expects of one kind of driver."""

    hook: str
    contract: type[Driver]
    capability: type[StrEnum]


_KINDS: dict[str, _Kind] = {
    "storage": _Kind("pannier_storage_drivers", StorageDriver, StorageCapability),
    "network": _Kind("pannier_network_drivers", NetworkDriver, NetworkCapability),
    "resources": _Kind("pannier_resource_drivers", ResourceDriver, ResourceCapability),
    "runtime": _Kind("pannier_runtime_drivers", RuntimeDriver, RuntimeCapability),
    "log": _Kind("pannier_log_drivers", LogDriver, LogCapability),
}


@dataclass(frozen=True, slots=True)
class DriverRecord:
    """A row of ``pannier drivers``: a driver, or a plugin that has none to offer.

    :param kind: empty where the plugin failed before its kind was known.
    :param id: the driver's id, or the entry point's name where there is no driver.
    :param distribution: the distribution that brings it, with *version*.
    :param driver: None where it cannot be used; *reason* and *hint* then say why.
    :param probed: whether :meth:`~pannier.drivers.base.Driver.probe` was tried.
    """

    kind: str
    id: str
    distribution: str = ""
    version: str = ""
    driver: type[Driver] | None = None
    reason: str = ""
    hint: str = ""
    probed: bool = False

    @property
    def usable(self) -> bool:
        """Whether the driver works here, as far as it was probed."""
        return self.driver is not None and not self.reason

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Return what the driver declares, sorted."""
        return tuple(sorted(self.driver.capabilities)) if self.driver is not None else ()

    def failed(self, error: BaseException, *, driver: type[Driver] | None = None) -> DriverRecord:
        """Return this record with the reason that *error* gives."""
        known = isinstance(error, PannierError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        hint = (cast("PannierError", error).hint or "") if known else ""
        return replace(self, driver=driver, reason=reason, hint=hint)


def load_plugins(
    points: Iterable[EntryPoint] | None = None, *, kind: str | None = None
) -> list[DriverRecord]:
    """Load every entry point of the group ``pannier`` and examine the drivers in it.

    :param points: in place of the installed ones, for tests.
    :param kind: leave drivers of other kinds, and what they would import, unloaded.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(DriverHooks)
    records: list[DriverRecord] = []
    for point in entry_points(group=GROUP) if points is None else points:
        records.extend(_load_one(manager, point, kind))
    return _refuse_duplicates(records)


def _load_one(
    manager: pluggy.PluginManager, point: EntryPoint, only: str | None
) -> Iterator[DriverRecord]:
    name = point.dist.name if point.dist is not None else ""
    version = point.dist.version if point.dist is not None else ""
    row = DriverRecord("", point.name, name, version)
    try:
        plugin = within(LOADING, "importing it", point.load)
        if manager.is_registered(plugin):
            return
        _register(manager, plugin, point.name)
    except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything
        yield row.failed(error)
        return
    found = False
    for kind, expected in _KINDS.items():
        caller = getattr(manager.hook, expected.hook)
        for implementation in caller.get_hookimpls():
            if implementation.plugin is plugin:
                found = True
                if only is None or kind == only:
                    yield from _examine(replace(row, kind=kind), implementation.function)
    if not found:
        yield row.failed(
            ContractViolation(
                "the plugin implements no hook",
                hint="mark its functions with @pannier.hookspecs.hookimpl",
            )
        )


def _register(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    unknown = sorted(
        attribute
        for attribute in dir(plugin)
        if attribute.startswith("pannier_")
        and not hasattr(DriverHooks, attribute)
        and getattr(getattr(plugin, attribute), f"{GROUP}_impl", None) is not None
    )
    if unknown:
        raise ContractViolation(
            f"the plugin implements hooks that do not exist: {', '.join(unknown)}",
            hint="the hooks are listed in pannier.hookspecs; is the plugin for another version?",
        )
    try:
        manager.register(plugin, name)
    except BaseException:
        if manager.is_registered(plugin):
            manager.unregister(plugin)
        raise


def _examine(row: DriverRecord, function: Any) -> Iterator[DriverRecord]:
    try:
        classes: Sequence[type[Driver]] = within(LOADING, "its hook", lambda: list(function()))
    except Exception as error:  # noqa: BLE001 - as above
        yield row.failed(error)
        return
    for cls in classes:
        try:
            _check_class(row.kind, cls)
        except Exception as error:  # noqa: BLE001 - as above: what is looked at may be anything
            yield replace(row, id=str(getattr(cls, "id", row.id))).failed(error)
        else:
            yield replace(row, id=cls.id, driver=cls)


def _check_class(kind: str, cls: Any) -> None:
    """Raise ContractViolation where a driver class is not what its kind's contract says."""
    expected = _KINDS[kind]
    if not (isinstance(cls, type) and issubclass(cls, expected.contract)):
        raise ContractViolation(
            f"{cls!r} is no {kind} driver", hint=f"derive it from {expected.contract.__name__}"
        )
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise ContractViolation(f"{cls.__name__} does not implement: {missing}")
    id = getattr(cls, "id", None)
    if not (isinstance(id, str) and _ID.fullmatch(id)):
        raise ContractViolation(
            f"{cls.__name__}.id is {id!r}",
            hint="an id is a lower-case word of at most 32 letters, digits and _.-",
        )
    if not isinstance(cls.priority, int):
        raise ContractViolation(f"{cls.__name__}.priority is {cls.priority!r}, and no number")
    if not all(isinstance(item, expected.capability) for item in cls.capabilities):
        raise ContractViolation(
            f"{cls.__name__}.capabilities must hold members of {expected.capability.__name__}"
        )
    if not dataclasses.is_dataclass(cls.config_type):
        raise ContractViolation(f"{cls.__name__}.config_type must be a dataclass")


def _refuse_duplicates(records: list[DriverRecord]) -> list[DriverRecord]:
    owners: dict[tuple[str, str], set[str]] = {}
    classes: dict[tuple[str, str], set[type[Driver]]] = {}
    for record in records:
        if record.driver is not None:
            owners.setdefault((record.kind, record.id), set()).add(record.distribution or "?")
            classes.setdefault((record.kind, record.id), set()).add(record.driver)
    result = []
    for record in records:
        key = (record.kind, record.id)
        if len(classes.get(key, ())) > 1:
            error = ContractViolation(
                f"two {record.kind} drivers have the id {record.id!r}",
                hint=f"uninstall one of: {', '.join(sorted(owners[key]))}",
            )
            result.append(record.failed(error))
        else:
            result.append(record)
    return result


@dataclass(slots=True)
class Drivers:
    """Knows the drivers found, probes them on demand, and opens those that are asked for."""

    config: Config
    records: list[DriverRecord] = field(default_factory=load_plugins)

    def context(self, kind: str, id: str) -> DriverContext:
        """Return a driver's own folders, made where they are missing (mode 0700)."""
        engine = self.config.engine
        context = DriverContext(engine.root / kind / id, engine.state / kind / id)
        for folder in (context.root, context.state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return context

    def probe(self, record: DriverRecord) -> DriverRecord:
        """Return the record of a driver after trying it; one that was tried already as it is."""
        if record.driver is None or record.probed:
            return record
        try:
            settings = self.config.driver_config(record.kind, record.id, record.driver.config_type)
            context = self.context(record.kind, record.id)
            within(LOADING, "probing it", functools.partial(record.driver.probe, context, settings))
            result = replace(record, probed=True)
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything
            result = replace(record.failed(error, driver=record.driver), probed=True)
        self.records[self.records.index(record)] = result
        return result

    def probe_all(self) -> list[DriverRecord]:
        """Probe every driver, and return all records."""
        for record in list(self.records):
            self.probe(record)
        return self.records

    def check_tables(self) -> None:
        """Check each driver's table in the configuration.

        :raises ConfigError: a table for a driver that is not there, or a wrong key or value.
        """
        for kind, tables in self.config.tables.items():
            known = {record.id: record for record in self.records if record.kind == kind}
            for id in tables:
                record = known.get(id)
                if record is None:
                    raise ConfigError(
                        f"{self.config.origin.place(f'{kind}.{id}', '')}: [{kind}.{id}] is for a "
                        f"driver that is not installed",
                        hint=f"installed {kind} drivers: {', '.join(sorted(known)) or 'none'}",
                    )
                if record.driver is not None:
                    self.config.driver_config(kind, id, record.driver.config_type)

    def choose(self, kind: str) -> DriverRecord:
        """Return the record of the driver to use for a kind: the configured, or the best usable.

        :raises ConfigError: the configured id is not installed.
        :raises DriverUnavailable: it, or for ``auto`` every one, cannot work here.
        """
        named = self.check_installed(kind)
        if named is not None:
            record = self.probe(named)
            if not record.usable:
                raise DriverUnavailable(
                    f"the {kind} driver {record.id!r} cannot work here: {record.reason}",
                    hint=record.hint or "`pannier drivers` lists the others",
                )
            return record
        ranked = sorted(
            (row for row in self.records if row.kind == kind and row.driver is not None),
            key=lambda record: -cast("type[Driver]", record.driver).priority,
        )
        tried = []
        for record in ranked:
            probed = self.probe(record)
            if probed.usable:
                return probed
            tried.append(f"{probed.id}: {probed.reason}")
        raise DriverUnavailable(
            f"no {kind} driver can work on this host ({'; '.join(tried) or 'none is installed'})",
            hint="`pannier doctor` and `pannier drivers` say what is missing",
        )

    def check_installed(self, kind: str) -> DriverRecord | None:
        """Return the record of the driver that the configuration names; None for ``auto``.

        :raises ConfigError: it is not installed.
        """
        id = getattr(self.config.drivers, kind)
        if id == "auto":
            return None
        candidates = [record for record in self.records if record.kind == kind]
        named = [record for record in candidates if record.id == id]
        if not named:
            installed = ", ".join(sorted(record.id for record in candidates)) or "none"
            raise ConfigError(
                f"{self.config.origin.place('drivers', kind)}: "
                f"no {kind} driver {id!r} is installed",
                hint=f"installed: {installed}",
            )
        return named[0]

    def open(self, record: DriverRecord, contract: type[D]) -> D:
        """Open a driver with its own configuration and folders.

        :raises DriverUnavailable: opening it failed.
        """
        assert record.driver is not None
        settings = self.config.driver_config(record.kind, record.id, record.driver.config_type)
        context = self.context(record.kind, record.id)
        build = functools.partial(record.driver, context, settings)
        try:
            driver = within(self.config.drivers.patience, "opening it", build)
        except PannierError:
            raise
        except Exception as error:
            raise DriverUnavailable(
                f"the {record.kind} driver {record.id!r} could not be opened: {error}"
            ) from error
        assert isinstance(driver, contract)
        return driver

    def open_all(self, chosen: DriverRecord, contract: type[D]) -> dict[str, D]:
        """Open every usable driver of a kind; one that was not chosen may fail, and is left out.

        :raises DriverUnavailable: the chosen one could not be opened.
        """
        opened = {}
        for record in [row for row in self.records if row.kind == chosen.kind]:
            probed = self.probe(record)
            if not probed.usable:
                continue
            try:
                opened[probed.id] = self.open(probed, contract)
            except PannierError as error:
                if probed.id == chosen.id or isinstance(error, ConfigError):
                    raise
                failed = probed.failed(error, driver=probed.driver)
                self.records[self.records.index(probed)] = failed
                _log.warning("the %s driver %r is left out: %s", probed.kind, probed.id, error)
        return opened
