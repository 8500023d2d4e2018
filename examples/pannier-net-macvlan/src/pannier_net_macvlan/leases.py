"""Networks and leases on disk: one SQLite database, in the folder that survives a reboot.

Each change is a transaction: whoever opens the database next, after a kill at any moment, finds it
made or not made. Nothing is synced to the disk for it; a power cut may cost the last changes, but
no container outlives one.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Book", "Lease"]

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS network (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (
    network TEXT, container TEXT, record TEXT NOT NULL, PRIMARY KEY (network, container)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """What an endpoint has; empty strings and 0 for what it has not, or not yet.

    :param network: the network's id.
    :param netns: the inode of the container's network namespace, by which it is found again.
    :param index: the link's in there, from when it is made; 0 where that is not known.
    """

    network: str
    container: str
    address: str
    address6: str = ""
    mac: str = ""
    interface: str = ""
    netns: int = 0
    index: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from all others."""
        return self.network, self.container


class Book:
    """The networks and leases, in memory and on disk. Callers on any thread take turns.

    :param path: the database; made where it is not there.
    :raises DriverError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_TABLES)
            networks = self._database.execute("SELECT id, record FROM network").fetchall()
            leases = self._database.execute("SELECT record FROM lease").fetchall()
        except sqlite3.Error as error:
            raise DriverError(
                f"could not read {path}: {error}",
                hint="if it is damaged move it away: the engine knows which containers run",
            ) from error
        self._networks: dict[str, dict[str, Any]] = {id: json.loads(text) for id, text in networks}
        found = (Lease(**json.loads(text)) for (text,) in leases)
        self._leases = {lease.key: lease for lease in found}

    def close(self) -> None:
        """Close the database. Idempotent."""
        with self._lock:
            self._database.close()

    def networks(self) -> list[dict[str, Any]]:
        """Return the record of every network."""
        with self._lock:
            return list(self._networks.values())

    def put_network(self, id: str, record: dict[str, Any]) -> None:
        """Keep a network.

        :raises DriverError: it could not be written.
        """
        with self._lock:
            self._write("REPLACE INTO network VALUES (?, ?)", id, json.dumps(record))
            self._networks[id] = record

    def remove_network(self, id: str) -> None:
        """Forget a network and its leases. Idempotent."""
        with self._lock:
            for lease in self.leases(id):
                self.release(lease)
            self._write("DELETE FROM network WHERE id = ?", id)
            self._networks.pop(id, None)

    def leases(self, network: str = "") -> list[Lease]:
        """Return the leases of a network, or of all."""
        with self._lock:
            return [one for one in self._leases.values() if network in ("", one.network)]

    def lease(self, network: str, container: str) -> Lease | None:
        """Return an endpoint's lease."""
        with self._lock:
            return self._leases.get((network, container))

    def put_lease(self, lease: Lease) -> None:
        """Keep a lease, in place of an earlier one of the same endpoint.

        :raises DriverError: it could not be written.
        """
        # dataclasses.asdict() copies deeply, which these values do not need.
        record = {field.name: getattr(lease, field.name) for field in fields(lease)}
        with self._lock:
            self._write("REPLACE INTO lease VALUES (?, ?, ?)", *lease.key, json.dumps(record))
            self._leases[lease.key] = lease

    def release(self, lease: Lease) -> None:
        """Forget a lease. Idempotent."""
        with self._lock:
            if self._leases.pop(lease.key, None) is not None:
                self._write("DELETE FROM lease WHERE network = ? AND container = ?", *lease.key)

    def hold(self, leases: Iterable[Lease]) -> None:
        """Keep these leases and release all others."""
        wanted = {lease.key: lease for lease in leases}
        with self._lock:
            self._write("BEGIN")
            try:
                for lease in self.leases():
                    if lease.key not in wanted:
                        self.release(lease)
                for lease in wanted.values():
                    if self._leases.get(lease.key) != lease:
                        self.put_lease(lease)
            finally:
                self._write("COMMIT")

    def _write(self, statement: str, *values: str) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise DriverError(
                f"could not write to {self._path}: {error}",
                hint="free some space on its filesystem",
            ) from error
