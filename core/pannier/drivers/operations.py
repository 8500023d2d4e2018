"""Operations: the small steps of which starting a container is made.

Each driver answers a request with a :class:`Plan`: a list of :class:`Operation`, and the result
that holds once all of them were executed. The engine strings the plans of all drivers together in
a :class:`Transaction`, which undoes in reverse what was done when a later one fails. The same list,
described instead of executed, is what ``pannier run --explain`` prints; executed with a recorder it
is ``--trace``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from pannier.errors import ContractViolation, DriverError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

__all__ = [
    "Abandonment",
    "Action",
    "Opening",
    "Operation",
    "Plan",
    "Recorder",
    "Step",
    "Timing",
    "Transaction",
]

T = TypeVar("T")

_log = logging.getLogger("pannier.operations")
_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a plan, for a reader.

    :param action: what is done, as a short verb phrase: ``mount``, ``write``, ``create link``.
    :param subject: what it is done to: a path, a link's name, a namespace.
    :param detail: how: options, a value, an address; may be empty.
    """

    action: str
    subject: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.action} {self.subject} {self.detail}".rstrip()


@dataclass(frozen=True, slots=True)
class Timing:
    """A step that was executed: when it began and ended, on CLOCK_MONOTONIC, in nanoseconds."""

    step: Step
    begin: int
    end: int


class Operation(ABC):
    """Something to do to the kernel or the disk that can be described, done and undone."""

    @abstractmethod
    def describe(self) -> Sequence[Step]:
        """Say what :meth:`execute` would do, without doing or reserving anything.

        Most operations are one step. One that is carried out in another process (a container's
        first process, say) lists every step taken there.
        """

    @abstractmethod
    def execute(self) -> Sequence[Timing] | None:
        """Do it. An operation that is carried out elsewhere returns its steps' own timings."""

    def undo(self) -> None:  # noqa: B027 - not everything needs undoing
        """Take it back after a later operation has failed. Must be idempotent."""


@dataclass(slots=True)
class Action(Operation):
    """An operation made of functions, for what needs no class of its own."""

    step: Step
    do: Callable[[], object]
    revert: Callable[[], object] | None = None

    def describe(self) -> Sequence[Step]:
        """Return the one step."""
        return (self.step,)

    def execute(self) -> None:
        """Call :attr:`do`."""
        self.do()

    def undo(self) -> None:
        """Call :attr:`revert`, where there is one."""
        if self.revert is not None:
            self.revert()


@dataclass(slots=True)
class Opening(Operation):
    """An operation that opens something, for a plan whose result is a descriptor: a mount, say.

    The plan's result is :meth:`take`; until then the operation owns the descriptor.
    """

    steps: Sequence[Step]
    open: Callable[[], int]
    _descriptor: int = -1

    def describe(self) -> Sequence[Step]:
        """Return the steps."""
        return self.steps

    def execute(self) -> None:
        """Call :attr:`open`, and keep what it returns."""
        self._descriptor = self.open()

    def undo(self) -> None:
        """Close the descriptor, unless it was handed over."""
        if self._descriptor >= 0:
            os.close(self.take())

    def take(self) -> int:
        """Hand the descriptor over: it is the caller's from now on, and not undone."""
        assert self._descriptor >= 0, "nothing was opened"
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor


@dataclass(slots=True)
class Plan(Generic[T]):
    """What a driver would do for a request, and what the request's answer is once it was done.

    :param driver: the id of the driver that asks for the operations.
    :param operations: in the order of execution.
    :param result: called once, after the last operation was executed.
    """

    driver: str
    operations: list[Operation]
    result: Callable[[], T]

    def describe(self) -> list[Step]:
        """Return every step of every operation, in order."""
        return [step for operation in self.operations for step in operation.describe()]

    def executing(self) -> AbstractContextManager[None]:
        """Return what is around the execution of the operations: here, nothing."""
        return _NOTHING


class Recorder(Protocol):
    """Something that is told of every step executed."""

    def record(self, driver: str, timing: Timing) -> None:
        """Take note that *driver*'s step was executed at these times."""


class Abandonment:
    """Nobody waits any longer for what is done on this thread; set from another one.

    Used as a context manager by whoever makes the call. A transaction on that thread does not go on
    once it is set: what hung comes back to a world that took it for failed.
    """

    __slots__ = ("_before", "doing", "is_set")
    _here = threading.local()

    def __init__(self) -> None:
        self.is_set = False
        self.doing = ""
        """Which driver is being asked on the thread, and what, in words; empty for none."""
        self._before: Abandonment | None = None

    def __enter__(self) -> None:
        self._before = getattr(self._here, "current", None)
        self._here.current = self

    def __exit__(self, *_: object) -> None:
        self._here.current = self._before

    def set(self) -> None:
        """Say that nobody waits."""
        self.is_set = True

    @classmethod
    def current(cls) -> Abandonment | None:
        """Return what somebody may set who waits for this thread; None where nobody does."""
        found: Abandonment | None = getattr(cls._here, "current", None)
        return found

    @classmethod
    def check(cls) -> None:
        """Raise DriverError where nobody waits for this thread any longer."""
        current = cls.current()
        if current is not None and current.is_set:
            raise DriverError("given up meanwhile, because it took too long")


@dataclass(slots=True)
class Transaction:
    """Runs plans one after another; undoes all of them, in reverse, when asked to.

    A plan that fails is undone up to the failing operation, *with* the plans before it: a
    transaction succeeds as a whole or leaves nothing behind. An undo that fails is logged and does
    not keep the others from being tried.
    """

    recorder: Recorder | None = None
    _done: list[tuple[str, Operation]] = field(default_factory=list)

    def run(self, plan: Plan[T]) -> T:
        """Execute *plan* and return its result; on an error roll everything back and raise it."""
        try:
            with plan.executing():
                for operation in plan.operations:
                    self._execute(plan.driver, operation)
            Abandonment.check()
            return plan.result()
        except BaseException:
            self.rollback()
            raise

    def _execute(self, driver: str, operation: Operation) -> None:
        Abandonment.check()
        # Listed before it runs: an operation that fails half-way is undone too.
        self._done.append((driver, operation))
        if self.recorder is None:
            operation.execute()
            return
        begin = time.monotonic_ns()
        inner = operation.execute()
        if inner is None:
            inner = [Timing(step, begin, time.monotonic_ns()) for step in operation.describe()[:1]]
        for timing in inner:
            if not (isinstance(timing, Timing) and isinstance(timing.step, Step)):
                raise ContractViolation(f"{driver}: an operation gave a time that is none")
            self.recorder.record(driver, timing)

    def rollback(self) -> None:
        """Undo what was done, last first. A second call does nothing."""
        while self._done:
            driver, operation = self._done.pop()
            try:
                operation.undo()
            except BaseException:  # noqa: BLE001 - the other undos must still be tried
                _log.exception("%s: could not undo: %s", driver, _said(operation))


def _said(operation: Operation) -> Sequence[Step] | str:
    try:
        return operation.describe()
    except BaseException:  # noqa: BLE001 - this is for the log only
        return "an operation that cannot be described"
