"""The wall between the engine and strangers' drivers.

The engine never holds a driver itself but a guard of it, which offers the same contract. Whatever a
driver raises leaves the guard as a :class:`~pannier.errors.PannierError` that names the driver and
what it was asked, whether it was ``SystemExit`` or its like, or an error that only calls itself
Pannier's; and each answer is looked at, so that a wrong one is found where it was given and not
where it is used. The operations of a plan, its result, and the watches that a driver hands out are
guarded likewise.

A guard cannot end a call that hangs: calls are made where nobody waits for ever
(:mod:`pannier.engine.pool`, :class:`pannier.bounded.Patience`). What it can do is to let no more
into a driver in which many hang already, so that one driver does not take every thread.

All guards are made in one way, from a contract: an abstract class whose annotations say what its
methods return. A call through one costs a microsecond or two.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType, NoneType
from typing import Any, Final, TypeVar, get_args, get_origin

from pannier.answers import Check, fits, returned, returned_words
from pannier.bounded import describe, is_whole
from pannier.drivers.announced import gained, without_unknown
from pannier.drivers.base import Driver
from pannier.drivers.operations import Abandonment, Operation, Plan, Step
from pannier.drivers.resources import OomWatch
from pannier.drivers.runtime import RuntimeWatch
from pannier.errors import ContractViolation, DriverError, UnsupportedOperation

__all__ = ["guard"]

D = TypeVar("D", bound=Driver)

_Taker = Callable[["_Caller", str, Any], Any]
"""Looks at an answer to what was asked, and returns it, guarded where it needs to be."""

LONG: Final = 30.0
"""Seconds after which a call counts as hanging, as far as the driver's other calls go."""
MOST_LONG: Final = 32
"""How many calls may hang in a driver before it is asked nothing more."""
_MOST_LISTED: Final = 1_000_000
"""However long a driver goes on to yield ids, there are not so many containers or layers."""

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})
_FAULT: Final = "a fault of the driver's: the daemon's log has the traceback, for its author"
_REFUSED: Final = "the host refused it; `pannier doctor` looks at what the drivers need"
_BROKEN: Final = "a fault of the driver's: tell its author, or use another driver"

_STREAMING: Final = frozenset({"create_layer", "write_diff"})
"""Where a stream of the engine's own is read or written, for as long as it takes: an OSError may be
the stream's, whose reader knows what to say of it."""

_HANDED_OUT: Final = (RuntimeWatch, OomWatch)
"""What a driver hands out that is asked something later."""

_log = logging.getLogger("pannier.drivers")


