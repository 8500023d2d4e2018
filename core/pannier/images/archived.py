"""An image as an archive describes it, before anything is checked against its content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.errors import ImageInvalid, InvalidRequest
from pannier.images.reference import parse_reference

if TYPE_CHECKING:
    from pannier.images.config import ImageConfig
    from pannier.images.content import Blob
    from pannier.images.oci import Manifest
    from pannier.images.reference import Reference

__all__ = ["ArchivedImage", "archived_name"]


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image of an archive.

    :param layers: bottom first.
    :param manifest: the archive's own, where it has one.
    """

    config: ImageConfig
    layers: tuple[Blob, ...]
    names: tuple[Reference, ...] = ()
    manifest: Manifest | None = None


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
