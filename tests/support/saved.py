"""Images as ``save`` writes them, taken apart for comparing."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SavedImage", "differences", "read_saved"]


_DIGEST = re.compile(r"(?:file|dir|multi):[0-9a-f]{64}")


@dataclass(frozen=True)
class SavedImage:
    """An image: its configuration, and the members of each layer without their times."""

    config: dict[str, Any]
    layers: tuple[dict[str, tuple[Any, ...]], ...]

    @property
    def history(self) -> list[tuple[str, bool]]:
        """What made each step (without digests of files), and whether it made no layer."""
        return [
            (_DIGEST.sub("<digest>", entry.get("created_by", "")), bool(entry.get("empty_layer")))
            for entry in self.config["history"]
        ]


def read_saved(data: bytes) -> SavedImage:
    """Read the only image of an archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        [manifest] = json.load(_member(archive, "manifest.json"))
        config = json.load(_member(archive, manifest["Config"]))
        layers = tuple(_layer(_member(archive, name).read()) for name in manifest["Layers"])
    return SavedImage(config, layers)


def _member(archive: tarfile.TarFile, name: str) -> Any:
    info = archive.getmember(name)
    if info.issym():
        info = archive.getmember(_joined(name, info.linkname))
    return archive.extractfile(info)


def _joined(name: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), link))


def _layer(data: bytes) -> dict[str, tuple[Any, ...]]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            content = ""
            if info.isreg():
                file = archive.extractfile(info)
                assert file is not None
                content = hashlib.sha256(file.read()).hexdigest()
            device = (info.devmajor, info.devminor) if info.isdev() and not info.isfifo() else ()
            found[info.name.strip("/")] = (
                *(info.type, info.mode & 0o7777, info.uid, info.gid, info.size),
                *(info.linkname if info.issym() or info.islnk() else "", content, device),
            )
    return found


def differences(ours: SavedImage, theirs: SavedImage) -> list[str]:
    """Return what differs between two images, a line each."""
    found = _compared("config", _config(ours), _config(theirs))
    if len(ours.layers) != len(theirs.layers):
        found.append(f"{len(ours.layers)} layers instead of {len(theirs.layers)}")
    for number, (layer, wanted) in enumerate(zip(ours.layers, theirs.layers, strict=False)):
        found += _compared(f"layer {number}", _present(layer), _present(wanted))
    # How a deletion is written may differ; what it leaves may not.
    for number, (tree, wanted) in enumerate(zip(_trees(ours), _trees(theirs), strict=False)):
        found += _compared(f"tree {number}", tree, wanted)
    steps = dict(enumerate(ours.history)), dict(enumerate(theirs.history))
    return found + _compared("step", *steps)


def _compared(what: str, ours: Mapping[Any, Any], theirs: Mapping[Any, Any]) -> list[str]:
    return [
        f"{what} {key}: {ours.get(key)!r} instead of {theirs.get(key)!r}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]


def _present(layer: Mapping[str, Any]) -> dict[str, Any]:
    return {path: item for path, item in layer.items() if "/.wh." not in f"/{path}"}


def _trees(image: SavedImage) -> list[dict[str, tuple[Any, ...]]]:
    """Return the whole tree after each layer, deletions applied, however they are written."""
    trees = []
    tree: dict[str, tuple[Any, ...]] = {}
    for layer in image.layers:
        tree = dict(tree)
        for path in layer:
            head, _, name = path.rpartition("/")
            prefix = f"{head}/" if head else ""
            if name == ".wh..wh..opq":
                tree = {key: item for key, item in tree.items() if not key.startswith(prefix)}
            elif name.startswith(".wh."):
                gone = prefix + name.removeprefix(".wh.")
                tree = {
                    key: item
                    for key, item in tree.items()
                    if key != gone and not key.startswith(f"{gone}/")
                }
        for path, item in layer.items():
            if path.rpartition("/")[2].startswith(".wh."):
                continue
            if item[0] != b"5":
                tree = {key: one for key, one in tree.items() if not key.startswith(f"{path}/")}
            tree[path] = item
        trees.append(tree)
    return trees


def _config(image: SavedImage) -> dict[str, Any]:
    """Return what is set in a configuration: Docker also writes what is not."""
    config = image.config.get("config") or {}
    unset: tuple[Any, ...] = ("", None, False, [], {})
    kept = {key: value for key, value in config.items() if value not in unset}
    kept.pop("Image", None)  # Docker's id of the step before
    kept["author"] = image.config.get("author", "")
    kept["platform"] = (image.config.get("os"), image.config.get("architecture"))
    return kept
