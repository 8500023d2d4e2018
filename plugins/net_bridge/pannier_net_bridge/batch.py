"""Steps that the kernel takes together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.drivers.operations import Operation, Step, Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Batch"]


@dataclass(slots=True)
class Batch(Operation):
    """An operation that the kernel carries out as one batch, though a reader sees several steps."""

    steps: Callable[[], Sequence[Step]]
    do: Callable[[], None]
    revert: Callable[[], None]

    def describe(self) -> Sequence[Step]:
        """Return the steps, with what is known of them by now."""
        return self.steps()

    def execute(self) -> Sequence[Timing]:
        """Take all steps; each is given the time of all."""
        begin = time.monotonic_ns()
        self.do()
        end = time.monotonic_ns()
        return [Timing(step, begin, end) for step in self.steps()]

    def undo(self) -> None:
        """Take them back."""
        self.revert()
