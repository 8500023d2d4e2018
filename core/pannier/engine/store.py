"""The engine's tables in the state database.

What is fixed at creation is kept apart from what changes as the container lives, so that a change
of state writes a short row.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping  # noqa: TC003 - the codec reads the types below
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pannier.drivers.network import Endpoint  # noqa: TC001 - as above
from pannier.engine import codec
from pannier.engine.model import Container, ContainerState, Network, Volume
from pannier.images.model import ImageUser

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pannier.database import Database

__all__ = ["Store"]

_MIGRATIONS = (
    """CREATE TABLE containers (
        id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL, image TEXT NOT NULL,
        definition TEXT NOT NULL, state TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE TABLE networks (id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL, value TEXT NOT NULL)",
    "CREATE TABLE volumes (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE loose_volumes (name TEXT PRIMARY KEY) WITHOUT ROWID",
    """CREATE TABLE image_mounts (
        container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE, image TEXT NOT NULL,
        PRIMARY KEY (container, image)) WITHOUT ROWID""",
)


@dataclass(frozen=True, slots=True)
class _Changing:
    """The part of a container that changes."""

    state: ContainerState = field(default_factory=ContainerState)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)


class Store:
    """Reads and writes containers, networks and volumes. Each method is one transaction.

    A volume is *loose* that was made for a container which is not there yet, or that is to go with
    one which is gone already. Whoever finds it so after a kill removes it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("engine", _MIGRATIONS)

    def containers(self) -> Iterator[Container]:
        """Yield every container, oldest first."""
        found = []
        for name, definition, state in self._database.rows(
            "SELECT name, definition, state FROM containers"
        ):
            changing = codec.loads(_Changing, state)
            container = codec.loads(Container, definition)
            found.append(
                replace(container, name=name, state=changing.state, endpoints=changing.endpoints)
            )
        yield from sorted(found, key=lambda item: item.created)

    def add(self, container: Container) -> None:
        """Keep a new container; its volumes are loose no longer."""
        with self._database.transaction():
            for point in container.mounts:
                self.keep_volume(point.name)
            self._database.execute(
                "INSERT INTO containers VALUES (?, ?, ?, ?, ?)",
                container.id,
                container.name,
                container.image_id,
                _definition(container),
                codec.dumps(_Changing(container.state, container.endpoints)),
            )
            for image in {point.image for point in container.mounts if point.image}:
                self._database.execute(
                    "INSERT INTO image_mounts VALUES (?, ?)", container.id, image
                )

    def save_state(self, container: Container) -> None:
        """Keep a container's state and endpoints."""
        with self._database.transaction():
            self._database.execute(
                "UPDATE containers SET state = ? WHERE id = ?",
                codec.dumps(_Changing(container.state, container.endpoints)),
                container.id,
            )

    def save(self, container: Container) -> None:
        """Keep all of a container: after a rename, an update or a new network."""
        with self._database.transaction():
            self._database.execute(
                "UPDATE containers SET name = ?, definition = ?, state = ? WHERE id = ?",
                container.name,
                _definition(container),
                codec.dumps(_Changing(container.state, container.endpoints)),
                container.id,
            )

    def delete(self, id: str, volumes: Iterable[str] = ()) -> None:
        """Forget a container; *volumes*, which are to go with it, are loose from now on."""
        with self._database.transaction():
            self._database.execute("DELETE FROM containers WHERE id = ?", id)
            for name in volumes:
                self._database.execute("REPLACE INTO loose_volumes VALUES (?)", name)

    def image_users(self) -> list[ImageUser]:
        """Return which images containers use, as a transaction under way sees it."""
        rows = self._database.rows(
            "SELECT id, image, state, 0 FROM containers WHERE image != '' UNION ALL"
            " SELECT id, image_mounts.image, state, 1 FROM image_mounts"
            " JOIN containers ON containers.id = image_mounts.container"
        )
        return [
            ImageUser(id, image, codec.loads(_Changing, state).state.running, bool(mounted))
            for id, image, state, mounted in rows
        ]

    def networks(self) -> list[Network]:
        """Return every network."""
        rows = self._database.rows("SELECT value FROM networks")
        return [codec.loads(Network, value) for (value,) in rows]

    def put_network(self, network: Network) -> None:
        """Keep a network, new or changed."""
        with self._database.transaction():
            self._database.execute(
                "REPLACE INTO networks VALUES (?, ?, ?)",
                network.id,
                network.name,
                codec.dumps(network),
            )

    def delete_network(self, id: str) -> None:
        """Forget a network."""
        with self._database.transaction():
            self._database.execute("DELETE FROM networks WHERE id = ?", id)

    def volumes(self) -> list[Volume]:
        """Return every volume."""
        rows = self._database.rows("SELECT value FROM volumes")
        return [codec.loads(Volume, value) for (value,) in rows]

    def put_volume(self, volume: Volume, *, loose: bool = False) -> None:
        """Keep a volume, new or changed."""
        with self._database.transaction():
            self._database.execute(
                "REPLACE INTO volumes VALUES (?, ?)", volume.name, codec.dumps(volume)
            )
            if loose:
                self._database.execute("REPLACE INTO loose_volumes VALUES (?)", volume.name)

    def delete_volume(self, name: str) -> None:
        """Forget a volume."""
        with self._database.transaction():
            self._database.execute("DELETE FROM volumes WHERE name = ?", name)
            self.keep_volume(name)

    def loose_volumes(self) -> list[str]:
        """Return the names of the loose volumes."""
        return [name for (name,) in self._database.rows("SELECT name FROM loose_volumes")]

    def is_loose(self, name: str) -> bool:
        """Whether a volume is loose."""
        return bool(self._database.row("SELECT 1 FROM loose_volumes WHERE name = ?", name))

    def keep_volume(self, name: str) -> None:
        """Have a volume not be loose. Idempotent."""
        with self._database.transaction():
            self._database.execute("DELETE FROM loose_volumes WHERE name = ?", name)

    def identity(self) -> str:
        """Return this installation's id, made at the first call."""
        with self._database.transaction():
            row = self._database.row("SELECT value FROM facts WHERE name = 'id'")
            if row is not None:
                return str(row[0])
            identity = secrets.token_hex(16)
            self._database.execute("INSERT INTO facts VALUES ('id', ?)", identity)
            return identity


def _definition(container: Container) -> str:
    return codec.dumps(replace(container, name="", state=ContainerState(), endpoints={}))
