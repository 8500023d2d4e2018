"""What plain layers became when they were compressed for a registry.

A layer that was committed, built or loaded is stored plain; registries and other engines expect a
compressed one. The compressed bytes are not kept, since the compressor makes the same ones again;
only their descriptor is, so that the next push knows what to look for in the registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.images.oci import OCI_LAYER, Descriptor

if TYPE_CHECKING:
    from pannier.database import Database

__all__ = ["CompressedLayers"]

_MIGRATIONS = [
    """CREATE TABLE compressed_layers (
        diff_id TEXT PRIMARY KEY, blob TEXT NOT NULL, size INTEGER NOT NULL
    )"""
]


class CompressedLayers:
    """The compressed form of layers, by diff id."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("compressed", _MIGRATIONS)

    def get(self, diff_id: str) -> Descriptor | None:
        """Return what a layer's compressed form is; None if it was never made."""
        row = self._database.row(
            "SELECT blob, size FROM compressed_layers WHERE diff_id = ?", diff_id
        )
        return None if row is None else Descriptor(f"{OCI_LAYER}+gzip", row[0], row[1])

    def put(self, diff_id: str, digest: str, size: int) -> Descriptor:
        """Note a layer's compressed form, and forget those of layers that no image has."""
        with self._database.transaction():
            self._database.execute(
                "REPLACE INTO compressed_layers VALUES (?, ?, ?)", diff_id, digest, size
            )
            self._database.execute(
                "DELETE FROM compressed_layers WHERE diff_id != ?"
                " AND diff_id NOT IN (SELECT diff_id FROM image_layers)",
                diff_id,
            )
        return Descriptor(f"{OCI_LAYER}+gzip", digest, size)
