"""What a build says, in the Dockerfile's order although stages are built side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.build.model import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pannier.build.model import Event

__all__ = ["Channel", "Ordered"]


class Channel:
    """Where one stage says what it does.

    :param first: the number of its first step.
    :param total: how many steps the build has.
    """

    def __init__(self, ordered: Ordered, number: int, first: int, total: int) -> None:
        self._ordered = ordered
        self._number = number
        self._step = first
        self._total = total

    def say(self, text: str) -> None:
        """Say a line."""
        self.send(Output(f"{text}\n"))

    def step(self, original: str) -> None:
        """Say that the next step begins."""
        self.say(f"Step {self._step}/{self._total} : {original}")
        self._step += 1

    def write(self, text: str) -> None:
        """Pass on what a command wrote."""
        self.send(Output(text))

    def send(self, event: Event) -> None:
        """Tell of an event."""
        self._ordered.send(self._number, event)

    def finish(self) -> None:
        """Say that the stage is done, so that the next one may speak."""
        self._ordered.finish(self._number)


class Ordered:
    """Lets stages speak one after another; what others say meanwhile waits.

    :param order: the numbers of the stages.
    :param deliver: takes the events.
    """

    def __init__(self, order: Sequence[int], deliver: Callable[[Event], None]) -> None:
        self._order = list(order)
        self._waiting: dict[int, list[Event]] = {number: [] for number in order}
        self._done: set[int] = set()
        self._deliver = deliver

    def add(self, number: int) -> None:
        """Add a stage that was not foreseen; it speaks at once."""
        if number not in self._waiting:
            self._waiting[number] = []
            self._order.insert(0, number)

    def send(self, number: int, event: Event) -> None:
        """Take an event of a stage."""
        if self._order and self._order[0] == number:
            self._deliver(event)
        else:
            self._waiting[number].append(event)

    def finish(self, number: int) -> None:
        """Let the next stage speak, if it was this one's turn."""
        self._done.add(number)
        while self._order and self._order[0] in self._done:
            self._order.pop(0)
            if self._order:
                self._flush(self._order[0])

    def fail(self, number: int) -> None:
        """Show what a failed stage has said, whoever's turn it is."""
        self._flush(number)

    def _flush(self, number: int) -> None:
        waiting, self._waiting[number] = self._waiting[number], []
        for event in waiting:
            self._deliver(event)
