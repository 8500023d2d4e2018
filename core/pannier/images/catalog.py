"""The images' tables: which images there are, what they consist of, what they are called.

An image is its configuration's digest. What can be derived (sizes, sharing, reference counts) is
asked of the tables, not stored.
"""

from __future__ import annotations

import contextlib
import re
import threading
from typing import TYPE_CHECKING, Any

from pannier.errors import NotFound
from pannier.images.config import ImageConfig
from pannier.images.digest import chain_ids
from pannier.images.model import Image, Layer
from pannier.images.oci import Descriptor
from pannier.images.reference import Reference, parse_reference
from pannier.images.timestamps import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pannier.database import Database
    from pannier.images.content import ContentStore
    from pannier.images.oci import Manifest

__all__ = ["Catalog"]

_MIGRATIONS = [
    """CREATE TABLE layers (
        chain_id TEXT PRIMARY KEY, diff_id TEXT NOT NULL, parent TEXT,
        size INTEGER NOT NULL, inodes INTEGER NOT NULL
    )""",
    """CREATE TABLE images (
        id TEXT PRIMARY KEY, manifest TEXT NOT NULL, manifest_type TEXT NOT NULL,
        manifest_size INTEGER NOT NULL, parent TEXT, tagged INTEGER
    )""",
    """CREATE TABLE image_layers (
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE, position INTEGER NOT NULL,
        chain_id TEXT NOT NULL, diff_id TEXT NOT NULL,
        blob TEXT NOT NULL, blob_size INTEGER NOT NULL, media_type TEXT NOT NULL,
        PRIMARY KEY (image, position)
    )""",
    "CREATE INDEX image_layers_chain ON image_layers (chain_id)",
    "CREATE INDEX image_layers_blob ON image_layers (blob)",
    "CREATE INDEX images_manifest ON images (manifest)",
    "CREATE INDEX images_parent ON images (parent)",
    # A tag leads to one image; a repository digest is a name like any other.
    """CREATE TABLE image_names (
        name TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
    )""",
    "CREATE INDEX image_names_image ON image_names (image)",
]

_HEX = re.compile(r"[0-9a-f]{1,64}")

_Fixed = tuple[Descriptor, ImageConfig, tuple[Layer, ...]]


