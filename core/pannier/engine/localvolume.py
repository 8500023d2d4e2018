"""The local volume driver's options: what is mounted as a volume, while containers have it.

``type``, ``device`` and ``o`` are mount(8)'s. A bind is no mount of its own: its device takes the
place of the volume's folder. Everything else is mounted at the volume's folder when the first
container that has it starts, and unmounted when the last has stopped; so that containers share it.
"""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.errors import DriverError, InvalidRequest
from pannier.linux import mounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pannier.engine.model import Container, MountPoint

__all__ = ["LocalMounts", "bind_device", "check_options", "is_mounted", "reads_only"]

_KNOWN = ("type", "device", "o")
_FLAGS = {
    "ro": mounts.MS_RDONLY,
    "nosuid": mounts.MS_NOSUID,
    "nodev": mounts.MS_NODEV,
    "noexec": mounts.MS_NOEXEC,
    "sync": mounts.MS_SYNCHRONOUS,
    "dirsync": mounts.MS_DIRSYNC,
    "noatime": mounts.MS_NOATIME,
    "nodiratime": mounts.MS_NODIRATIME,
    "relatime": mounts.MS_RELATIME,
    "strictatime": mounts.MS_STRICTATIME,
}
_NOTHING = ("rw", "suid", "dev", "exec", "async", "atime", "diratime", "defaults", "")
_BIND = ("bind", "rbind")
_BIND_WORDS = frozenset((*_BIND, *_NOTHING, "ro", "private", "rprivate"))
_REMOTE = ("nfs", "nfs4", "cifs", "smb3")


def _words(options: Mapping[str, str]) -> list[str]:
    return options.get("o", "").split(",")


def _is_bind(options: Mapping[str, str]) -> bool:
    return any(word in _BIND for word in _words(options))


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Check a volume's options, as far as that is possible before they are used.

    :raises InvalidRequest: one is not known, or missing.
    """
    if not options:
        return
    for option in options:
        if option not in _KNOWN:
            raise InvalidRequest(
                f'create {name}: invalid option: "{option}"', hint="there are type, device and o"
            )
    if not options.get("device"):
        raise InvalidRequest(f'create {name}: missing required option: "device"')
    if _is_bind(options):
        unknown = [word for word in _words(options) if word not in _BIND_WORDS]
        if unknown or not options["device"].startswith("/"):
            what = f"o={unknown[0]}" if unknown else f"device={options['device']}"
            raise InvalidRequest(
                f"create {name}: {what} cannot be had with a bind",
                hint="a bind takes an absolute device, and o=bind or o=bind,ro",
            )
    elif not options.get("type"):
        raise InvalidRequest(f'create {name}: missing required option: "type"')


def bind_device(options: Mapping[str, str]) -> str:
    """Return the folder that stands for a volume's own; empty where it has its own."""
    return options["device"] if options and _is_bind(options) else ""


def reads_only(options: Mapping[str, str]) -> bool:
    """Whether a volume is bound so that nobody can write to it."""
    return bool(bind_device(options)) and "ro" in _words(options)


def is_mounted(path: str) -> bool:
    """Whether something is mounted at *path*."""
    try:
        return Path(path).stat().st_dev != Path(path, "..").stat().st_dev
    except FileNotFoundError:
        return False


class LocalMounts:
    """Which containers have which mounted volume. Blocking, and safe from any thread."""

    def __init__(self) -> None:
        self._users: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def mount(self, container: Container) -> None:
        """Mount the volumes of a container that starts, as far as they are not yet. Idempotent.

        :raises DriverError: one cannot be mounted; those before it are let go of again.
        """
        try:
            for point in _mounted_points(container):
                with self._lock:
                    if not is_mounted(point.source):
                        _mount(point)
                    self._users.setdefault(point.source, set()).add(container.id)
        except BaseException:
            self.unmount(container)
            raise

    def unmount(self, container: Container) -> None:
        """Let go of the volumes of a container that has stopped. Idempotent."""
        for point in _mounted_points(container):
            with self._lock:
                users = self._users.get(point.source, set())
                users.discard(container.id)
                if not users:
                    self._users.pop(point.source, None)
                    if is_mounted(point.source):
                        mounts.umount(point.source)

    def recover(self, containers: Iterable[Container]) -> None:
        """Find again who has what, and unmount what nobody has; at the engine's start."""
        containers = list(containers)
        for container in containers:
            if container.state.running:
                for point in _mounted_points(container):
                    self._users.setdefault(point.source, set()).add(container.id)
        for container in containers:
            if not container.state.running:
                self.unmount(container)


def _mounted_points(container: Container) -> list[MountPoint]:
    return [point for point in container.mounts if point.options and not bind_device(point.options)]


def _mount(point: MountPoint) -> None:
    options = point.options
    flags, data = 0, []
    for word in _words(options):
        if word in _FLAGS:
            flags |= _FLAGS[word]
        elif word not in _NOTHING:
            data.append(word)
    kind, device = options["type"], options["device"]
    try:
        mounts.mount(device, point.source, kind, flags, ",".join(data) or None)
    except OSError as error:
        raise DriverError(
            f"error while mounting volume '{point.source}': failed to mount local volume: mount "
            f"{device}:{point.source}, type: {kind}, data: {','.join(data)}: {error.strerror}",
            hint=_hint(kind, error),
        ) from error


def _hint(kind: str, error: OSError) -> str:
    if kind in _REMOTE:
        return (
            f"the kernel alone does not mount this; mount.{kind} may: mount it on the host, and "
            f"make the volume with type=none, o=bind and device=WHERE"
        )
    if error.errno == errno.ENODEV:
        return f"this kernel has no filesystem of the type {kind}"
    return "see `pannier volume inspect` for the options, and the kernel's log for its reasons"
