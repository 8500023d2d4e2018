"""Listing images and their histories, as ``docker images`` and ``docker history`` do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pannier.images.filters import ImageFilters, labels_match, reference_matches
from pannier.images.model import HistoryItem, Image

if TYPE_CHECKING:
    from pannier.images.catalog import Catalog

__all__ = ["history_of", "list_images"]


def list_images(
    catalog: Catalog, filters: ImageFilters, *, before: Image | None, since: Image | None, all: bool
) -> tuple[Image, ...]:
    """Return images, the newest first.

    :param before: only images made before this one.
    :param since: only images made after this one.
    :param all: untagged images that others were made from, too.
    """
    parents = catalog.parents()
    found = []
    for image in catalog.images():
        if (
            (before is not None and image.created_ns >= before.created_ns)
            or (since is not None and image.created_ns <= since.created_ns)
            or (filters.until is not None and image.created_ns >= filters.until)
            or not labels_match(image.config.config.labels, filters.labels)
        ):
            continue
        shown = _shown(image, filters, is_parent=image.id in parents, all=all)
        if shown is not None:
            found.append(shown)
    return tuple(sorted(found, key=lambda image: (-image.created_ns, image.id)))


def _shown(image: Image, filters: ImageFilters, *, is_parent: bool, all: bool) -> Image | None:
    """Return an image as a list shows it, or None where it does not."""
    tags, digests = image.tags, image.digests
    if filters.references:
        tags, digests = _matching(tags, filters), _matching(digests, filters)
        if not tags and not digests:
            return None
    if filters.dangling is True and (tags or is_parent):
        return None
    if not tags and not digests and (filters.dangling is False or (is_parent and not all)):
        return None
    return replace(image, tags=tags, digests=digests)


def _matching(names: tuple[str, ...], filters: ImageFilters) -> tuple[str, ...]:
    return tuple(
        name
        for name in names
        if any(reference_matches(pattern, name) for pattern in filters.references)
    )


def history_of(catalog: Catalog, image: Image) -> tuple[HistoryItem, ...]:
    """Return how an image was made, the last step first.

    The image and the parents that it was made from here are named; what was made elsewhere is
    ``<missing>``.
    """
    sizes = iter([layer.size for layer in image.layers])
    steps = [(entry, 0 if entry.empty_layer else next(sizes, 0)) for entry in image.config.history]
    items = []
    maker: Image | None = image
    for entry, size in reversed(steps):
        items.append(
            HistoryItem(
                id="<missing>" if maker is None else maker.id,
                created=entry.created_ns,
                created_by=entry.created_by,
                comment=entry.comment,
                size=size,
                tags=() if maker is None else maker.tags,
            )
        )
        parent = None if maker is None else maker.parent
        maker = None if parent is None else catalog.image(parent)
    return tuple(items)
