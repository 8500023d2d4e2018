"""Loading plugins: entry points one at a time, and the drivers in them examined.

Nothing that a plugin does wrong reaches the engine: a plugin that fails to import, that implements
a hook which does not exist, or whose driver breaks the contract becomes a :class:`DriverRecord`
with the reason and a hint.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from importlib.metadata import distributions, entry_points
from typing import TYPE_CHECKING, Any, Final

import pluggy

from pannier.bounded import LOADING, describe, is_whole, within
from pannier.driverclasses import EXPECTED, check_class, claimed_id
from pannier.errors import ContractViolation
from pannier.hookspecs import GROUP, DriverHooks
from pannier.loadtrace import LoadTrace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from importlib.metadata import EntryPoint

    from pannier.drivers.base import Driver

__all__ = ["DriverRecord", "load_plugins"]

OURS: Final = "pannier"
"""The distribution that this module is of."""

_MOST_CLASSES: Final = 1000
"""However many drivers a plugin may bring under one hook, there are not so many."""


@dataclass(frozen=True, slots=True)
class DriverRecord:
    """A row of ``pannier drivers``: a driver, or a plugin that has none to offer.

    :param kind: empty where the plugin failed before its kind was known.
    :param id: the driver's id, or the entry point's name where there is no driver.
    :param plugin: the entry point's name.
    :param distribution: the distribution that brings it, with *version*.
    :param driver: None where it cannot be used; *reason* and *hint* then say why.
    :param probed: whether :meth:`~pannier.drivers.base.Driver.probe` was tried.
    :param refused: whether something failed, whatever it said: *reason* is for people.
    """

    kind: str
    id: str
    distribution: str = ""
    version: str = ""
    driver: type[Driver] | None = None
    reason: str = ""
    hint: str = ""
    probed: bool = False
    plugin: str = ""
    refused: bool = False

    @property
    def usable(self) -> bool:
        """Whether the driver works here, as far as it was probed."""
        return self.driver is not None and not self.refused

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Return what the driver declares, sorted."""
        return tuple(sorted(self.driver.capabilities)) if self.driver is not None else ()

    def failed(self, error: BaseException, *, driver: type[Driver] | None = None) -> DriverRecord:
        """Return this record with the reason that *error* gives."""
        hint = error.hint if is_whole(error) else None
        return replace(self, driver=driver, reason=describe(error), hint=hint or "", refused=True)


