"""What a transfer is asked for with, and what it tells meanwhile."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pannier.images.registry.auth import ANONYMOUS, Credentials
from pannier.images.registry.cancelling import Cancellation

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.images.oci import Platform
    from pannier.images.reference import Reference

__all__ = ["Throttle", "TransferEvent", "TransferRequest"]

_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class TransferEvent:
    """What happens to a layer, in Docker's words.

    :param id: the short form of the layer's digest; empty for the whole transfer.
    :param current: bytes done, 0 where there is nothing to count.
    :param total: 0 where that is not known.
    """

    status: str
    id: str = ""
    current: int = 0
    total: int = 0


def _ignore(_event: TransferEvent) -> None:
    pass


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """A pull or push.

    :param platform: which image of an index to take; None for this host's.
    :param report: told of what happens, from several threads.
    :param cancellation: ends the transfer.
    """

    reference: Reference
    credentials: Credentials = ANONYMOUS
    platform: Platform | None = None
    report: Callable[[TransferEvent], None] = _ignore
    cancellation: Cancellation = field(default_factory=Cancellation)


class Throttle:
    """Passes on what happens, but of one layer's progress at most ten messages a second.

    :param report: told the rest. The last of a layer's progress is always among it.
    """

    def __init__(self, report: Callable[[TransferEvent], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], float] = {}

    def __call__(self, event: TransferEvent) -> None:
        """Pass an event on, or not."""
        if event.current < event.total or (event.current and not event.total):
            now = time.monotonic()
            with self._lock:
                if now - self._last.get((event.id, event.status), -_INTERVAL) < _INTERVAL:
                    return
                self._last[event.id, event.status] = now
        self._report(event)
