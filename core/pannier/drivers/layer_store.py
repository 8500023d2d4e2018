"""The folders of a storage driver that keeps one for each layer and container.

A help for drivers, not a part of the contract. Below the driver's root::

    layers/sha256-<hex>/      one image layer: its record (layer.json), and the driver's folders
    containers/<key>/         one container layer, likewise (container.json)
    staging/                  what is being made; renamed into its place when it is whole
    trash/                    what is being removed; renamed there first
    damaged/                  containers whose record a crash of the host destroyed

So a folder in its place is whole, whenever a process was killed; what it leaves in staging and
trash is removed once the next one opens the store. The removing itself, which takes a while for a
large tree, is left to a thread.

If the host itself crashes, renames may have reached the disk before what they put in place. Nobody
waits for the disk: a layer is marked as being on it (``synced``) some time after it was created,
and one without the mark that was created under an earlier boot of the host is not believed.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import logging
import os
import re
import threading
from typing import TYPE_CHECKING, Final

from pannier.drivers.layer_errors import FULL, making
from pannier.drivers.layer_housekeeping import Housekeeper, Remove
from pannier.drivers.layer_records import (
    CONTAINER_FILE,
    LAYER_FILE,
    ContainerRecord,
    LayerRecord,
    is_synced,
    mark_synced,
    read_container,
    read_layer,
    write_container,
    write_layer,
)
from pannier.errors import Conflict, InvalidRequest, NotFound
from pannier.linux.trees import DIRECTORY, list_names, remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["CONTAINER_FILE", "ContainerRecord", "LayerRecord", "LayerStore", "Remove"]

_log = logging.getLogger("pannier.storage")

_CHAIN: Final = re.compile(r"[a-z0-9]+:[A-Za-z0-9]+", re.ASCII)
_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}", re.ASCII)


class LayerStore:
    """The layers and containers of one driver, found again when it is opened.

    The records are kept in memory as well, and read from the disk once: nobody but the driver
    changes its folder. Safe to use from several threads.

    :param root: the driver's own folder.
    :param remove: how a folder is removed that was a layer's or a container's; of use to drivers
        whose trees go at one stroke. It must do with what is left of one that it was killed over.
    """

    def __init__(self, root: Path, remove: Remove = remove_tree) -> None:
        self.root = root
        self._base = str(root)
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._token = os.urandom(6).hex()
        for name in ("layers", "containers", "staging", "trash", "damaged"):
            (root / name).mkdir(mode=0o700, exist_ok=True)
        self._staging = os.open(root / "staging", DIRECTORY)
        self._trash = os.open(root / "trash", DIRECTORY)
        self._keeper = Housekeeper(self._trash, remove)
        self._clean_up()
        self._layers = dict(self._load_layers())
        self._containers = dict(self._load_containers())

    def close(self) -> None:
        """Close the descriptors held; a second call does nothing.

        What is still to be removed stays in the trash for the next one that opens the store.
        """
        self._keeper.close()
        for name in ("_staging", "_trash"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)

    def _clean_up(self) -> None:
        try:
            fcntl.flock(self._staging, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # somebody else has the store open: these are no leftovers
        for name in list_names(self._staging):
            unique = self._unique()
            os.rename(name, unique, src_dir_fd=self._staging, dst_dir_fd=self._trash)
        for name in list_names(self._trash):
            self._keeper.remove(name)

    def settle(self) -> None:
        """Wait until everything that was removed so far is gone from the disk."""
        self._keeper.settle()

    def _load_layers(self) -> Iterator[tuple[str, LayerRecord]]:
        for folder in (self.root / "layers").iterdir():
            found = read_layer(folder)
            if found is None:
                _log.warning("the host crashed before the layer in %s was on its disk", folder)
                self._discard(folder)
                continue
            yield found
            if not is_synced(folder):
                self._keeper.sync(functools.partial(mark_synced, folder))

    def _load_containers(self) -> Iterator[tuple[str, ContainerRecord]]:
        for folder in (self.root / "containers").iterdir():
            record = read_container(folder)
            if record is None:
                aside = self.root / "damaged" / f"{folder.name}-{self._unique()}"
                folder.rename(aside)
                _log.warning("the record of a container is damaged; its files are in %s", aside)
                continue
            yield folder.name, record

    # Layers.

    def layers(self) -> list[str]:
        """Return the chain ids of the layers."""
        with self._lock:
            return list(self._layers)

    def has_layer(self, chain_id: str) -> bool:
        """Whether the layer is here."""
        return chain_id in self._layers

    def layer(self, chain_id: str) -> LayerRecord:
        """Return a layer's record.

        :raises NotFound: there is no such layer.
        """
        try:
            return self._layers[chain_id]
        except KeyError:
            raise NotFound(f"no such layer: {chain_id}") from None

    def lineage(self, chain_id: str | None) -> list[str]:
        """Return a layer and those below it that are seen through it, top first.

        :raises NotFound: there is no such layer.
        """
        chain = []
        while chain_id is not None:
            record = self.layer(chain_id)
            chain.append(chain_id)
            chain_id = None if record.opaque else record.parent
        return chain

    def layer_path(self, chain_id: str, inner: str) -> str:
        """Return the path of the folder *inner* of a layer that is here."""
        return f"{self._base}/layers/{chain_id.replace(':', '-')}/{inner}"

    def layer_folder(self, chain_id: str) -> Path:
        """Return where a layer's folder is, or would be.

        :raises InvalidRequest: it is no chain id.
        """
        if not _CHAIN.fullmatch(chain_id):
            raise InvalidRequest(f"{chain_id!r} is no chain id", hint="it is like sha256:0123abcd")
        return self.root / "layers" / chain_id.replace(":", "-")

    def commit_layer(self, staged: Path, chain_id: str, record: LayerRecord) -> None:
        """Put a staged folder in its place as a layer; if there is one, that one stays."""
        write_layer(staged, chain_id, record)
        with self._lock:
            if record.parent is not None:
                self.layer(record.parent)  # may have been removed meanwhile
            if chain_id not in self._layers:
                folder = self.layer_folder(chain_id)
                staged.rename(folder)
                self._layers[chain_id] = record
                self._keeper.sync(lambda: mark_synced(folder))

    def remove_layer(self, chain_id: str) -> None:
        """Remove a layer. Idempotent.

        :raises Conflict: another layer or a container stands on it.
        """
        with self._lock:
            if chain_id not in self._layers:
                return
            for other, record in self._layers.items():
                if record.parent == chain_id:
                    raise Conflict(f"the layer {chain_id} is used by the layer {other}")
            for key, container in self._containers.items():
                if container.parent == chain_id:
                    raise Conflict(
                        f"the layer {chain_id} is used by the container {key}",
                        hint="remove the container first",
                    )
            self._discard(self.layer_folder(chain_id))
            del self._layers[chain_id]

    # Containers.

    def containers(self) -> list[str]:
        """Return the keys of the containers."""
        with self._lock:
            return list(self._containers)

    def has_container(self, key: str) -> bool:
        """Whether there is a layer of that container."""
        return key in self._containers

    def container(self, key: str) -> ContainerRecord:
        """Return a container's record.

        :raises NotFound: there is no such container layer.
        """
        try:
            return self._containers[key]
        except KeyError:
            raise NotFound(f"no such container layer: {key}") from None

    def container_folder(self, key: str) -> Path:
        """Return where a container's folder is, or would be.

        :raises InvalidRequest: the key cannot be a folder's name.
        """
        if not _KEY.fullmatch(key):
            raise InvalidRequest(f"{key!r} is no container id")
        return self.root / "containers" / key

    def commit_container(self, staged: Path, key: str, record: ContainerRecord) -> bool:
        """Put a staged folder in its place as a container's; False if there is one, which stays.

        :raises NotFound: the parent was removed meanwhile.
        """
        write_container(staged, record)
        with self._lock:
            if record.parent is not None:
                self.layer(record.parent)
            if key in self._containers:
                return False
            staged.rename(self.container_folder(key))
            self._containers[key] = record
        return True

    def update_container(self, key: str, record: ContainerRecord) -> None:
        """Replace a container's record."""
        with self._lock:
            write_container(self.container_folder(key), record)
            self._containers[key] = record

    def remove_container(self, key: str) -> None:
        """Remove a container's folder. Idempotent."""
        with self._lock:
            if key not in self._containers:
                return
            self._discard(self.container_folder(key))
            del self._containers[key]

    # Making and removing.

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        """Give a new, empty folder to make something in; what is left of it at the end goes."""
        staged = self.root / "staging" / self._unique()
        with making(f"a folder in {staged.parent}"):
            staged.mkdir(mode=0o700)
        try:
            yield staged
        finally:
            self._discard(staged)

    @contextlib.contextmanager
    def stage_layer(self) -> Iterator[Path]:
        """As :meth:`stage`, for a layer that is unpacked: housekeeping does not slow that down."""
        with self._keeper.standing_back(), self.stage() as staged:
            yield staged

    def _discard(self, folder: Path) -> None:
        """Move a folder to the trash, if it is there, and have it removed."""
        name = self._unique()
        try:
            folder.rename(self.root / "trash" / name)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in FULL:
                raise
            # Btrfs, when it is full, can remove and not rename.
            self._keeper.remove_now(folder, (LAYER_FILE, CONTAINER_FILE))
        else:
            self._keeper.remove(os.fsencode(name))

    def _unique(self) -> str:
        return f"{self._token}-{next(self._numbers)}"
