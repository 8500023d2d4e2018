"""Plugins: which drivers there are, which of them works here, and opening it.

Nothing that a plugin does wrong reaches the engine: one that cannot be loaded, tried or opened
is a :class:`DriverRecord` with the reason and a hint.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pannier.bounded import LOADING, describe, side_by_side, within
from pannier.drivers.base import Driver, DriverContext
from pannier.errors import ConfigError, ContractViolation, DriverUnavailable, PannierError
from pannier.loading import OURS, DriverRecord, load_plugins
from pannier.loadtrace import LoadTrace

if TYPE_CHECKING:
    from pannier.config import Config

__all__ = ["DriverRecord", "Drivers", "load_plugins"]

D = TypeVar("D", bound=Driver)

_log = logging.getLogger("pannier.plugins")


class Drivers:
    """Knows the drivers found, probes them on demand, and opens those that are asked for.

    :param records: those of what is installed, unless they are given.
    """

    def __init__(self, config: Config, records: list[DriverRecord] | None = None) -> None:
        self.config = config
        self.trace = LoadTrace()
        self.records = load_plugins(trace=self.trace) if records is None else records

    def context(self, kind: str, id: str) -> DriverContext:
        """Return a driver's own folders, made where they are missing (mode 0700)."""
        engine = self.config.engine
        for folder in (engine.root, engine.state):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        context = DriverContext(engine.root / kind / id, engine.state / kind / id)
        for folder in (context.root, context.state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return context

    def find(self, kind: str, id: str) -> DriverRecord | None:
        """Return the record of an id: of the driver that has it, if it was refused to others."""
        rows = [row for row in self.records if (row.kind, row.id) == (kind, id)]
        return next((row for row in rows if row.driver is not None), rows[0] if rows else None)

    def installed(self, kind: str) -> list[str]:
        """Return the ids of a kind's drivers, those that do not work included."""
        return sorted({row.id for row in self.records if row.kind == kind})

    def probe(self, record: DriverRecord) -> DriverRecord:
        """Return the record of a driver after trying it; one that was tried already as it is."""
        if record.driver is None or record.probed:
            return record
        try:
            settings = self._settings(record)
            context = self.context(record.kind, record.id)
            probe = functools.partial(record.driver.probe, context, settings)
            with self.trace.timed(record.plugin, "probe", record.kind, record.id):
                within(LOADING, "probing it", probe)
            result = replace(record, probed=True)
        except Exception as error:
            if self._is_users_fault(record, error):
                raise
            result = replace(record.failed(error, driver=record.driver), probed=True)
        self.records[self.records.index(record)] = result
        return result

    def _settings(self, record: DriverRecord) -> Any:
        """Return a driver's configuration, which code of the driver's own may have a part in.

        :raises ConfigError: what the user has written for it is wrong.
        """
        assert record.driver is not None
        read = functools.partial(
            self.config.driver_config, record.kind, record.id, record.driver.config_type
        )
        try:
            return within(LOADING, "making its configuration", read)
        except ConfigError as error:
            if self._is_users_fault(record, error):
                raise
            raise ContractViolation(f"its configuration has no defaults: {error}") from error

    def _is_users_fault(self, record: DriverRecord, error: Exception) -> bool:
        """Whether an error is about what the user has written, and not the driver's own."""
        written = self.config.tables.get(record.kind, {}).get(record.id)
        return isinstance(error, ConfigError) and bool(written)

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
            for id in tables:
                record = self.find(kind, id)
                if record is None:
                    self._check_stray(kind, id)
                elif record.driver is not None:
                    self._check_table(record)

    def _check_stray(self, kind: str, id: str) -> None:
        """Refuse a table that is nobody's, unless it may be that of a plugin that does not load."""
        failed = [record.id for record in self.records if not record.kind]
        what = f"{self.config.origin.place(f'{kind}.{id}', '')}: [{kind}.{id}]"
        if failed:
            _log.warning(
                "%s is not looked at: it may be for a plugin that cannot be loaded (%s)",
                *(what, ", ".join(failed)),
            )
            return
        raise ConfigError(
            f"{what} is for a driver that is not installed",
            hint=f"installed {kind} drivers: {', '.join(self.installed(kind)) or 'none'}",
        )

    def _check_table(self, record: DriverRecord) -> None:
        try:
            self._settings(record)
        except ConfigError:
            raise
        except Exception:  # noqa: BLE001 - the driver's own fault, which probing it will tell
            return

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
        named = self.find(kind, id)
        if named is None:
            raise ConfigError(
                f"{self.config.origin.place('drivers', kind)}: "
                f"no {kind} driver {id!r} is installed",
                hint=f"installed: {', '.join(self.installed(kind)) or 'none'}",
            )
        return named

    def open(self, record: DriverRecord, contract: type[D]) -> D:
        """Open a driver with its own configuration and folders.

        :raises DriverUnavailable: opening it failed.
        """
        assert record.driver is not None
        what = f"the {record.kind} driver {record.id!r}"
        try:
            settings = self._settings(record)
            context = self.context(record.kind, record.id)
            build = functools.partial(record.driver, context, settings)
            with self.trace.timed(record.plugin, "open", record.kind, record.id):
                driver = within(self._patience(record), "opening it", build)
        except PannierError:
            raise
        except Exception as error:
            raise DriverUnavailable(
                f"{what} could not be opened: {describe(error)}",
                hint="`pannier drivers` lists the others; its author wants to know of this",
            ) from error
        if not isinstance(driver, contract):
            raise DriverUnavailable(
                f"{what} could not be opened: it is no {contract.__name__} once it is made"
            )
        return driver

    def _is_strangers(self, record: DriverRecord) -> bool:
        """Whether a driver is neither Pannier's own nor named in the configuration."""
        named = getattr(self.config.drivers, record.kind) == record.id
        written = record.id in self.config.tables.get(record.kind, {})
        return not (named or written or record.distribution == OURS)

    def _patience(self, record: DriverRecord) -> float:
        """Return how many seconds a driver may take to be opened.

        One that nobody asked for does not keep everybody waiting.
        """
        patience = self.config.drivers.patience
        return min(patience, LOADING) if self._is_strangers(record) else patience

    def open_best(self, kind: str, contract: type[D]) -> D:
        """Open the driver to use for a kind; for ``auto`` the best that can be opened.

        :raises ConfigError: as :meth:`choose`.
        :raises DriverUnavailable: it, or for ``auto`` every one, could not be opened.
        """
        while True:
            chosen = self.choose(kind)
            driver = self._try(chosen, contract)
            if driver is not None:
                return driver

    def open_all(self, kind: str, contract: type[D]) -> dict[str, D]:
        """Open every usable driver of a kind; one that cannot be opened is left out.

        Strangers' are opened side by side, so that many that hang take no longer than one.

        :raises ConfigError: the configuration is wrong.
        """

        def attempt(record: DriverRecord) -> D | None:
            probed = self.probe(record)
            return self._try(probed, contract) if probed.usable else None

        records = [row for row in self.records if row.kind == kind]
        strangers = [row for row in records if self._is_strangers(row)]
        tried = [(row.id, attempt(row)) for row in records if row not in strangers]
        found = side_by_side([functools.partial(attempt, row) for row in strangers])
        tried += zip((row.id for row in strangers), found, strict=True)
        # One id may have several rows, of which all but one were refused.
        opened = {id: driver for id, driver in tried if driver is not None}
        return {row.id: opened[row.id] for row in records if row.id in opened}

    def _try(self, record: DriverRecord, contract: type[D]) -> D | None:
        """Open a driver, or take note of why it cannot be opened."""
        try:
            return self.open(record, contract)
        except PannierError as error:
            if self._is_users_fault(record, error):
                raise
            failed = record.failed(error, driver=record.driver)
            self.records[self.records.index(record)] = failed
            _log.warning("the %s driver %r is left out: %s", record.kind, record.id, failed.reason)
            return None
