"""A container's upper folder becomes a layer, without a byte being copied."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from pannier.drivers.layer_store import LayerRecord
from pannier.drivers.storage import Usage
from pannier.linux.trees import DIRECTORY, measure_tree, walk_tree
from pannier_storage_overlay.roots import take_metadata

if TYPE_CHECKING:
    from pannier.drivers.layer_store import LayerStore

__all__ = ["adopt"]

_WHITEOUT: Final = b".wh."


def adopt(store: LayerStore, key: str, chain_id: str, parent: str) -> Usage | None:
    """Move a container's upper folder to where a layer is kept.

    Only where it is what unpacking its archive would come to: an archive has no sockets, and
    takes some names for deletions. The folder of the container stays, for its removal.
    """
    upper = store.container_folder(key) / "upper"
    descriptor = os.open(upper, DIRECTORY)
    try:
        if store.has_layer(chain_id) or not _is_archivable(descriptor):
            return None
        usage = Usage(*measure_tree(descriptor))
        take_metadata(descriptor, store.layer_path(store.lineage(parent)[0], "diff"))
        with store.stage() as staged:
            upper.rename(staged / "diff")
            store.commit_layer(staged, chain_id, LayerRecord(parent, usage))
    finally:
        os.close(descriptor)
    return usage


def _is_archivable(upper: int) -> bool:
    return not any(
        stat.S_ISSOCK(found.status.st_mode) or found.name.startswith(_WHITEOUT)
        for found in walk_tree(upper)
    )
