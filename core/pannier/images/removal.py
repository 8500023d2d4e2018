"""Removing images, as ``docker rmi`` and ``docker image prune`` do.

Removing by a name takes that name away, and the image with it once it was the last. Removing by id
takes all names of one repository with it, but refuses when there are several. An image that others
were made from, or that a running container uses, stays whatever is asked; one that a stopped
container uses, or that has several names, goes when forced.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pannier.errors import Conflict
from pannier.images.digest import short_id
from pannier.images.filters import labels_match
from pannier.images.model import DeletedImage, Removal, UntaggedImage
from pannier.images.reference import Reference, parse_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.images.catalog import Catalog
    from pannier.images.filters import ImageFilters
    from pannier.images.model import Image, ImageUser

__all__ = ["Remover", "is_id_prefix", "prunable"]


def is_id_prefix(image: str, text: str) -> bool:
    """Whether *text* is the beginning of an id, with or without its algorithm."""
    return image.startswith(text) or image.partition(":")[2].startswith(text)


class Remover:
    """Decides what goes, and takes it out of the catalog; the files are for the caller to collect.

    Use one for each transaction.

    :param users: the containers that there are.
    """

    def __init__(self, catalog: Catalog, users: Sequence[ImageUser]) -> None:
        self._catalog = catalog
        self._users = users
        self.done: list[Removal] = []
        self.gone: list[Image] = []

    def remove(self, image: str, text: str, *, force: bool, prune: bool) -> list[Removal]:
        """Remove what *text* names, and return all that was done so far.

        :param image: the id of the image that *text* leads to.
        :param force: see the module.
        :param prune: whether untagged parents go too.
        :raises Conflict: in Docker's words.
        """
        by_name = not is_id_prefix(image, text)
        if by_name:
            names = self._catalog.names(image)
            if not force and _single(names):
                self._refuse_last_name(image, text)
            self._untag_one(image, parse_reference(text).with_default_tag())
            if self._catalog.names(image):
                return self.done
        else:
            names = self._catalog.names(image)
            if _single(names):
                self._check(image, force=force, names=False)
                self._untag(image, names)
        self._delete_image(image, force=force, prune=prune, quiet=by_name)
        return self.done

    def _refuse_last_name(self, image: str, text: str) -> None:
        user = next((user for user in self._users if user.image == image), None)
        if user is not None:
            raise Conflict(
                f'conflict: unable to remove repository reference "{text}" (must force) - '
                f"container {short_id(user.container)} is using its referenced image "
                f"{short_id(image)}",
                hint="remove the container first, or force the removal",
            )

    def _untag_one(self, image: str, reference: Reference) -> None:
        if reference.digest is not None:
            reference = replace(reference, tag=None)
        self._untag(image, [reference])
        if reference.digest is not None:
            return
        # Digests alone would keep the image, though its last tag in that repository is gone.
        rest = [name for name in self._catalog.names(image) if name.name == reference.name]
        if all(name.digest is not None for name in rest):
            self._untag(image, rest, implied=True)

    def _untag(self, image: str, names: Sequence[Reference], *, implied: bool = False) -> None:
        found = self._catalog.image(image)
        labels = {} if found is None else found.config.config.labels
        for name in names:
            self._catalog.untag(name)
            self.done.append(UntaggedImage(name.familiar, image, labels, implied))

    def _delete_image(self, image: str, *, force: bool, prune: bool, quiet: bool) -> None:
        try:
            self._check(image, force=force)
        except Conflict:
            used = any(user.image == image for user in self._users)
            if quiet and (used or not self._dangling(image)):
                return
            raise
        found = self._catalog.image(image)
        if found is None:
            return
        self._untag(image, self._catalog.names(image))
        self._catalog.delete(image)
        self.gone.append(found)
        self.done.append(DeletedImage(image))
        for layer in reversed(found.layers):
            if not self._catalog.uses_layer(layer.chain_id):
                self.done.append(DeletedImage(layer.chain_id, is_image=False))
        if prune and found.parent is not None and self._catalog.exists(found.parent):
            self._delete_image(found.parent, force=False, prune=True, quiet=True)

    def _dangling(self, image: str) -> bool:
        return not self._catalog.names(image) and not self._catalog.children(image)

    def _check(self, image: str, *, force: bool, names: bool = True) -> None:
        if self._catalog.children(image):
            raise _conflict(image, "image has dependent child images", hard=True)
        users = [user for user in self._users if user.image == image]
        for user in users:
            if user.running:
                message = f"image is being used by running container {short_id(user.container)}"
                raise _conflict(image, message, hard=True)
            if user.mounted:
                # Nothing else keeps the layers that the container is to find at its next start.
                message = f"image is mounted in container {short_id(user.container)}"
                raise _conflict(image, message, hard=True)
        if force:
            return
        if names and self._catalog.names(image):
            raise _conflict(image, "image is referenced in multiple repositories", hard=False)
        if users:
            message = f"image is being used by stopped container {short_id(users[0].container)}"
            raise _conflict(image, message, hard=False)


def _single(names: Sequence[Reference]) -> bool:
    """Whether there is one tag at most, and every name is of its repository."""
    tags = [name for name in names if name.digest is None]
    return bool(names) and len(tags) <= 1 and len({name.name for name in names}) == 1


def _conflict(image: str, message: str, *, hard: bool) -> Conflict:
    word = "cannot be forced" if hard else "must be forced"
    return Conflict(
        f"conflict: unable to delete {short_id(image)} ({word}) - {message}",
        hint=None if hard else "remove it with --force, or take away what uses it first",
    )


def prunable(image: Image, parents: set[str], filters: ImageFilters) -> bool:
    """Whether a prune is about an image; containers are not asked about here.

    :param parents: the images that others were made from.
    """
    if image.tags and filters.dangling is not False:
        return False
    if not image.tags and not image.digests and image.id in parents:
        return False
    if filters.until is not None and image.created_ns >= filters.until:
        return False
    labels = image.config.config.labels
    return labels_match(labels, filters.labels) and not any(
        labels_match(labels, (label,)) for label in filters.not_labels
    )
