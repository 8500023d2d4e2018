"""An image as an archive describes it, before anything is checked against its content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.errors import ImageInvalid, InvalidRequest
from pannier.images.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.images.config import ImageConfig
    from pannier.images.content import Blob
    from pannier.images.oci import Manifest
    from pannier.images.reference import Reference

__all__ = ["ArchivedImage", "archived_name", "parent_of"]


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image of an archive.

    :param layers: bottom first.
    :param manifest: the archive's own, where it has one.
    :param parent: the id of the image that it was made from, as the archive says; empty for none.
    """

    config: ImageConfig
    layers: tuple[Blob, ...]
    names: tuple[Reference, ...] = ()
    manifest: Manifest | None = None
    parent: str = ""


def parent_of(image: ArchivedImage, images: Sequence[ArchivedImage]) -> str | None:
    """Return the id of the image that *image* was made from, if that is among *images*.

    :raises ImageInvalid: it cannot have been made from that one; as Docker tells by the histories.
    """
    parent = next((one.config for one in images if one.config.id == image.parent), None)
    if parent is None or parent.id == image.config.id:
        return None
    config = image.config
    made = config.history[:-1] == parent.history and bool(config.history)
    if not config.history and not parent.history:
        # Docker takes any then; one that has to be smaller cannot be made from its own child.
        count = len(parent.diff_ids)
        made = count < len(config.diff_ids) and config.diff_ids[:count] == parent.diff_ids
    if not made:
        raise ImageInvalid(f"image {parent.id} is not a valid parent for {config.id}")
    return parent.id


def archived_name(text: str, where: str) -> Reference:
    """Parse a name that an archive gives to an image.

    :raises ImageInvalid: it is malformed, or no tag.
    """
    try:
        reference = parse_reference(text)
    except InvalidRequest as error:
        raise ImageInvalid(f"{where}: {error.message}", hint=error.hint) from None
    if reference.digest is not None:
        raise ImageInvalid(f"{where}: {text[:200]!r} is not a tag")
    return reference.with_default_tag()
