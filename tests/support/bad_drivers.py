"""Drivers that misbehave: the fakes, of which a method does something that it must not."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from pannier.drivers.log import LogCapability
from pannier.drivers.operations import Action, Operation, Plan, Step
from pannier.drivers.runtime import RuntimeWatch
from pannier.errors import DriverError, DriverUnavailable, PannierError, UnsupportedOperation
from support.fakes import FakeNetwork, FakeRuntime, FakeStorage, FarLog

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NEVER",
    "BadLog",
    "BadNetwork",
    "BadRuntime",
    "BadStorage",
    "BadWatch",
    "Bare",
    "BareRefusal",
    "Mute",
    "Rude",
    "acting",
    "closed_descriptor",
    "ending_in",
    "gives",
    "hangs",
    "planning",
    "raises",
    "spoiled",
]

NEVER = threading.Event()
"""What a driver that hangs waits for. A test sets it at its end, so that no thread is left."""


class Rude(BaseException):
    """None of Exception's, and not to be asked what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Bare(DriverError):
    """An error of Pannier's whose author left out the constructor of its root."""

    def __init__(self) -> None:
        pass


class BareRefusal(UnsupportedOperation):
    """Likewise a refusal."""

    def __init__(self) -> None:
        pass


class Mute(DriverUnavailable):
    """An error of Pannier's that has all that it should, and does not show it."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def spoiled(error: PannierError, **parts: object) -> PannierError:
    """Return an error with parts that are not what they should be."""
    for name, part in parts.items():
        setattr(error, name, part)
    return error


class BadStorage(FakeStorage):
    """A storage driver beside the good one."""

    id: ClassVar[str] = "bad"


class BadNetwork(FakeNetwork):
    """A network driver beside the good ones."""

    id = "bad"


class BadRuntime(FakeRuntime):
    """A runtime driver beside the good one."""

    id: ClassVar[str] = "bad"


class BadLog(FarLog):
    """A log driver beside the good ones, which says that it can do everything."""

    id: ClassVar[str] = "bad"
    capabilities: ClassVar[frozenset[LogCapability]] = frozenset(LogCapability)


class BadWatch(RuntimeWatch):
    """A watch of which a part may be something else; always readable."""

    def __init__(self, **deeds: Callable[..., Any]) -> None:
        self._descriptor = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for name, deed in deeds.items():
            setattr(self, name, deed)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def read(self) -> list[Any]:
        """Have nothing to say, and leave the descriptor readable."""
        return []

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


# What a method may do instead of what its contract says.


def raises(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises."""

    def deed(*_: object, **__: object) -> Any:
        raise error

    return deed


def gives(answer: object) -> Callable[..., Any]:
    """Return a function that answers the same, whatever it is asked."""
    return lambda *_, **__: answer


def hangs(*_: object, **__: object) -> Any:
    """Do not return before the test's end."""
    NEVER.wait()


def planning(*operations: Operation) -> Callable[..., Any]:
    """Return a function that answers with a plan of these operations."""
    return lambda *_, **__: Plan("another", list(operations), lambda: None)


def acting(deed: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that answers with a plan, which does nothing but a deed."""
    return planning(Action(Step("do", "harm"), deed))


def ending_in(result: object) -> Callable[..., Any]:
    """Return a function that answers with a plan that does nothing, and has this result."""
    return lambda *_, **__: Plan("another", [], lambda: result)


def closed_descriptor() -> int:
    """Return the number of a descriptor that is closed, and that nothing will be given soon."""
    return 1 << 19
