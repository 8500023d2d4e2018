"""What a layer store keeps of each layer and container, in a file of its folder.

A layer's record says under which boot of the host it was made: until the layer is marked as being
on the disk (``synced``), a later boot does not believe it.
"""

from __future__ import annotations

import contextlib
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pannier.drivers.base import IdMap, IdMapping
from pannier.drivers.layer_errors import making
from pannier.drivers.storage import Usage

__all__ = [
    "CONTAINER_FILE",
    "LAYER_FILE",
    "ContainerRecord",
    "LayerRecord",
    "is_synced",
    "mark_synced",
    "read_container",
    "read_layer",
    "write_container",
    "write_layer",
]

LAYER_FILE: Final = "layer.json"
"""The name of a layer's record in its folder."""
CONTAINER_FILE: Final = "container.json"
"""The name of a container's record in its folder."""
_SYNCED: Final = "synced"


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """What is kept of a layer.

    :param opaque: whether it hides everything below.
    """

    parent: str | None
    usage: Usage
    opaque: bool = False


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """What is kept of a container layer.

    :param rootfs: the host's folder that is its lower layer, resolved; None for an image.
    :param idmap: the user namespace whose ids its files have; None for the host's.
    :param skeleton: the driver's own note of where the places to mount on are.
    :param disposable: nothing in it need survive a power failure.
    """

    parent: str | None
    rootfs: str | None = None
    idmap: IdMap | None = None
    skeleton: tuple[str, ...] = ()
    disposable: bool = False


def write_layer(folder: Path, chain_id: str, record: LayerRecord) -> None:
    """Put a layer's record into its folder; nothing waits for the disk."""
    content = {
        "chain": chain_id,
        "parent": record.parent,
        "size": record.usage.size,
        "inodes": record.usage.inodes,
        "opaque": record.opaque,
        "boot": _boot(),
    }
    _write(folder / LAYER_FILE, content)


def read_layer(folder: Path) -> tuple[str, LayerRecord] | None:
    """Return a layer's chain id and record; None where the layer is not to be believed."""
    content = _read(folder / LAYER_FILE)
    if content is None or not (is_synced(folder) or content["boot"] == _boot()):
        return None
    usage = Usage(content["size"], content["inodes"])
    return content["chain"], LayerRecord(content["parent"], usage, content["opaque"])


def is_synced(folder: Path) -> bool:
    """Whether a layer was marked as being on the disk."""
    return (folder / _SYNCED).exists()


def mark_synced(folder: Path) -> None:
    """Mark a layer as being on the disk, unless it was removed meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        (folder / _SYNCED).touch()


def write_container(folder: Path, record: ContainerRecord) -> None:
    """Put a container's record into its folder, in place of the one that is there."""
    idmap = record.idmap
    content = {
        "parent": record.parent,
        "rootfs": record.rootfs,
        "skeleton": record.skeleton,
        "disposable": record.disposable,
        "idmap": None
        if idmap is None
        else [
            [[mapping.container, mapping.host, mapping.size] for mapping in ranges]
            for ranges in (idmap.uids, idmap.gids)
        ],
    }
    staged = folder / f"{CONTAINER_FILE}.new"
    _write(staged, content)
    staged.replace(folder / CONTAINER_FILE)


def read_container(folder: Path) -> ContainerRecord | None:
    """Return a container's record; None where there is none, or not a whole one."""
    content = _read(folder / CONTAINER_FILE)
    if content is None:
        return None
    return ContainerRecord(
        content["parent"],
        content["rootfs"],
        _idmap(content["idmap"]),
        tuple(content.get("skeleton", ())),
        content.get("disposable", False),
    )


def _idmap(content: list[list[list[int]]] | None) -> IdMap | None:
    if content is None:
        return None
    uids, gids = (tuple(IdMapping(*numbers) for numbers in ranges) for ranges in content)
    return IdMap(uids, gids)


def _write(path: Path, content: dict[str, Any]) -> None:
    with making(str(path)):
        path.write_text(json.dumps(content), encoding="utf-8")


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record; None where there is none, or not a whole one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


@functools.cache
def _boot() -> str:
    """Return what tells this boot of the host from others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
