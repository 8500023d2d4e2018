"""Docker's first archive form: a folder for each layer, each naming its parent.

The configuration is made from the top layer's ``json``, as Docker 1.10 and later make it: without
the fields that described the layer, and with the list of diff ids and the history.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pannier.errors import ImageInvalid
from pannier.images.archived import ArchivedImage, archived_name
from pannier.images.config import ImageConfig
from pannier.images.jsonutil import Node

if TYPE_CHECKING:
    from pannier.images.archive import Archive
    from pannier.images.content import Blob

__all__ = ["legacy_images"]

_MAX_LAYERS = 512
_LAYER_FIELDS = frozenset({"id", "parent", "Size", "parent_id", "layer_id", "throwaway"})


def legacy_images(archive: Archive) -> list[ArchivedImage]:
    """Read the images that ``repositories`` names.

    :raises ImageInvalid: a document is malformed, names what is not there, or itself.
    """
    repositories = Node.parse(archive.document("repositories"), "repositories")
    tags: dict[str, list[str]] = {}
    for repository in repositories.fields:
        for tag, layer in repositories.mapping(repository).items():
            tags.setdefault(layer, []).append(f"{repository}:{tag}")
    images = []
    for layer, names in tags.items():
        config, blobs = _image(archive, layer)
        references = tuple(archived_name(name, "repositories") for name in names)
        images.append(ArchivedImage(config, blobs, references))
    return images


def _image(archive: Archive, top: str) -> tuple[ImageConfig, tuple[Blob, ...]]:
    chain: list[tuple[Node, Blob]] = []
    name = top
    while name:
        if len(chain) >= _MAX_LAYERS:
            raise ImageInvalid(f"layer {top[:64]!r} has more than {_MAX_LAYERS} parents")
        where = f"{name[:64]}/json"
        node = Node.parse(archive.document(f"{name}/json"), where)
        chain.append((node, archive.get(f"{name}/layer.tar")))
        name = node.text("parent")
    chain.reverse()
    document = {
        key: value for key, value in chain[-1][0].fields.items() if key not in _LAYER_FIELDS
    }
    document["rootfs"] = {"type": "layers", "diff_ids": [blob.digest for _, blob in chain]}
    document["history"] = [_history(node) for node, _ in chain]
    # Docker sorts the outermost object only, and escapes what could end a script element: the same
    # bytes give the same id.
    ordered = dict(sorted(document.items()))
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    raw = text.encode("utf-8", "surrogatepass")
    return ImageConfig.parse(raw, f"{top[:64]}/json"), tuple(blob for _, blob in chain)


def _history(node: Node) -> dict[str, object]:
    made_in = node.node("container_config")
    command = () if made_in is None else made_in.texts("Cmd") or ()
    fields = {
        "created": node.text("created"),
        "author": node.text("author"),
        "created_by": " ".join(command),
        "comment": node.text("comment"),
    }
    return {key: value for key, value in fields.items() if value}
