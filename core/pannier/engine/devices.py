"""Devices: the nodes that a container gets, and the rules for its device control group."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.drivers.resources import DeviceRule
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pannier.drivers import oci
    from pannier.engine.model import DeviceMapping, HostOptions

__all__ = ["DEFAULT_RULES", "nodes", "rules"]

DEFAULT_RULES = (
    DeviceRule(allow=False),
    # Any node may be made; only those below may be opened.
    DeviceRule(allow=True, type="c", access="m"),
    DeviceRule(allow=True, type="b", access="m"),
    DeviceRule(allow=True, type="c", major=1, minor=3),  # null
    DeviceRule(allow=True, type="c", major=1, minor=5),  # zero
    DeviceRule(allow=True, type="c", major=1, minor=7),  # full
    DeviceRule(allow=True, type="c", major=1, minor=8),  # random
    DeviceRule(allow=True, type="c", major=1, minor=9),  # urandom
    DeviceRule(allow=True, type="c", major=5, minor=0),  # tty
    DeviceRule(allow=True, type="c", major=5, minor=1),  # console
    DeviceRule(allow=True, type="c", major=5, minor=2),  # ptmx
    DeviceRule(allow=True, type="c", major=136),  # pts
)
"""What every container may use: the nodes that the OCI specification has in every one."""

# Mounts of a container's own, and what means another device to each process.
_NOT_OURS = frozenset({"pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"})
_DEFAULT_NODES = frozenset(
    f"/dev/{name}" for name in ["null", "zero", "full", "random", "urandom", "tty", "ptmx"]
)


def nodes(host: HostOptions) -> list[oci.Device]:
    """Return the device nodes beyond the default ones.

    :raises InvalidRequest: a device that was asked for is not there or is none.
    """
    found: dict[str, oci.Device] = {}
    if host.privileged:
        for path in _host_devices("/dev"):
            node = _node(path, path)
            if node is not None:
                found[path] = node
    for mapping in host.devices:
        for node in _mapped(mapping):
            found[node["path"]] = node
    return list(found.values())


def rules(host: HostOptions) -> tuple[DeviceRule, ...]:
    """Return the device rules, in the order of application; empty allows everything.

    :raises InvalidRequest: as :func:`nodes`.
    """
    if host.privileged:
        return ()
    given = [
        DeviceRule(
            allow=True,
            type=node["type"],
            major=node["major"],
            minor=node["minor"],
            access=mapping.access or "rwm",
        )
        for mapping in host.devices
        for node in _mapped(mapping)
    ]
    return (*DEFAULT_RULES, *given, *host.device_rules)


def _mapped(mapping: DeviceMapping) -> Iterator[oci.Device]:
    target = mapping.container or mapping.host
    if set(mapping.access) - set("rwm"):
        raise InvalidRequest(f"invalid device mode: {mapping.access}", hint="some of r, w and m")
    try:
        path = os.path.realpath(mapping.host, strict=True)
        node = _node(path, target)
    except OSError as error:
        raise InvalidRequest(
            f'error gathering device information while adding custom device "{mapping.host}": '
            f"{error.strerror}"
        ) from error
    if node is not None:
        yield node
        return
    within = list(_host_devices(path)) if Path(path).is_dir() else []
    if not within:
        raise InvalidRequest(
            f'error gathering device information while adding custom device "{mapping.host}": '
            f"not a device node"
        )
    for item in within:
        inner = _node(item, target + item.removeprefix(path))
        if inner is not None:
            yield inner


def _node(path: str, target: str) -> oci.Device | None:
    found = os.lstat(path)
    if stat.S_ISCHR(found.st_mode):
        kind = "c"
    elif stat.S_ISBLK(found.st_mode):
        kind = "b"
    else:
        return None
    return {
        "path": target,
        "type": kind,
        "major": os.major(found.st_rdev),
        "minor": os.minor(found.st_rdev),
        "fileMode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
    }


def _host_devices(folder: str) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # gone meanwhile
        return
    for entry in entries:
        if entry.name in _NOT_OURS or entry.path in _DEFAULT_NODES:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _host_devices(entry.path)
        elif not entry.is_symlink():
            yield entry.path
