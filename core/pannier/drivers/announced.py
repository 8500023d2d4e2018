"""Changes of what drivers must hold, announced at least one minor release ahead.

The method of a contract that will change is marked in the release that says so::

    @gains("idmap", since="0.2", required="0.3")
    def plan_open_root(self, key: str, *, idmap: IdMap | None = None) -> Plan[int]: ...

    @goes(since="0.2", removed="0.3", instead="plan_open_root")
    def open_root(self, key: str) -> int: ...

Until then a driver in the old form works, and its author is warned; from then on it is refused by
name. The releases stand in the mark, so that nobody has to think of it when one is made. Tests of
the conformance kit are announced likewise (``pannier.testing.announced``). What is promised is
in ``docs/stability.md``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pannier
from pannier.errors import UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pannier.drivers.base import Driver

__all__ = [
    "Gained",
    "OldForm",
    "check_announcement",
    "gained",
    "gains",
    "goes",
    "is_in_force",
    "old_forms",
    "without_unknown",
]

F = TypeVar("F", bound=Callable[..., Any])

_GAINS: Final = "__pannier_gains__"
_GOES: Final = "__pannier_goes__"


@dataclass(frozen=True, slots=True)
class Gained:
    """A parameter that a method of a contract gains; *required* is the release that asks for it."""

    name: str
    required: str


@dataclass(frozen=True, slots=True)
class _Going:
    removed: str
    instead: str


@dataclass(frozen=True, slots=True)
class OldForm:
    """A method of a driver that is written for a contract which changes.

    :param text: what is old about it, from when on that counts, and what to do.
    :param refused: that time has come.
    """

    text: str
    refused: bool


def _minor(release: str) -> tuple[int, int]:
    major, minor = release.split(".")[:2]
    return int(major), int(minor)


def is_in_force(release: str) -> bool:
    """Whether this version of Pannier is of a minor release, ``0.3``, or of a later one."""
    return _minor(pannier.__version__) >= _minor(release)


def check_announcement(since: str, required: str) -> None:
    """Raise ValueError unless one minor release lies before the other."""
    if _minor(since) >= _minor(required):
        raise ValueError(f"announced in {since} for {required}: no release lies between")


# Marks of a contract's methods.


def gains(parameter: str, *, since: str, required: str) -> Callable[[F], F]:
    """Mark a method that has a new parameter, which drivers must take from a release on.

    Until then it is left out where the driver does not know it and it says nothing new.

    :param parameter: can be given by name alone, and has a default.
    """
    check_announcement(since, required)

    def mark(method: F) -> F:
        found = inspect.signature(method).parameters[parameter]
        if found.kind is not found.KEYWORD_ONLY or found.default is found.empty:
            raise ValueError(f"{parameter} must have a default, and be given by name alone")
        gained = (*getattr(method, _GAINS, ()), Gained(parameter, required))
        setattr(method, _GAINS, gained)
        return method

    return mark


def goes(*, since: str, removed: str, instead: str = "") -> Callable[[F], F]:
    """Mark a method that will not be asked for any more; it has a default, for newer drivers.

    :param instead: the method that takes its place, by default by calling it. A driver with both
        serves old and new versions of Pannier, and is no old form.
    """
    check_announcement(since, removed)

    def mark(method: F) -> F:
        setattr(method, _GOES, _Going(removed, instead))
        return method

    return mark


# What follows from them.


def old_forms(contract: type[Driver], cls: type[Driver]) -> Iterator[OldForm]:
    """Yield what a driver's class has in a form that the contract announces the end of."""
    for name, method in inspect.getmembers(contract, inspect.isfunction):
        going: _Going | None = getattr(method, _GOES, None)
        if going is not None and _has_own(cls, contract, name):
            yield from _going_form(contract, cls, name, going)
        for parameter in gained(contract, name):
            if not _takes(getattr(cls, name), parameter.name):
                yield OldForm(
                    f"{cls.__name__}.{name}() must take {parameter.name!r} from Pannier"
                    f" {parameter.required} on: add it, as {contract.__name__} has it",
                    is_in_force(parameter.required),
                )


def _has_own(cls: type, contract: type, name: str) -> bool:
    return getattr(cls, name) is not getattr(contract, name)


def _going_form(
    contract: type[Driver], cls: type[Driver], name: str, going: _Going
) -> Iterator[OldForm]:
    text = f"{cls.__name__}.{name}() is not asked for from Pannier {going.removed} on"
    due = is_in_force(going.removed)
    if not going.instead:
        if not due:  # then it is of no use, and no harm
            yield OldForm(f"{text}, and nothing in its place", refused=False)
    elif not _has_own(cls, contract, going.instead):
        yield OldForm(f"{text}: implement {going.instead}()", due)


def gained(contract: type, name: str) -> tuple[Gained, ...]:
    """Return the parameters that a method of a contract gains."""
    found: tuple[Gained, ...] = getattr(getattr(contract, name), _GAINS, ())
    return found


def _takes(method: Any, parameter: str) -> bool:
    parameters = inspect.signature(method).parameters.values()
    return any(item.name == parameter or item.kind is item.VAR_KEYWORD for item in parameters)


def without_unknown(
    contract: type, name: str, target: object, given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the arguments of a call by name without those that the target does not know yet.

    :raises UnsupportedOperation: one of them is not the default, so that it cannot be left out.
    """
    defaults = inspect.signature(getattr(contract, name)).parameters
    unknown = {
        parameter.name
        for parameter in gained(contract, name)
        if parameter.name in given and not _takes(getattr(target, name), parameter.name)
    }
    for parameter in unknown:
        if given[parameter] != defaults[parameter].default:
            raise UnsupportedOperation(
                f"the driver does not know {parameter!r} in {name}() yet",
                hint="it was written for an earlier Pannier: ask its author for a newer version",
            )
    return {key: value for key, value in given.items() if key not in unknown}
