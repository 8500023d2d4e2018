"""A stage as far as it is built, and how a step is committed to the image store."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pannier.drivers.operations import Transaction
from pannier.drivers.storage import ChangeKind
from pannier.images.config import HistoryEntry, RunConfig, is_empty_layer, make_config
from pannier.images.model import NewImage
from pannier.images.oci import OCI_CONFIG, OCI_LAYER, Descriptor, Manifest
from pannier.images.timestamps import format_time, now
from pannier.linux.trees import Folders

if TYPE_CHECKING:
    from pannier.images.images import ImageStore
    from pannier.images.leases import Lease
    from pannier.images.model import Image
    from pannier.images.oci import Platform

__all__ = ["Committer", "State"]

_BILLION = 1_000_000_000


@dataclass(frozen=True, slots=True)
class State:
    """What the next instruction of a stage begins from.

    :param key: stands for all that was done so far, in the cache.
    :param image: None for an empty one, ``scratch``.
    :param layers: the blobs, bottom first.
    :param top: the chain id of the highest layer.
    :param cmd_set: the stage has had a CMD of its own.
    """

    key: str
    platform: Platform
    image: str | None = None
    config: RunConfig = field(default_factory=RunConfig)
    history: tuple[HistoryEntry, ...] = ()
    diff_ids: tuple[str, ...] = ()
    layers: tuple[Descriptor, ...] = ()
    top: str | None = None
    author: str = ""
    cmd_set: bool = False

    def at(self, image: Image, key: str) -> State:
        """Return the state in which an image is all that was done."""
        return replace(
            self,
            key=key,
            image=image.id,
            config=image.config.config,
            history=image.config.history,
            diff_ids=image.config.diff_ids,
            layers=tuple(layer.blob for layer in image.layers),
            top=image.top_layer,
            author=image.config.author,
        )


class Committer:
    """Makes images of steps; its methods block, and may be called from any thread.

    :param lease: holds what is made until the build ends.
    :param epoch: seconds; files and images are no younger than that; None for the present time.
    """

    def __init__(self, store: ImageStore, lease: Lease, epoch: int | None) -> None:
        self.store = store
        self.lease = lease
        self._epoch = epoch

    def time(self) -> str:
        """Return what a step's image says of its time."""
        return format_time(now() if self._epoch is None else self._epoch * _BILLION)

    def held(self, text: str) -> Image:
        """Return an image whose layers are there, and stay until the build ends.

        :raises NotFound: there is no such image.
        """
        image = self.store.workbench.held(text, self.lease)
        if image.top_layer is not None and not self.store.storage.has_layer(image.top_layer):
            blobs = [layer.blob for layer in image.layers]
            self.store.workbench.unpack(image.config, blobs, self.lease)
        return image

    def layer(self, key: str) -> Descriptor | None:
        """Store what a container's layer changes; None if that is nothing.

        :param key: of the storage driver.
        """
        if self._epoch is not None:
            self._clamp(key, self._epoch * _BILLION)
        blob = self.store.workbench.take_diff(self.store.storage, key, self.lease)
        if is_empty_layer(blob.digest):
            return None
        return Descriptor(OCI_LAYER, blob.digest, blob.size)

    def _clamp(self, key: str, latest: int) -> None:
        """Set the times of changed files that are later than *latest*, in nanoseconds."""
        storage = self.store.storage
        changes = storage.changes(key)
        root = Transaction().run(storage.plan_open_root(key))
        folders = Folders(root)
        try:
            for change in changes:
                if change.kind is ChangeKind.DELETED:
                    continue
                head, _, name = os.fsencode(change.path).strip(b"/").rpartition(b"/")
                parent = folders.open(head)
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if status.st_mtime_ns > latest:
                    os.utime(name, ns=(latest, latest), dir_fd=parent, follow_symlinks=False)
        finally:
            folders.close()
            os.close(root)

    def commit(
        self,
        state: State,
        config: RunConfig,
        created_by: str,
        key: str,
        layer: Descriptor | None = None,
        *,
        author: str | None = None,
        container: str | None = None,
    ) -> State:
        """Make the image of a step and return the state after it.

        :param layer: its blob; None where the step changed no file.
        :param container: the storage driver's key of what the blob was written from, if that may
            be used up.
        """
        step = HistoryEntry(
            created=self.time(),
            created_by=created_by,
            author=state.author if author is None else author,
            empty_layer=layer is None,
        )
        diff_id = None if layer is None else layer.digest
        return self._add(
            state, config, step, key, diff_id=diff_id, layer=layer, container=container
        )

    def take_over(
        self,
        state: State,
        config: RunConfig,
        step: HistoryEntry,
        key: str,
        *,
        image: Image,
        layer: Descriptor | None,
    ) -> State:
        """Make the image of a step that another image has; see :meth:`commit`."""
        diff_id = None if layer is None else image.config.diff_ids[len(state.diff_ids)]
        return self._add(state, config, step, key, diff_id=diff_id, layer=layer)

    def _add(
        self,
        state: State,
        config: RunConfig,
        step: HistoryEntry,
        key: str,
        *,
        diff_id: str | None,
        layer: Descriptor | None,
        container: str | None = None,
    ) -> State:
        image = make_config(
            config,
            platform=state.platform,
            created=step.created,
            diff_ids=[*state.diff_ids, *([] if diff_id is None else [diff_id])],
            history=[*state.history, step],
            author=step.author,
        )
        layers = [*state.layers, *([] if layer is None else [layer])]
        if layer is not None:
            self.store.workbench.unpack_one(
                image, len(layers) - 1, layer, state.top, self.lease, container=container
            )
        manifest = Manifest.make(Descriptor(OCI_CONFIG, image.id, len(image.raw)), layers)
        new = NewImage(image, manifest, (), state.image)
        [added] = self.store.workbench.add([new], self.lease)
        return replace(state.at(added.image, key), config=config)