class Catalog:
    """Reads and writes the images' tables."""

    def __init__(self, database: Database, content: ContentStore) -> None:
        self._database = database
        self._content = content
        self._lock = threading.Lock()
        # What never changes for an image and its manifest. Emptied of an image with its removal.
        self._fixed: dict[tuple[str, str], _Fixed] = {}
        database.migrate("images", _MIGRATIONS)

    # Looking up.

    def exists(self, image: str) -> bool:
        """Whether there is an image of this id."""
        return self._database.row("SELECT 1 FROM images WHERE id = ?", image) is not None

    def ids(self) -> list[str]:
        """Return the id of every image."""
        return [row[0] for row in self._database.rows("SELECT id FROM images")]

    def named(self, reference: Reference) -> str | None:
        """Return the id of the image that has this name; a digest counts more than a tag."""
        row = self._database.row("SELECT image FROM image_names WHERE name = ?", _key(reference))
        return None if row is None else str(row[0])

    def beginning_with(self, prefix: str) -> list[str]:
        """Return at most two ids that begin with *prefix* (with or without ``sha256:``)."""
        digits = prefix.removeprefix("sha256:")
        if not _HEX.fullmatch(digits):
            return []
        rows = self._database.rows(
            "SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2",
            *(f"sha256:{digits}", f"sha256:{digits}g"),
        )
        return [row[0] for row in rows]

    def image(self, image: str) -> Image | None:
        """Return an image by its full id; None if there is none."""
        row = self._database.row(
            "SELECT id, manifest, manifest_type, manifest_size, parent, tagged FROM images"
            " WHERE id = ?",
            image,
        )
        return None if row is None else self._image(row, self.names(image))

    def images(self) -> list[Image]:
        """Return every image."""
        with self._database.transaction():
            rows = self._database.rows(
                "SELECT id, manifest, manifest_type, manifest_size, parent, tagged FROM images"
            )
            named = self._database.rows("SELECT image, name FROM image_names")
        names: dict[str, list[str]] = {}
        for image, name in named:
            names.setdefault(image, []).append(name)
        found = []
        for row in rows:
            # One that was removed meanwhile, with its configuration, is left out.
            with contextlib.suppress(NotFound):
                found.append(self._image(row, _references(names.get(row[0], ()))))
        return found

    def _image(self, row: tuple[Any, ...], names: Sequence[Reference]) -> Image:
        image, manifest, media_type, size, parent, tagged = row
        descriptor, config, layers = self._parts(image, Descriptor(media_type, manifest, size))
        return Image(
            id=image,
            manifest=descriptor,
            config=config,
            layers=layers,
            tags=tuple(name.familiar for name in names if name.digest is None),
            digests=tuple(name.familiar for name in names if name.digest is not None),
            parent=parent,
            tagged=tagged,
        )

    def _parts(self, image: str, manifest: Descriptor) -> _Fixed:
        key = image, manifest.digest
        with self._lock:
            known = self._fixed.get(key)
        if known is not None:
            return known
        rows = self._database.rows(
            "SELECT image_layers.chain_id, image_layers.diff_id, media_type, blob, blob_size,"
            " COALESCE(layers.size, 0) FROM image_layers LEFT JOIN layers USING (chain_id)"
            " WHERE image = ? ORDER BY position",
            image,
        )
        layers = tuple(
            Layer(chain_id, diff_id, Descriptor(media_type, blob, blob_size), size)
            for chain_id, diff_id, media_type, blob, blob_size, size in rows
        )
        parts = manifest, ImageConfig.parse(self._content.read(image)), layers
        with self._lock:
            self._fixed[key] = parts
        return parts

    def names(self, image: str) -> list[Reference]:
        """Return every name of an image, sorted."""
        rows = self._database.rows("SELECT name FROM image_names WHERE image = ?", image)
        return _references(row[0] for row in rows)

    def names_with_blob(self, blob: str) -> list[Reference]:
        """Return the names, by digest, of the images that have this layer's blob.

        A tag says nothing of a registry: it may be of here alone.
        """
        rows = self._database.rows(
            "SELECT DISTINCT name FROM image_names JOIN image_layers USING (image)"
            " LEFT JOIN compressed_layers USING (diff_id)"
            " WHERE image_layers.blob = ? OR compressed_layers.blob = ?",
            *(blob, blob),
        )
        return [name for name in _references(row[0] for row in rows) if name.digest is not None]

    def names_of_repository(self, name: str) -> list[tuple[Reference, str]]:
        """Return every name in a repository (``docker.io/library/busybox``) with its image."""
        rows = self._database.rows(
            # The characters behind ":" and "@" end the ranges; a pattern would trip over "[::1]".
            "SELECT name, image FROM image_names WHERE (name >= ? AND name < ?)"
            " OR (name >= ? AND name < ?) ORDER BY name",
            *(f"{name}:", f"{name};", f"{name}@", f"{name}A"),
        )
        return [(parse_reference(row[0]), row[1]) for row in rows]

    def children(self, image: str) -> list[str]:
        """Return the ids of the images that were made from this one."""
        rows = self._database.rows("SELECT id FROM images WHERE parent = ?", image)
        return [row[0] for row in rows]

    def parents(self) -> set[str]:
        """Return the ids of all images that others were made from."""
        rows = self._database.rows("SELECT DISTINCT parent FROM images WHERE parent IS NOT NULL")
        return {row[0] for row in rows}

    def _line(self, image: str | None) -> set[str]:
        """Return an image with all that it was made from."""
        line: set[str] = set()
        while image is not None and image not in line:
            line.add(image)
            row = self._database.row("SELECT parent FROM images WHERE id = ?", image)
            image = None if row is None else row[0]
        return line

    # Changing.

    def add(self, config: ImageConfig, manifest: Manifest, parent: str | None = None) -> bool:
        """Add an image whose blobs and layers are all there; return whether it is new.

        An image that is known keeps the manifest it has, its blobs, and its parent if it has one.
        """
        with self._database.transaction():
            if self.exists(config.id):
                if parent is not None and config.id not in self._line(parent):
                    self._database.execute(
                        "UPDATE images SET parent = ? WHERE id = ? AND parent IS NULL",
                        *(parent, config.id),
                    )
                return False
            self._database.execute(
                "INSERT INTO images (id, manifest, manifest_type, manifest_size, parent)"
                " VALUES (?, ?, ?, ?, ?)",
                *(config.id, manifest.digest, manifest.media_type, len(manifest.raw), parent),
            )
            chains = chain_ids(config.diff_ids)
            parts = zip(chains, config.diff_ids, manifest.layers, strict=True)
            for position, (chain_id, diff_id, layer) in enumerate(parts):
                self._database.execute(
                    "INSERT INTO image_layers VALUES (?, ?, ?, ?, ?, ?, ?)",
                    *(config.id, position, chain_id, diff_id),
                    *(layer.digest, layer.size, layer.media_type),
                )
        return True

    def tag(self, image: str, reference: Reference) -> str | None:
        """Give an image a name; return the other image that lost it, if one did."""
        with self._database.transaction():
            previous = self.named(reference)
            self._database.execute(
                "REPLACE INTO image_names (name, image) VALUES (?, ?)", _key(reference), image
            )
            if reference.digest is None:
                self._database.execute("UPDATE images SET tagged = ? WHERE id = ?", now(), image)
        return None if previous == image else previous

    def untag(self, reference: Reference) -> None:
        """Take a name away. Idempotent."""
        with self._database.transaction():
            self._database.execute("DELETE FROM image_names WHERE name = ?", _key(reference))

    def delete(self, image: str) -> None:
        """Forget an image with its names. Idempotent."""
        with self._database.transaction():
            self._database.execute("DELETE FROM images WHERE id = ?", image)
        with self._lock:
            for key in [key for key in self._fixed if key[0] == image]:
                del self._fixed[key]

    # Counting.

    def references_blob(self, digest: str) -> bool:
        """Whether an image needs this blob."""
        row = self._database.row(
            "SELECT 1 FROM images WHERE id = ? OR manifest = ?"
            " UNION ALL SELECT 1 FROM image_layers WHERE blob = ? LIMIT 1",
            *(digest, digest, digest),
        )
        return row is not None

    def uses_layer(self, chain_id: str) -> bool:
        """Whether an image uses this layer."""
        query = "SELECT 1 FROM image_layers WHERE chain_id = ?"
        return self._database.row(query, chain_id) is not None

    def shared_layers(self) -> set[str]:
        """Return the chain ids that more than one image uses."""
        rows = self._database.rows(
            "SELECT chain_id FROM image_layers GROUP BY chain_id HAVING COUNT(*) > 1"
        )
        return {row[0] for row in rows}

    def layers_size(self) -> int:
        """Return the bytes of all layers that images use, each counted once."""
        row = self._database.row(
            "SELECT COALESCE(SUM(size), 0) FROM layers"
            " WHERE chain_id IN (SELECT chain_id FROM image_layers)"
        )
        assert row is not None
        return int(row[0])

    def content_size(self) -> int:
        """Return the bytes of all layers' blobs and manifests in use, each counted once."""
        row = self._database.row(
            "SELECT COALESCE(SUM(size), 0) FROM ("
            " SELECT blob AS digest, blob_size AS size FROM image_layers"
            " UNION SELECT manifest, manifest_size FROM images)"
        )
        assert row is not None
        return int(row[0])


def _references(names: Iterable[str]) -> list[Reference]:
    return [parse_reference(name) for name in sorted(names)]


def _key(reference: Reference) -> str:
    # A reference with both is one by digest: the tag is only for the reader.
    if reference.digest is not None:
        return f"{reference.name}@{reference.digest}"
    return str(reference)
