"""What ``RUN --mount`` needs on the host: folders of caches, copies, secrets, and stubs.

A *stub* is the empty file or folder that a mount is put on where the image has none; it is taken
away again after the command, since it is no part of what the command did.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import posixpath
import secrets
import stat
from typing import TYPE_CHECKING

from pannier.engine.model import MountKind, MountSpec
from pannier.errors import InvalidRequest
from pannier.linux.copying import copy_content, copy_tree
from pannier.linux.mounts import clone_tree
from pannier.linux.paths import open_in_root
from pannier.linux.trees import DIRECTORY, list_names
from pannier.linux.xattrs import proc_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pannier.build.instructions import RunMount
    from pannier.build.sources import Root

__all__ = ["Prepared", "Stubs", "mount_folder", "prepare_bind", "prepare_cache", "prepare_secret"]

_SECRET_MODE = 0o400


class Prepared:
    """What was opened and made for the mounts of one command; closed after it."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.specs: list[MountSpec] = []

    def add(self, target: str, source: str, *, read_only: bool) -> None:
        """Mount something of the host."""
        self.specs.append(MountSpec(MountKind.BIND, target, source=source, read_only=read_only))

    def keep(self, descriptor: int) -> int:
        """Have a descriptor closed in the end."""
        self._stack.callback(os.close, descriptor)
        return descriptor

    def remove_later(self, path: Path) -> None:
        """Have a file removed in the end."""
        self._stack.callback(path.unlink, missing_ok=True)

    def close(self) -> None:
        """Close and remove. Idempotent."""
        self._stack.close()


def prepare_bind(
    prepared: Prepared, mount: RunMount, target: str, root: Root, scratch: Path
) -> None:
    """Mount a file or folder of the context, a stage or an image.

    One that may be written to is a copy: what is written is dropped. A folder of layers is mounted
    as it is where the kernel clones detached mounts (Linux 6.15), and copied elsewhere.
    """
    found = prepared.keep(root.open(mount.source.lstrip("/")))
    path = f"/proc/{os.getpid()}/fd/{found}"
    if mount.read_only:
        with contextlib.suppress(OSError):
            os.close(clone_tree(path))
            prepared.add(target, path, read_only=True)
            return
    copy = scratch / secrets.token_hex(8)
    _copy(found, copy)
    prepared.add(target, str(copy), read_only=mount.read_only)


def _copy(found: int, target: Path) -> None:
    if stat.S_ISDIR(os.fstat(found).st_mode):
        target.mkdir(mode=0o755)
        descriptor = os.open(target, DIRECTORY)
        source = os.open(b".", DIRECTORY, dir_fd=found)
        try:
            copy_tree(source, descriptor)
        finally:
            os.close(source)
            os.close(descriptor)
        return
    source = os.open(proc_path(found), os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(source)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            copy_content(source, descriptor, status.st_size)
            os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
        finally:
            os.close(descriptor)
    finally:
        os.close(source)


def mount_folder(folder: Path, mount: RunMount, number: int = 0) -> Path:
    """Return the folder of a cache mount.

    :param number: tells private ones that are used at once apart.
    """
    name = hashlib.sha256(f"{mount.id}\0{mount.origin}\0{mount.source}".encode()).hexdigest()
    return folder / (f"{name}-{number}" if number else name)


def prepare_cache(
    prepared: Prepared, mount: RunMount, target: str, folder: Path, origin: Root | None
) -> None:
    """Mount a cache's folder, made (from its origin, if it has one) where it is new."""
    if not folder.exists():
        staged = folder.with_name(f".{secrets.token_hex(8)}")
        staged.mkdir(mode=0o700, parents=True)
        descriptor = os.open(staged, DIRECTORY)
        try:
            if origin is not None:
                found = origin.open(mount.source.lstrip("/"))
                try:
                    source = os.open(b".", DIRECTORY, dir_fd=found)
                    try:
                        copy_tree(source, descriptor)
                    finally:
                        os.close(source)
                finally:
                    os.close(found)
            os.fchown(descriptor, mount.uid, mount.gid)
            os.fchmod(descriptor, 0o755 if mount.mode is None else mount.mode)
        finally:
            os.close(descriptor)
        with contextlib.suppress(OSError):  # another stage was quicker
            staged.rename(folder)
    prepared.add(target, str(folder), read_only=mount.read_only)


def prepare_secret(
    prepared: Prepared,
    mount: RunMount,
    target: str,
    known: Mapping[str, bytes],
    folder: Path,
) -> None:
    """Give a secret to a command, as a file.

    :param folder: on a filesystem in memory, by the engine's default.
    :raises InvalidRequest: a required secret was not given.
    """
    data = known.get(mount.id)
    if data is None:
        if mount.required:
            raise InvalidRequest(
                f"secret {mount.id[:100]}: not found",
                hint=f"give it with --secret id={mount.id[:100]},src=FILE",
            )
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / secrets.token_hex(16)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    prepared.remove_later(path)
    with io.FileIO(descriptor, "w") as out:
        view = memoryview(data)
        while view:
            view = view[out.write(view) :]
        os.fchown(descriptor, mount.uid, mount.gid)
        os.fchmod(descriptor, _SECRET_MODE if mount.mode is None else mount.mode)
    prepared.add(target, str(path), read_only=True)


class Stubs:
    """The paths of mounts that an image does not have, and what the folders around them are like.

    :param root: a descriptor of the image's root.
    """

    def __init__(self, root: int, targets: Iterable[str]) -> None:
        self._missing: list[str] = []
        self._around: dict[str, tuple[set[bytes], int]] = {}
        for target in targets:
            parts = [part for part in posixpath.normpath(target).split("/") if part]
            paths = ["/".join(parts[:count]) for count in range(len(parts) + 1)]
            missing = [path for path in paths[1:] if not _there(root, path)]
            if missing:
                parent = missing[0].rpartition("/")[0]
                self._around.setdefault(parent, _look(root, parent))
            self._missing += [path for path in missing if path not in self._missing]

    def __bool__(self) -> bool:
        return bool(self._missing)

    def remove(self, root: int) -> None:
        """Take stubs away that are still empty.

        A folder that then has the same names as before gets its time back: nothing but the stubs
        was put into it.
        """
        for path in sorted(self._missing, key=len, reverse=True):
            head, _, name = path.rpartition("/")
            with contextlib.suppress(OSError):
                parent = open_in_root(root, head or ".", os.O_PATH | os.O_DIRECTORY)
                try:
                    _remove_empty(parent, name)
                finally:
                    os.close(parent)
        for path, (names, time) in self._around.items():
            if _look(root, path)[0] == names:
                with contextlib.suppress(OSError):
                    folder = open_in_root(root, path or ".", os.O_RDONLY | os.O_DIRECTORY)
                    try:
                        os.utime(folder, ns=(time, time))
                    finally:
                        os.close(folder)


def _there(root: int, path: str) -> bool:
    try:
        os.close(open_in_root(root, path, os.O_PATH))
    except OSError:
        return False
    return True


def _look(root: int, path: str) -> tuple[set[bytes], int]:
    """Return the names in a folder and its time; of one that is no folder, nothing."""
    try:
        descriptor = open_in_root(root, path or ".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return set(), 0
    try:
        return set(list_names(descriptor)), os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)


def _remove_empty(parent: int, name: str) -> None:
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        os.rmdir(name, dir_fd=parent)
    elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
        os.unlink(name, dir_fd=parent)
