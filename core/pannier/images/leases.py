"""Leases: what is being worked with is not collected.

A load, pull or commit writes blobs and layers that nothing in the database points to yet. It holds
a *lease* on each from before it is written until the transaction that points to it; a collector
leaves alone what anyone holds. Holding and collecting one key exclude each other through the key's
own lock, and the collector asks for leases first and the database second, so what is in work is
seen in one place or the other at every moment. Leases live in memory: after a crash, whatever the
database does not know is left over.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Lease", "Leases"]


class Lease:
    """Holds keys (digests, chain ids) until it is released.

    Several threads may hold through one lease; it is released once they are done.
    """

    def __init__(self, owner: Leases) -> None:
        self._owner = owner
        self._keys: set[str] = set()

    def hold(self, key: str) -> None:
        """Hold *key*; waits for a collector that is at it. A second hold changes nothing."""
        if key in self._keys:
            return
        with self._owner.locked(key):
            # Asked again under the lock: the layers of one pull come in on several threads.
            if key not in self._keys:
                self._owner.add(key)
                self._keys.add(key)

    @property
    def keys(self) -> frozenset[str]:
        """What is held."""
        return frozenset(self._keys)

    def release(self) -> None:
        """Let go of everything. Idempotent."""
        while self._keys:
            self._owner.drop(self._keys.pop())


class Leases:
    """Every lease of one image store, and a lock for each key in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._locks: dict[str, tuple[threading.RLock, int]] = {}

    @contextlib.contextmanager
    def lease(self) -> Iterator[Lease]:
        """Give a lease for the length of a block."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            lease.release()

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Exclude every other thread from *key*. Locks appear with use and go after it."""
        with self._lock:
            lock, users = self._locks.get(key) or (threading.RLock(), 0)
            self._locks[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._locks[key]
                if users == 1:
                    del self._locks[key]
                else:
                    self._locks[key] = lock, users - 1

    def held(self, key: str) -> bool:
        """Whether anyone holds *key*."""
        with self._lock:
            return self._held[key] > 0

    def add(self, key: str) -> None:
        """Count one more holder of *key*."""
        with self._lock:
            self._held[key] += 1

    def drop(self, key: str) -> None:
        """Count one holder less."""
        with self._lock:
            self._held[key] -= 1
            if self._held[key] <= 0:
                del self._held[key]