class _Caller:
    """Calls one driver's code: for its guard, and for those of what it hands out."""

    __slots__ = ("_since", "id", "name")

    def __init__(self, driver: Driver) -> None:
        self.id = driver.id
        self.name = f"the {driver.kind} driver {driver.id!r}"
        self._since: dict[int, float] = {}  # by the thread that is in the driver

    def ask(
        self,
        what: str,
        target: object,
        method: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = _NONE,
        *,
        then: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Call a method of *target*, and return what *then* makes of its answer.

        :param what: the same in words, for errors.
        :raises DriverError: it raised what is no PannierError, or the driver hangs.
        """
        with self.asking(what, streams=method in _STREAMING):
            answer = getattr(target, method)(*args, **kwargs)
            return answer if then is None else then(answer)

    def asking(self, what: str, *, streams: bool = False) -> _Asking:
        """Return what is to be around code of the driver's.

        :param streams: it reads or writes a stream of the engine's.
        """
        return _Asking(self, what, streams)

    def enter(self, what: str, *, counts: bool) -> Abandonment | None:
        """Take note that this thread is in the driver from now on; return who waits for it.

        :raises DriverError: too many threads hang in it.
        """
        if len(self._since) >= MOST_LONG:
            self._check_alive(what)
        waiting = Abandonment.current()
        if waiting is not None:
            waiting.doing = f"{self.name} in {what}"
        if counts:
            self._since[threading.get_ident()] = time.monotonic()
        return waiting

    def leave(self, waiting: Abandonment | None) -> None:
        """Take note that this thread is out of the driver again."""
        self._since.pop(threading.get_ident(), None)
        if waiting is not None:
            waiting.doing = ""

    def _check_alive(self, what: str) -> None:
        limit = time.monotonic() - LONG
        if sum(since < limit for since in tuple(self._since.values())) >= MOST_LONG:
            raise DriverError(
                f"{self.name} was not asked to {what}: {MOST_LONG} earlier calls hang in it",
                hint="restart the daemon, and tell the driver's author where its log says it hangs",
            )

    def failed(self, what: str, error: BaseException) -> DriverError:
        """Return the error to raise in place of what the driver raised."""
        refused = isinstance(error, OSError)
        if not refused:
            _log.error("%s failed in %s", self.name, what, exc_info=error)
        hint = _REFUSED if refused else _FAULT
        return DriverError(f"{self.name} failed in {what}: {describe(error)}", hint=hint)

    def look(self, what: str, wanted: str, check: Check, answer: Any) -> None:
        """Look at an answer.

        :raises ContractViolation: it is not what is *wanted*.
        """
        try:
            good = check(answer)
        except BaseException:  # noqa: BLE001 - a stranger's object may raise anything
            good = False
        if not good:
            raise ContractViolation(
                f"{self.name} broke its contract: {what} gave {_shown(answer)}, "
                f"where {wanted} was due",
                hint=_BROKEN,
            )


class _Asking:
    """Has what is raised in a block of a driver's code leave it as an error of Pannier's."""

    __slots__ = ("_caller", "_streams", "_waiting", "_what")

    def __init__(self, caller: _Caller, what: str, streams: bool) -> None:  # noqa: FBT001 - ours
        self._caller = caller
        self._what = what
        self._streams = streams
        self._waiting: Abandonment | None = None

    def __enter__(self) -> None:
        self._waiting = self._caller.enter(self._what, counts=not self._streams)

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        self._caller.leave(self._waiting)
        if error is None:
            return
        if not is_whole(error):
            if not (self._streams and isinstance(error, OSError)):
                raise self._caller.failed(self._what, error) from error
        elif isinstance(error, UnsupportedOperation):
            with contextlib.suppress(AttributeError):  # it may be a subclass with a fixed hint
                error.hint = error.hint or f"{self._caller.name} refused it in {self._what}"


def _shown(answer: object) -> str:
    if answer is None or type(answer) in (bool, int):
        return repr(answer)
    return f"something of the type {type(answer).__name__}"


class _Guard:
    """What all guards are; each is a class of its own contract besides.

    :param inside: what the target was got by, in words that a method's name is put behind.
    """

    def __init__(self, caller: _Caller, target: object, inside: str = "") -> None:
        self._caller = caller
        self._target = target
        self._inside = inside


@functools.cache
def _guard_class(contract: type) -> Any:
    """Return a class that offers a contract, and asks another object for whatever it is asked."""
    names = {
        name
        for base in contract.__mro__[:-1]
        for name, member in vars(base).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    members: dict[str, Any] = {name: _method(contract, name) for name in names}
    members["__module__"] = __name__
    if issubclass(contract, Driver):
        members["probe"] = classmethod(lambda *_: None)
    return type(f"Guarded{contract.__name__}", (_Guard, contract), members)


def _method(contract: type, name: str) -> Callable[..., Any]:
    what = f"{name}()"
    annotation = returned(contract, name)
    take = _taker(annotation, returned_words(contract, name), name)
    then = _listed if get_origin(annotation) is Iterator else None
    has_gained = bool(gained(contract, name))

    def method(self: _Guard, *args: Any, **kwargs: Any) -> Any:
        whole = self._inside + what
        if has_gained:
            kwargs = dict(without_unknown(contract, name, self._target, kwargs))
        answer = self._caller.ask(whole, self._target, name, args, kwargs, then=then)
        return take(self._caller, whole, answer)

    method.__name__ = name
    return method


def _listed(answer: Any) -> Any:
    """Take all that a driver's own code yields, where its errors are still the driver's."""
    if isinstance(answer, str | bytes):
        return answer  # which is no list, and found to be none
    found = list(itertools.islice(answer, _MOST_LISTED + 1))
    return None if len(found) > _MOST_LISTED else found


# How answers are looked at.


def _is_open(descriptor: int) -> bool:
    os.fstat(descriptor)
    return True


def _is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


_BESIDES: Final[Mapping[str, tuple[str, Check]]] = {
    "open_layer": ("the descriptor of an open folder", _is_folder),
    "plan_open_root": ("the descriptor of an open folder", _is_folder),
    "plan_attach": (
        "an Attachment whose descriptors are open",
        lambda answer: all(map(_is_open, answer.descriptors)),
    ),
    "fileno": ("an open descriptor", _is_open),
    "exec": ("the id of a process", lambda pid: pid > 0),
}
"""What an annotation cannot say, by method: in words, and as a test."""


def _taker(annotation: Any, wanted: str, name: str) -> _Taker:
    if annotation is NoneType:
        return lambda _caller, _what, _answer: None
    if get_origin(annotation) is Plan:
        (result,) = get_args(annotation)
        return functools.partial(_take_plan, _taker(result, f"its {wanted}'s result", name))
    if get_origin(annotation) is Iterator:
        annotation = list[get_args(annotation)]  # type: ignore[misc] # a type made at run time
    check = fits(annotation)
    besides = _BESIDES.get(name)
    handed_out = [one for one in _HANDED_OUT if one in (annotation, *get_args(annotation))]

    def take(caller: _Caller, what: str, answer: Any) -> Any:
        caller.look(what, wanted, check, answer)
        if besides is not None:
            caller.look(what, *besides, answer)
        for contract in handed_out:
            if isinstance(answer, contract):
                return _guard_class(contract)(caller, answer, f"{what}: ")
        return answer

    return take


def _is_plan(plan: Any) -> bool:
    return (
        isinstance(plan, Plan)
        and isinstance(plan.operations, list | tuple)
        and all(isinstance(one, Operation) for one in plan.operations)
        and callable(plan.result)
    )


def _take_plan(take_result: _Taker, caller: _Caller, what: str, plan: Any) -> Plan[Any]:
    caller.look(what, "a Plan of operations", _is_plan, plan)

    def result() -> Any:
        part = f"{what}: result()"
        return take_result(caller, part, caller.ask(part, plan, "result"))

    return _GuardedPlan(caller, what, plan.operations, result)


class _GuardedPlan(Plan[Any]):
    """A driver's plan, whose operations are executed behind the wall, all in one go."""

    def __init__(
        self,
        caller: _Caller,
        what: str,
        operations: list[Operation],
        result: Callable[[], Any],
    ) -> None:
        super().__init__(caller.id, operations, result)
        self._caller = caller
        self._what = what

    def describe(self) -> list[Step]:
        """As that of any plan; steps are looked at."""
        what = f"{self._what}: describe()"
        with self._caller.asking(what):
            steps = super().describe()
        self._caller.look(what, "list[Step]", fits(list[Step]), steps)
        return steps

    def executing(self) -> _Asking:
        """Return what the transaction has around the operations."""
        return self._caller.asking(f"an operation of {self._what}")


def guard(driver: D, contract: type[D]) -> D:
    """Return a driver that asks *driver* for whatever the contract has it asked.

    :param driver: of a class that was examined when its plugin was loaded.
    """
    made: D = _guard_class(contract)(_Caller(driver), driver)
    for name in ("id", "priority", "capabilities", "config_type", "version"):
        if hasattr(type(driver), name):
            setattr(made, name, getattr(type(driver), name))
    return made
