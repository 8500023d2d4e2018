"""From what users call an image to the image: a tag, a digest, an id or the beginning of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.errors import NotFound
from pannier.images.reference import parse_any

if TYPE_CHECKING:
    from pannier.images.catalog import Catalog
    from pannier.images.model import Image

__all__ = ["find_image", "image_of", "no_such", "resolve", "select_images"]


def find_image(catalog: Catalog, text: str) -> Image:
    """Return the image that *text* names.

    :raises NotFound: there is none, in Docker's words.
    :raises InvalidRequest: *text* can be neither a reference nor an id.
    """
    return image_of(catalog, resolve(catalog, text))


def image_of(catalog: Catalog, identity: str) -> Image:
    """Return the image with that full id.

    :raises NotFound: there is none.
    """
    image = catalog.image(identity)
    if image is None:
        raise no_such(identity)
    return image


def resolve(catalog: Catalog, text: str) -> str:
    """Return the full id of the image that *text* names; as :func:`find_image`."""
    reference = parse_any(text)
    if isinstance(reference, str):
        if catalog.exists(reference):
            return reference
        raise no_such(reference)
    reference = reference.with_default_tag()
    found = catalog.named(reference)
    if found is not None:
        return found
    candidates = catalog.beginning_with(text)
    if len(candidates) == 1:
        return candidates[0]
    raise no_such(reference.familiar, ambiguous=len(candidates) > 1)


def select_images(catalog: Catalog, text: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the images that *text* means to ``save`` or ``push``, with the tags it means.

    A repository means all of its tags, a tag itself, an id no tag.

    :raises NotFound: as :func:`find_image`.
    """
    reference = parse_any(text)
    if isinstance(reference, str):
        return [(resolve(catalog, text), ())]
    if reference.is_name_only:
        named = [pair for pair in catalog.names_of_repository(reference.name) if pair[0].tag]
        if named:
            return [(image, (name.familiar,)) for name, image in named]
    identity = resolve(catalog, text)
    if reference.digest is None and catalog.named(reference) is not None:
        return [(identity, (reference.familiar,))]
    return [(identity, ())]


def no_such(name: str, *, ambiguous: bool = False) -> NotFound:
    """Return what is raised for an image that is not there.

    :param ambiguous: it might be one of several.
    """
    if ambiguous:
        hint = "several ids begin like this; give more digits"
    else:
        hint = "`pannier images` lists those that are here; `pannier load` brings one in"
    return NotFound(f"No such image: {name}", hint=hint)
