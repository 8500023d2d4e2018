"""Places to mount on in a container's tree, which count as no change. A help for drivers.

For storage drivers that keep a container as a whole copy; see
:class:`~pannier.drivers.storage.Skeleton`.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from errno import ENOTDIR
from typing import TYPE_CHECKING

from pannier.linux.paths import open_in_root
from pannier.linux.trees import DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.drivers.storage import Skeleton

__all__ = ["make_skeleton"]


def make_skeleton(tree: int, skeleton: Skeleton) -> tuple[str, ...]:
    """Make what is missing of a skeleton; return the paths that were made, sorted.

    The folders it is made in keep their times. Where a link or file of the image's is in the way
    of a folder, the place is left out: the runtime then makes it as it needs it.

    :param tree: a descriptor of the container's tree, which nobody uses yet.
    """
    made: list[str] = []
    for path in skeleton.directories:
        with contextlib.suppress(NotADirectoryError):
            _make(tree, path, made, directory=True)
    for path in skeleton.files:
        with contextlib.suppress(NotADirectoryError):
            _make(tree, path, made, directory=False)
    return tuple(sorted(made))


def _make(tree: int, path: str, made: list[str], *, directory: bool) -> None:
    if path == "/":
        return
    head, name = posixpath.split(path)
    with _folder(tree, head, made) as folder:
        status = os.fstat(folder)
        try:
            if directory:
                os.mkdir(name, 0o755, dir_fd=folder)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o644, dir_fd=folder))
        except FileExistsError:
            return
        made.append(path)
        os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextlib.contextmanager
def _folder(tree: int, path: str, made: list[str]) -> Iterator[int]:
    try:
        descriptor = open_in_root(tree, path, DIRECTORY)
    except FileNotFoundError:
        _make(tree, path, made, directory=True)
        try:
            descriptor = open_in_root(tree, path, DIRECTORY)
        except FileNotFoundError:  # a link that leads nowhere
            raise NotADirectoryError(ENOTDIR, "a link is in the way", path) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
