"""A storage driver for tests that need layers and no kernel: files of layers in a folder."""

from __future__ import annotations

import io
import tarfile
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

from pannier.drivers.storage import Change, ContainerLayer, StorageDriver, Usage
from pannier.errors import Conflict, ImageInvalid, NotFound
from support.images import layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pannier.drivers.base import DriverContext, IdMap
    from pannier.drivers.operations import Plan

__all__ = ["MemoryStorage"]


class MemoryStorage(StorageDriver):
    """Keeps each layer's tar stream in memory; a container's layer is whatever a test puts in.

    Hold the contract's rules: whole or not at all, idempotent, Conflict where something stands on
    a layer.
    """

    id = "memory"

    def __init__(self, context: DriverContext | None = None, config: Any = None) -> None:
        del context, config
        self.streams: dict[str, bytes] = {}
        self.parents: dict[str, str | None] = {}
        self.writable: dict[str, tuple[str | None, bytes]] = {}
        self.made: list[str] = []
        self.before_create: Callable[[str], None] | None = None
        self._lock = threading.Lock()

    @classmethod
    def probe(cls, context: DriverContext, config: Any) -> None:
        """Work anywhere."""

    def create_layer(self, chain_id: str, parent: str | None, diff: BinaryIO) -> Usage:
        """Read the archive, so that a broken one is refused."""
        if chain_id in self.streams:
            return self.layer_usage(chain_id)
        if parent is not None and parent not in self.streams:
            raise NotFound(f"no layer {parent}")
        if self.before_create is not None:
            self.before_create(chain_id)
        data = diff.read()
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                archive.getmembers()
        except tarfile.TarError as error:
            raise ImageInvalid(f"broken layer: {error}") from None
        with self._lock:
            self.streams[chain_id] = data
            self.parents[chain_id] = parent
            self.made.append(chain_id)
        return self.layer_usage(chain_id)

    def has_layer(self, chain_id: str) -> bool:
        """Whether the layer is here."""
        return chain_id in self.streams

    def layers(self) -> Iterator[str]:
        """Yield every layer."""
        yield from list(self.streams)

    def layer_usage(self, chain_id: str) -> Usage:
        """Add the sizes of the archive's files."""
        if chain_id not in self.streams:
            raise NotFound(f"no layer {chain_id}")
        with tarfile.open(fileobj=io.BytesIO(self.streams[chain_id])) as archive:
            members = archive.getmembers()
        return Usage(sum(member.size for member in members), len(members))

    def open_layer(self, chain_id: str) -> int:
        """Not offered: nothing is on disk."""
        raise NotImplementedError(chain_id)

    def remove_layer(self, chain_id: str) -> None:
        """Remove it, unless something stands on it."""
        with self._lock:
            users = [parent for parent, _ in self.writable.values()]
            if chain_id in self.streams and chain_id in [*self.parents.values(), *users]:
                raise Conflict(f"layer {chain_id} is in use")
            self.streams.pop(chain_id, None)
            self.parents.pop(chain_id, None)

    def change(self, key: str, parent: str | None, files: Mapping[str, str | bytes | None]) -> None:
        """Stand in for a container that wrote *files* on top of *parent*."""
        self.writable[key] = parent, layer(files)

    def plan_create_container(self, layer: ContainerLayer) -> Plan[None]:
        """Not offered: use :meth:`change`."""
        raise NotImplementedError(layer)

    def containers(self) -> Iterator[str]:
        """Yield every container."""
        yield from list(self.writable)

    def plan_open_root(self, key: str, *, idmap: IdMap | None = None) -> Plan[int]:
        """Not offered: nothing is on disk."""
        raise NotImplementedError(key, idmap)

    def changes(self, key: str) -> list[Change]:
        """Not offered."""
        raise NotImplementedError(key)

    def write_diff(self, key: str, out: BinaryIO) -> None:
        """Write what :meth:`change` put in."""
        if key not in self.writable:
            raise NotFound(f"no container layer {key}")
        out.write(self.writable[key][1])

    def usage(self, key: str) -> Usage:
        """Measure what :meth:`change` put in."""
        return Usage(len(self.writable[key][1]), 1)

    def remove_container(self, key: str) -> None:
        """Remove it."""
        self.writable.pop(key, None)
