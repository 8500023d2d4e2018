"""What the kit says of each of its tests: which drivers it is for, and whether it must pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from pannier.drivers.announced import check_announcement, is_in_force

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import StrEnum

__all__ = ["Rule", "announced", "mandatory", "refuses", "requires", "rule_of"]

F = TypeVar("F", bound="Callable[..., object]")

_RULE: Final = "__pannier_rule__"


class Rule:
    """What the kit says of one of its tests.

    :ivar required: the minor release from which on it must pass; empty for always.
    """

    def __init__(self) -> None:
        self.core = False
        self.required = ""
        self.requires: tuple[StrEnum, ...] = ()
        self.refuses: tuple[StrEnum, ...] = ()

    @property
    def is_in_force(self) -> bool:
        """Whether a driver that fails it is wrong, and not only warned."""
        return not self.required or is_in_force(self.required)

    @property
    def mandatory(self) -> bool:
        """Whether no driver may waive it."""
        return self.core and self.is_in_force


def rule_of(function: object) -> Rule:
    """Return what the kit says of a test; of one that is not the kit's, nothing."""
    return getattr(function, _RULE, None) or Rule()


def _rule(function: Callable[..., object]) -> Rule:
    if not hasattr(function, _RULE):
        setattr(function, _RULE, Rule())
    rule: Rule = getattr(function, _RULE)
    return rule


def mandatory(test: F) -> F:
    """Mark a test of the core of the contract: no driver may waive it."""
    _rule(test).core = True
    return test


def announced(*, since: str, required: str) -> Callable[[F], F]:
    """Mark a new test, or one that asks for more than before: failing it is a warning at first.

    :param since: the minor release that it comes with, ``0.2``.
    :param required: the one from which on it must pass; if it is mandatory, for every driver.
    :raises ValueError: that is not a later one.
    """
    check_announcement(since, required)

    def mark(test: F) -> F:
        _rule(test).required = required
        return test

    return mark


def requires(*capabilities: StrEnum) -> Callable[[F], F]:
    """Mark a test that applies only to a driver that declares all of these."""

    def mark(test: F) -> F:
        _rule(test).requires += capabilities
        return test

    return mark


def refuses(*capabilities: StrEnum) -> Callable[[F], F]:
    """Mark a test that applies only to a driver that declares none of these."""

    def mark(test: F) -> F:
        _rule(test).refuses += capabilities
        return test

    return mark
