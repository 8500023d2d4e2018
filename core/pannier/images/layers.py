"""Layers: unpacked once by a storage driver, shared between images by chain id.

The driver holds the files; the table ``layers`` lists those whose content was verified against
their diff id. A layer that a driver has but the table has not was being made when the process
died, or failed its check, and goes when the store is opened. Of several drivers the first is the
default; the others have what containers were made with them for.
"""

from __future__ import annotations

import hashlib
import io
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, cast

from pannier.errors import Conflict, DriverError, DriverUnavailable, ImageInvalid, PannierError
from pannier.images.ahead import ReadAhead
from pannier.images.compression import CHUNK, open_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pannier.bounded import Patience
    from pannier.database import Database
    from pannier.drivers.storage import StorageDriver
    from pannier.images.compression import Limits
    from pannier.images.leases import Lease, Leases

__all__ = ["LayerStore", "LayerToMake"]

_KEY = "layer:"
"""Before a chain id in leases: the bottom layer's chain id may be its blob's digest as well."""

_log = logging.getLogger("pannier.images")


@dataclass(frozen=True, slots=True)
class LayerToMake:
    """What a layer is to be made from.

    :param parent: the chain id below, or None.
    :param verified: the blob is the plain tar stream itself, and its digest was checked.
    :param container: the key of a container's layer that the blob was written from, which the
        driver may take in place of the blob.
    """

    chain_id: str
    diff_id: str
    parent: str | None
    blob: str
    verified: bool
    container: str | None = None


class _Hashing(io.BufferedIOBase):
    """Hashes what is read through it, and hands it on as it comes."""

    def __init__(self, source: io.BufferedIOBase) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        """Return the digest of what was read."""
        return f"sha256:{self._hash.hexdigest()}"