def load_plugins(
    points: Iterable[EntryPoint] | None = None,
    *,
    kind: str | None = None,
    trace: LoadTrace | None = None,
) -> list[DriverRecord]:
    """Load every entry point of the group ``pannier`` and examine the drivers in it.

    :param points: in place of the installed ones, for tests.
    :param kind: leave drivers of other kinds, and what they would import, unloaded.
    :param trace: takes the time of each call.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(DriverHooks)
    trace = LoadTrace() if trace is None else trace
    records: list[DriverRecord] = []
    for point in _ours_first(_installed(records) if points is None else points):
        records.extend(_load_one(manager, point, kind, trace))
    return _refuse_duplicates(records)


def _installed(records: list[DriverRecord]) -> list[EntryPoint]:
    """Return the entry points of what is installed; what cannot be read becomes a record."""
    try:
        return list(entry_points(group=GROUP))
    except Exception:  # noqa: BLE001 - one distribution's broken metadata breaks the whole answer
        found: dict[str, list[EntryPoint]] = {}
        for distribution in distributions():
            name = "?"
            try:
                name = distribution.name
                points = list(distribution.entry_points.select(group=GROUP))
            except Exception as error:  # noqa: BLE001 - as above
                records.append(DriverRecord("", name, plugin=name).failed(error))
            else:
                found.setdefault(name, points)  # the first on the path is the one imported
        return [point for points in found.values() for point in points]


def _ours_first(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """Return Pannier's own in front, so that no stranger's is registered in place of one."""

    def is_anothers(point: EntryPoint) -> bool:
        try:
            return point.dist is None or point.dist.name != OURS
        except Exception:  # noqa: BLE001 - broken metadata, which its row will tell
            return True

    return sorted(points, key=is_anothers)


def _load_one(
    manager: pluggy.PluginManager, point: EntryPoint, only: str | None, trace: LoadTrace
) -> Iterator[DriverRecord]:
    row = DriverRecord("", point.name, plugin=point.name)
    try:
        if point.dist is not None:
            row = replace(row, distribution=point.dist.name, version=point.dist.version)
        with trace.timed(point.name, "import"):
            plugin = within(LOADING, "importing it", point.load)
        if manager.is_registered(plugin):
            return
        # By its distribution, too: names of entry points are each distribution's own.
        name = f"{row.distribution}:{point.name}"
        register = functools.partial(_register, manager, plugin, name)
        within(LOADING, "registering it", register)
    except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything
        yield row.failed(error)
        return
    found = False
    for kind, expected in EXPECTED.items():
        caller = getattr(manager.hook, expected.hook)
        for implementation in caller.get_hookimpls():
            if implementation.plugin is plugin:
                found = True
                if only is None or kind == only:
                    yield from _examine(replace(row, kind=kind), implementation.function, trace)
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


def _examine(row: DriverRecord, function: Any, trace: LoadTrace) -> Iterator[DriverRecord]:
    try:
        with trace.timed(row.plugin, EXPECTED[row.kind].hook):
            classes = within(LOADING, "its hook", functools.partial(_listed, function))
    except Exception as error:  # noqa: BLE001 - as above
        yield row.failed(error)
        return
    for cls in classes:
        try:
            within(LOADING, "looking at it", functools.partial(check_class, row.kind, cls))
        except Exception as error:  # noqa: BLE001 - as above: what is looked at may be anything
            yield replace(row, id=claimed_id(cls) or row.id).failed(error)
        else:
            yield replace(row, id=cls.id, driver=cls)


def _listed(function: Callable[[], Iterable[type[Driver]]]) -> list[type[Driver]]:
    """Return what a hook yields, of which there may be no end.

    Taken without a bound, an endless iterator of the interpreter's own holds its lock (the GIL)
    all the while, so that no limit of time would be noticed.
    """
    classes = list(itertools.islice(function(), _MOST_CLASSES + 1))
    if len(classes) > _MOST_CLASSES:
        raise ContractViolation(
            f"its hook goes on after {_MOST_CLASSES} drivers",
            hint="it is to return a list of driver classes: tell the plugin's author",
        )
    return classes


def _refuse_duplicates(records: list[DriverRecord]) -> list[DriverRecord]:
    """Refuse drivers whose id another one has: all of them, but for Pannier's own.

    Which of two strangers the user wants nobody can know. A driver that Pannier brings keeps its
    id whatever is installed besides, or a stranger could take the host's containers over.
    """
    claims: dict[tuple[str, str], list[DriverRecord]] = {}
    for record in records:
        if record.driver is not None:
            claims.setdefault((record.kind, record.id), []).append(record)
    return [
        record if record.driver is None else _unless_taken(record, claims[record.kind, record.id])
        for record in records
    ]


def _unless_taken(record: DriverRecord, claims: list[DriverRecord]) -> DriverRecord:
    """Return a record as it is, or refused where its id is somebody else's among *claims*."""
    if len({claim.driver for claim in claims}) == 1:
        return record
    ours = {claim.driver for claim in claims if claim.distribution == OURS}
    if len(ours) == 1:
        if record.driver in ours:
            return record
        error = ContractViolation(
            f"the id {record.id!r} is that of a {record.kind} driver of {OURS}'s own",
            hint=f"uninstall {record.distribution or 'it'}, or ask its author for another id",
        )
    else:
        owners = sorted({claim.distribution or "?" for claim in claims})
        error = ContractViolation(
            f"two {record.kind} drivers have the id {record.id!r}",
            hint=f"uninstall one of: {', '.join(owners)}",
        )
    return record.failed(error)
