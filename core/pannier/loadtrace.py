"""How long each plugin took to be imported, asked and opened: ``pannier drivers --trace``."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pannier.bounded import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LoadCall", "LoadTrace"]


@dataclass(frozen=True, slots=True)
class LoadCall:
    """One call of a plugin's own code.

    :param plugin: the entry point's name.
    :param call: ``import``, the hook's name, ``probe`` or ``open``.
    :param kind: of the driver that was probed or opened, with *id*; else empty.
    :param begin: on CLOCK_MONOTONIC, in nanoseconds; likewise *end*.
    :param error: what it raised; empty where it did not.
    """

    plugin: str
    call: str
    kind: str
    id: str
    begin: int
    end: int
    error: str = ""

    def row(self) -> dict[str, object]:
        """Return it as the API and ``--format json`` have it."""
        return {
            "Plugin": self.plugin,
            "Call": self.call,
            "Kind": self.kind,
            "Id": self.id,
            "BeginNs": self.begin,
            "EndNs": self.end,
            "Error": self.error,
        }


@dataclass(slots=True)
class LoadTrace:
    """The calls of plugins' code while they were loaded, in order."""

    calls: list[LoadCall] = field(default_factory=list)

    @contextlib.contextmanager
    def timed(self, plugin: str, call: str, kind: str = "", id: str = "") -> Iterator[None]:
        """Take note of what the block calls, and of how it ends."""
        begin = time.monotonic_ns()
        problem = ""
        try:
            yield
        except Exception as error:
            problem = describe(error)
            raise
        finally:
            end = time.monotonic_ns()
            self.calls.append(LoadCall(plugin, call, kind, id, begin, end, problem))
