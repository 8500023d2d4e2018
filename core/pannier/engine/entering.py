"""Reaching into a container's filesystem.

A running one's is seen as its processes see it, any other's with its volumes in their places.

Nothing inside is executed, and every path is then resolved below the descriptor given here.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from typing import TYPE_CHECKING

from pannier.drivers.operations import Transaction
from pannier.engine.folders import ensure_folder
from pannier.engine.imagemounts import ImageMounts
from pannier.engine.model import MountKind
from pannier.engine.ownthread import in_thread
from pannier.errors import Conflict, InvalidRequest
from pannier.linux import mounts
from pannier.linux.namespaces import CLONE_FS, CLONE_NEWNS, setns, unshare
from pannier.linux.paths import open_in_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pannier.drivers.base import IdMap
    from pannier.driverset import DriverSet
    from pannier.engine.model import Container, MountPoint

__all__ = ["Entering"]


class Entering:
    """Opens containers' roots. Blocking; called under the container's lock.

    :param scratch: an empty folder to mount on, in a mount namespace of its own.
    """

    def __init__(self, drivers: DriverSet, scratch: Path) -> None:
        self._drivers = drivers
        self._images = ImageMounts(drivers, scratch)
        self._scratch = scratch

    @contextlib.contextmanager
    def running_root(self, container: Container) -> Iterator[int]:
        """Give a descriptor of a running container's root, its mounts included.

        :raises Conflict: it does not run.
        """
        root = self._open_process(container, "root", os.O_PATH | os.O_DIRECTORY)
        try:
            yield root
        finally:
            os.close(root)

    def _open_process(self, container: Container, link: str, flags: int) -> int:
        pid = container.state.pid
        try:
            descriptor = os.open(f"/proc/{pid}/{link}", flags | os.O_CLOEXEC)
        except OSError as error:
            raise Conflict(f"Container {container.id} is not running") from error
        # The pid may have been given to another process, even to one of the host's.
        members = self._drivers.resources.pids(container.id, container.host.cgroup_parent)
        if pid not in members:
            os.close(descriptor)
            raise Conflict(f"Container {container.id} is not running")
        return descriptor

    @contextlib.contextmanager
    def root(self, container: Container) -> Iterator[int]:
        """Give a descriptor of a container's root with everything that is mounted in it."""
        if container.state.running:
            with self.running_root(container) as root:
                yield root
            return
        with self.bare_root(container) as root:
            points = [point for point in container.mounts if point.spec.kind is not MountKind.TMPFS]
            if not points:
                yield root
                return
            with self._assembled(root, points, container.idmap) as assembled:
                yield assembled

    @contextlib.contextmanager
    def bare_root(self, container: Container) -> Iterator[int]:
        """Give a descriptor of a container's root without anything mounted in it."""
        if container.state.running:
            namespace = self._open_process(container, "ns/mnt", os.O_RDONLY)
            try:
                root = in_thread(lambda: _clone_root(namespace))
            finally:
                os.close(namespace)
        else:
            storage = self._drivers.storage_of(container.storage_driver)
            plan = storage.plan_open_root(container.id, idmap=container.idmap)
            root = Transaction().run(plan)
        try:
            yield root
        finally:
            os.close(root)

    @contextlib.contextmanager
    def _assembled(self, root: int, points: list[MountPoint], idmap: IdMap | None) -> Iterator[int]:
        """Mount volumes into a root, where only this process can come by.

        On a thread in a mount namespace of its own, which lives as long as its descriptor: gone
        with this process, whatever happens.
        """
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = str(self._scratch)
        with contextlib.ExitStack() as stack:
            trees: dict[str, int] = {}
            for point in points:
                if point.spec.kind is MountKind.IMAGE:
                    trees[point.spec.destination] = tree = self._images.open(point)
                    stack.callback(os.close, tree)
            namespace, assembled = in_thread(lambda: _assemble(root, points, scratch, idmap, trees))
        try:
            yield assembled
        finally:
            os.close(assembled)
            os.close(namespace)


def _assemble(
    root: int,
    points: list[MountPoint],
    scratch: str,
    idmap: IdMap | None,
    trees: Mapping[str, int],
) -> tuple[int, int]:
    unshare(CLONE_FS | CLONE_NEWNS)
    mounts.mount(None, "/", flags=mounts.MS_REC | mounts.MS_SLAVE)
    mounts.move_mount(root, scratch)
    assembled = os.open(scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for point in sorted(points, key=lambda item: item.spec.destination.count("/")):
            tree = trees.get(point.spec.destination)
            _bind(assembled, point, idmap, None if tree is None else os.dup(tree))
        namespace = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except BaseException:
        os.close(assembled)
        raise
    return namespace, assembled


def _bind(root: int, point: MountPoint, idmap: IdMap | None, tree: int | None) -> None:
    destination = posixpath.normpath(point.spec.destination)
    source = point.source
    if point.spec.subpath:
        source = f"{source}/{point.spec.subpath}"
    if tree is None:
        try:
            tree = mounts.clone_tree(source, recursive=point.spec.recursive)
        except FileNotFoundError:
            return
    try:
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            # As the container's start would, so that something can be copied to a new volume.
            ensure_folder(root, destination, idmap)
        target = open_in_root(root, destination)
    except (OSError, InvalidRequest):
        os.close(tree)
        return  # made at the container's start, or refused there: there is nothing to see yet
    try:
        if point.spec.read_only:
            mounts.mount_setattr(tree, set=mounts.MOUNT_ATTR_RDONLY)
        mounts.move_mount(tree, dir_fd=target)
    finally:
        os.close(tree)
        os.close(target)


def _clone_root(namespace: int) -> int:
    unshare(CLONE_FS)
    setns(namespace, CLONE_NEWNS)
    # The thread's root is now the container's; it makes this one call and ends.
    return mounts.clone_tree("/")
