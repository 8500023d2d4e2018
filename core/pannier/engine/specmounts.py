"""The mounts of a container: the default ones, the engine's own files, and the user's."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.drivers.storage import Skeleton
from pannier.engine.model import MountKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.drivers import oci
    from pannier.engine.model import Container, MountPoint

__all__ = ["MASKED", "READ_ONLY", "SKELETON", "mounts"]

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

SKELETON = Skeleton(
    directories=("/dev", "/proc", "/sys", "/etc"),
    # The last one is how programs tell that they are in a container.
    files=("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/.dockerenv"),
)
"""Where every container has something mounted, whatever its image has there."""

_QUEUES = "/dev/mqueue"
_SHM = "/dev/shm"  # noqa: S108 - a place in the container

_PROPAGATIONS = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}


def mounts(
    container: Container, files: Mapping[str, str], shared_memory: str | None
) -> list[oci.Mount]:
    """Return a container's mounts, in the order in which they are to be made.

    :param files: the engine's own files for it, by their place in the container.
    :param shared_memory: a folder to use as /dev/shm; None makes one.
    """
    taken = {posixpath.normpath(point.spec.destination) for point in container.mounts}
    found = [
        mount
        for mount in (
            *_defaults(container, shared_memory),
            *_own_files(container, files),
        )
        if mount["destination"] not in taken
    ]
    points = sorted(
        container.mounts, key=lambda point: posixpath.normpath(point.spec.destination).count("/")
    )
    found += [_user_mount(point) for point in points]
    return found


def _defaults(container: Container, shared_memory: str | None) -> list[oci.Mount]:
    host = container.host
    access = "rw" if host.privileged else "ro"
    found: list[oci.Mount] = [
        {
            "destination": "/proc",
            "type": "proc",
            "source": "proc",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", access],
        },
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", access],
        },
    ]
    queues: oci.Mount = {
        "destination": _QUEUES,
        "type": "mqueue",
        "source": "mqueue",
        "options": ["nosuid", "noexec", "nodev"],
    }
    if host.ipc_mode == "host":
        # A host need not have its own mounted. The kernel shows the queues of the namespace that
        # the mounting process is in: in the joined one, those of the host.
        found.append(_bind(_QUEUES, _QUEUES) if Path(_QUEUES).exists() else queues)
        found.append(_bind(_SHM, _SHM))
        return found
    found.append(queues)
    if shared_memory is not None:
        found.append(_bind(_SHM, shared_memory))
    elif host.ipc_mode != "none":
        found.append(
            {
                "destination": _SHM,
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", f"size={host.shm_size}"],
            }
        )
    return found


def _bind(destination: str, source: str) -> oci.Mount:
    return {
        "destination": destination,
        "type": "bind",
        "source": source,
        "options": ["rbind", "rprivate", "nosuid", "noexec", "nodev"],
    }


def _own_files(container: Container, files: Mapping[str, str]) -> list[oci.Mount]:
    access = "ro" if container.host.read_only else "rw"
    return [
        {
            "destination": destination,
            "type": "bind",
            "source": source,
            "options": ["rbind", "rprivate", access],
        }
        for destination, source in files.items()
    ]


def _user_mount(point: MountPoint) -> oci.Mount:
    spec = point.spec
    destination = posixpath.normpath(spec.destination)
    if spec.kind is MountKind.TMPFS:
        return {
            "destination": destination,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": _tmpfs_options(point),
        }
    propagation = spec.propagation if spec.propagation in _PROPAGATIONS else "rprivate"
    recursive = "rbind" if spec.recursive else "bind"
    # Read-only for the mounts below as well, or a disk of the host could be written to there.
    deep = spec.recursive and not spec.shallow
    access = ("rro" if deep else "ro") if spec.read_only else "rw"
    return {
        "destination": destination,
        "type": "bind",
        "source": point.source,
        "options": [recursive, propagation, access],
    }


def _tmpfs_options(point: MountPoint) -> list[str]:
    spec = point.spec
    options = ["nosuid", "nodev", "noexec"]
    given = list(spec.tmpfs_options)
    # What was asked for takes the place of the default that it contradicts.
    for default, opposite in (("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")):
        if default in given or opposite in given:
            options.remove(default)
    options += given
    if spec.read_only and "ro" not in options:
        options.append("ro")
    if spec.tmpfs_size:
        options.append(f"size={spec.tmpfs_size}")
    if not any(option.startswith("mode=") for option in options):
        options.append(f"mode={spec.tmpfs_mode or 0o1777:o}")
    return options
