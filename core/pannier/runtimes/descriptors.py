"""The descriptors that go with a job: named while it is planned, opened when it is executed."""

from __future__ import annotations

import contextlib
import os
from errno import EINVAL, ENOENT, ENOTDIR
from typing import TYPE_CHECKING

from pannier.errors import DriverError, InvalidRequest
from pannier.linux import mounts
from pannier.linux.userns import open_userns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pannier.linux.userns import Ranges
    from pannier.runtimes.options import MountOptions

__all__ = ["DescriptorList", "open_bind"]

_MISSING = (ENOENT, ENOTDIR)


class DescriptorList:
    """Descriptors by their index in the message."""

    def __init__(self) -> None:
        self._openers: list[Callable[[], int]] = []

    def __len__(self) -> int:
        return len(self._openers)

    def add(self, opener: Callable[[], int]) -> int:
        """Note one to be opened; return its index. The opener says what went wrong by itself."""
        self._openers.append(opener)
        return len(self._openers) - 1

    def add_path(self, path: str | Path, flags: int, what: str) -> int:
        """Note a path to be opened; *what* names it in an error."""
        return self.add(lambda: _open(path, flags, what))

    @contextlib.contextmanager
    def opened(self) -> Iterator[list[int]]:
        """Hold all of them open."""
        with contextlib.ExitStack() as stack:
            descriptors: list[int] = []
            for opener in self._openers:
                descriptor = opener()
                stack.callback(os.close, descriptor)
                descriptors.append(descriptor)
            yield descriptors


def _open(path: str | Path, flags: int, what: str) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        kind = InvalidRequest if error.errno in _MISSING else DriverError
        raise kind(f"cannot open {what} {path}: {error.strerror}") from error


def open_bind(
    source: str, options: MountOptions, destination: str, maps: tuple[Ranges, Ranges] | None = None
) -> int:
    """Clone the host's mount at *source*, with the attributes asked for; still detached.

    A source that is detached itself, by the path of its descriptor, is not cloned: it goes where
    the container is to have it.

    :param maps: of the uids and gids, for an idmapped mount.

    :raises InvalidRequest: there is no such path.
    """
    try:
        copy = _cloned(source, recursive=options.recursive)
    except OSError as error:
        if error.errno in _MISSING:
            raise InvalidRequest(
                f"cannot bind {source} to {destination}: bind source path does not exist: {source}",
                hint="create it, or name a volume instead",
            ) from error
        raise DriverError(f"cannot bind {source} to {destination}: {error.strerror}") from error
    try:
        if maps is not None:
            _map_ids(copy, maps, recursive=options.recursive_idmap)
        _set_attributes(copy, options)
    except OSError as error:
        os.close(copy)
        raise DriverError(
            f"cannot set the options of the mount at {destination}: {error.strerror}"
        ) from error
    return copy


def _cloned(source: str, *, recursive: bool) -> int:
    try:
        return mounts.clone_tree(source, recursive=recursive)
    except OSError as error:
        # Kernels before 6.15 clone no detached mount, later ones none of another mount namespace.
        if error.errno != EINVAL or not source.startswith("/proc/"):
            raise
        return mounts.open_tree(source, 0)


def _map_ids(copy: int, maps: tuple[Ranges, Ranges], *, recursive: bool) -> None:
    userns = open_userns(*maps)
    try:
        mounts.mount_setattr(
            copy, set=mounts.MOUNT_ATTR_IDMAP, userns_fd=userns, recursive=recursive
        )
    finally:
        os.close(userns)


def _set_attributes(copy: int, options: MountOptions) -> None:
    if options.recursive_set or options.recursive_clear:
        mounts.mount_setattr(
            copy, set=options.recursive_set, clear=options.recursive_clear, recursive=True
        )
    if options.set or options.clear:
        mounts.mount_setattr(copy, set=options.set, clear=options.clear)
    propagation = options.propagation
    if propagation in {mounts.MS_SLAVE, mounts.MS_PRIVATE} and not options.recursive_propagation:
        # What is below stays the host's peer otherwise, and mounts in the container would reach it.
        mounts.mount_setattr(copy, propagation=mounts.MS_SLAVE, recursive=True)
    # Unasked, nothing that is mounted later passes between host and container.
    mounts.mount_setattr(
        copy,
        propagation=mounts.MS_PRIVATE if propagation is None else propagation,
        recursive=propagation is None or options.recursive_propagation,
    )