class LayerStore:
    """The layers of the storage drivers, of which the first is the default.

    :param limits: how far a compressed layer may grow.
    :param patience: asks the drivers to remove layers, so that one that hangs keeps nobody else
        from the layers that it has.
    """

    def __init__(
        self,
        database: Database,
        drivers: Sequence[StorageDriver],
        leases: Leases,
        limits: Limits,
        patience: Patience,
    ) -> None:
        self._database = database
        self._drivers = drivers
        self._leases = leases
        self._limits = limits
        self._patience = patience

    def ensure(
        self,
        layer: LayerToMake,
        lease: Lease,
        open_blob: Callable[[str], io.RawIOBase],
        driver: StorageDriver | None = None,
    ) -> None:
        """Have the driver make a layer, unless it is here; held by *lease* from now on.

        Two callers that want one layer do the work once: the second waits for the first.

        :param driver: another than the default one.

        :raises ImageInvalid: the stream is broken, hostile, or not that of the diff id; nothing
            was kept.
        """
        self.hold(layer.chain_id, lease)
        driver = driver or self._drivers[0]
        with self._leases.locked(_KEY + layer.chain_id):
            if self.recorded(layer.chain_id) and driver.has_layer(layer.chain_id):
                return
            # What is here without a record was never verified.
            driver.remove_layer(layer.chain_id)
            with open_blob(layer.blob) as blob:
                size, inodes = self._make(layer, blob, driver)
            with self._database.transaction():
                self._database.execute(
                    "REPLACE INTO layers (chain_id, diff_id, parent, size, inodes)"
                    " VALUES (?, ?, ?, ?, ?)",
                    *(layer.chain_id, layer.diff_id, layer.parent, size, inodes),
                )

    def _make(
        self, layer: LayerToMake, blob: io.RawIOBase, driver: StorageDriver
    ) -> tuple[int, int]:
        if layer.container is not None:
            adopted = driver.adopt_container(layer.container, layer.chain_id)
            if adopted is not None:
                return adopted.size, adopted.inodes
        if layer.verified:
            with io.BufferedReader(blob, CHUNK) as whole:
                usage = driver.create_layer(layer.chain_id, layer.parent, whole)
            return usage.size, usage.inodes
        plain, _ = open_stream(cast("BinaryIO", blob), self._limits)
        # Inflating, hashing and unpacking cost about the same, and are done side by side.
        try:
            with (
                ReadAhead(plain) as inflated,
                _Hashing(inflated) as hashing,
                ReadAhead(hashing) as stream,
            ):
                usage = driver.create_layer(layer.chain_id, layer.parent, cast("BinaryIO", stream))
                # All of it counts, whatever the driver leaves unread.
                while stream.read(CHUNK):
                    pass
            _check(layer, hashing.digest())
        except BaseException:
            driver.remove_layer(layer.chain_id)
            raise
        return usage.size, usage.inodes

    def hold(self, chain_id: str, lease: Lease) -> None:
        """Have a layer stay, if it is here, until the lease is released."""
        lease.hold(_KEY + chain_id)

    def of_lease(self, keys: Iterable[str]) -> list[str]:
        """Return the chain ids among a lease's keys."""
        return [key.removeprefix(_KEY) for key in keys if key.startswith(_KEY)]

    def recorded(self, chain_id: str) -> bool:
        """Whether the layer was verified."""
        query = "SELECT 1 FROM layers WHERE chain_id = ?"
        return self._database.row(query, chain_id) is not None

    def sweep(self) -> None:
        """Remove what a killed process left half done. Call it once, at start."""
        known = {row[0] for row in self._database.rows("SELECT chain_id FROM layers")}
        for driver in self._drivers:
            try:
                self._sweep(driver, known)
            except Exception:  # noqa: BLE001 - one driver's failure must not be the others'
                _log.exception("the strays of the storage driver %s stay", driver.id)

    def _sweep(self, driver: StorageDriver, known: set[str]) -> None:
        ask = partial(self._patience.ask, driver)
        stray = [one for one in ask(lambda: list(driver.layers())) if one not in known]
        self._remove_all(stray, lambda one: ask(partial(driver.remove_layer, one)))

    def has(self, chain_id: str) -> bool:
        """Whether any driver has the layer; one that does not say has it still."""
        return any(self._has(driver, chain_id) for driver in self._drivers)

    def _has(self, driver: StorageDriver, chain_id: str) -> bool:
        try:
            return self._patience.ask(driver, partial(driver.has_layer, chain_id))
        except (DriverError, DriverUnavailable) as error:
            _log.warning("whether the layer %s is there is not known: %s", chain_id, error)
            return True

    def collect(self, candidates: Iterable[str] | None = None) -> None:
        """Remove layers that nobody holds and no image uses.

        One that a container stands on stays, and is tried again by the next collection; so does
        one that a driver fails to remove.

        :param candidates: chain ids to look at; None for all of them.
        """
        if candidates is None:
            rows = self._database.rows(
                "SELECT chain_id FROM layers WHERE NOT EXISTS"
                " (SELECT 1 FROM image_layers WHERE image_layers.chain_id = layers.chain_id)"
            )
            candidates = [row[0] for row in rows]
        self._remove_all(list(candidates), self._remove)

    def _remove_all(self, layers: list[str], remove: Callable[[str], None]) -> None:
        # Children go before their parents; which is whose child, the driver knows.
        while layers:
            kept = []
            for chain_id in layers:
                try:
                    remove(chain_id)
                except Conflict:
                    kept.append(chain_id)
                except (DriverError, DriverUnavailable) as error:
                    _log.warning("the layer %s stays: %s", chain_id, error)
            if len(kept) == len(layers):
                _log.info("%d unused layers stay, because containers stand on them", len(kept))
                return
            layers = kept

    def _remove(self, chain_id: str) -> None:
        with self._leases.locked(_KEY + chain_id):
            if self._leases.held(_KEY + chain_id) or self._used(chain_id):
                return
            failures: list[PannierError] = []
            for driver in self._drivers:
                try:
                    self._patience.ask(driver, partial(driver.remove_layer, chain_id))
                except (DriverError, DriverUnavailable) as error:
                    failures.append(error)
            if failures:
                raise failures[0]
            # Last: a layer without a record is made anew, a record without a layer is no harm.
            with self._database.transaction():
                self._database.execute("DELETE FROM layers WHERE chain_id = ?", chain_id)

    def _used(self, chain_id: str) -> bool:
        query = "SELECT 1 FROM image_layers WHERE chain_id = ?"
        return self._database.row(query, chain_id) is not None


def _check(layer: LayerToMake, found: str) -> None:
    if found != layer.diff_id:
        raise ImageInvalid(
            f"a layer's content has the digest {found}, but the image's configuration says "
            f"{layer.diff_id}",
            hint="the archive is damaged, or someone changed it",
        )
