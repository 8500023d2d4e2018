"""The docker-archive: ``manifest.json`` names each image's configuration, layers and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.errors import ImageInvalid
from pannier.images.archived import ArchivedImage, archived_name
from pannier.images.config import ImageConfig
from pannier.images.jsonutil import Node, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.images.archive import Archive
    from pannier.images.oci import Manifest

__all__ = ["docker_images"]

_WHERE = "manifest.json"


def docker_images(archive: Archive, manifests: Mapping[str, Manifest]) -> list[ArchivedImage]:
    """Read the images of a docker-archive.

    :param manifests: the OCI manifests of the same archive, by their configuration's digest.
    :raises ImageInvalid: a document is malformed, or names what is not there.
    """
    documents = load(archive.document(_WHERE), _WHERE)
    if not isinstance(documents, list):
        raise ImageInvalid(f"{_WHERE}: expected a JSON list")
    return [
        _image(archive, Node(document, f"{_WHERE}[{number}]"), manifests)
        for number, document in enumerate(documents)
    ]


def _image(archive: Archive, node: Node, manifests: Mapping[str, Manifest]) -> ArchivedImage:
    path = node.text("Config")
    if not path:
        node.fail("Config", "the name of a member")
    blob = archive.get(path)
    config = ImageConfig.parse(archive.small(blob, path), path[:200])
    return ArchivedImage(
        config=config,
        layers=tuple(archive.get(name) for name in node.texts("Layers") or ()),
        names=tuple(archived_name(tag, node.where) for tag in node.texts("RepoTags") or ()),
        manifest=manifests.get(config.id),
        parent=node.text("Parent"),
    )
