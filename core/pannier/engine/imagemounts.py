"""Images that are mounted into containers: ``--mount type=image``.

What is mounted is the image's layers as its storage driver shows them to anyone, read-only: nothing
is made for it that would have to be removed again. The image stays for as long as the container's
record says that it is mounted there (see :meth:`pannier.engine.store.Store.image_users`).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pannier.engine.model import MountKind, MountPoint, MountSpec
from pannier.engine.ownthread import in_thread
from pannier.errors import InvalidRequest, NotFound, UnsupportedOperation
from pannier.linux import mounts
from pannier.linux.namespaces import CLONE_FS, CLONE_NEWNS, unshare
from pannier.linux.paths import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pannier.driverset import DriverSet
    from pannier.engine.imagefacts import ImageSource
    from pannier.engine.model import Container

__all__ = ["ImageMounts", "held"]


@contextlib.contextmanager
def held(
    specs: Sequence[MountSpec], images: ImageSource, container: Container
) -> Iterator[list[MountPoint]]:
    """Give the mounts of images among *specs*, decided; the images stay while the block runs.

    :raises InvalidRequest: there is no such image, or nothing in it.
    :raises UnsupportedOperation: the container has a user namespace of its own.
    """
    with contextlib.ExitStack() as stack:
        points = []
        for spec in specs:
            if spec.kind is not MountKind.IMAGE:
                continue
            if container.idmap is not None:
                raise UnsupportedOperation(
                    "an image cannot be mounted into a container with a user namespace",
                    hint="add --userns host",
                )
            points.append(_point(spec, images, container.storage_driver, stack))
        yield points


def _point(
    spec: MountSpec, images: ImageSource, storage: str, stack: contextlib.ExitStack
) -> MountPoint:
    try:
        facts = stack.enter_context(images.hold(spec.source, storage=storage))
    except NotFound as error:
        # Docker's client takes a 404 for the container's own image, and would go and pull that.
        raise InvalidRequest(error.message, hint=f"`pannier pull {spec.source}` first") from error
    if facts.parent is None:
        raise InvalidRequest(
            f'invalid mount config for type "image": the image {spec.source} has no files'
        )
    return MountPoint(
        spec=replace(spec, read_only=True),
        source=spec.source,
        driver=storage,
        image=facts.id,
        layer=facts.parent,
    )


@dataclass(frozen=True, slots=True)
class ImageMounts:
    """Opens what is to be mounted. Blocking.

    :param scratch: a folder to mount on, in a mount namespace of its own.
    """

    drivers: DriverSet
    scratch: Path

    def open(self, point: MountPoint) -> int:
        """Return a descriptor of a detached read-only mount; the caller closes it.

        :raises NotFound: the subpath is not in the image.
        """
        root = self.drivers.storage_of(point.driver).open_layer(point.layer)
        if not point.spec.subpath:
            return root
        try:
            self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            return in_thread(lambda: _part(root, point, str(self.scratch)))
        finally:
            os.close(root)


def _part(root: int, point: MountPoint, scratch: str) -> int:
    """Return a mount of a part of a detached mount, which kernels before 6.15 refuse.

    Hence it is attached first, where nobody else comes by.
    """
    unshare(CLONE_FS | CLONE_NEWNS)
    mounts.mount(None, "/", flags=mounts.MS_REC | mounts.MS_SLAVE)
    mounts.move_mount(root, scratch)
    whole = os.open(scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        part = openat2(whole, point.spec.subpath, os.O_PATH | os.O_CLOEXEC, resolve=resolve)
    except OSError as error:
        raise NotFound(
            f"cannot access path {point.spec.subpath} of the image {point.source}: "
            f"{os.strerror(error.errno or 0).lower()}"
        ) from error
    finally:
        os.close(whole)
    try:
        return mounts.clone_tree("", dir_fd=part)
    finally:
        os.close(part)
