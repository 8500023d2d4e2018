"""Mounts, as asked for and as a container has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pannier.engine.model import MountKind

if TYPE_CHECKING:
    from pannier.engine.model import HostOptions, MountPoint, MountSpec

__all__ = ["mount_point_view", "mount_requests", "tmpfs_requests"]


def mount_point_view(point: MountPoint) -> dict[str, Any]:
    """Return a ``MountPoint``."""
    spec = point.spec
    view: dict[str, Any] = {"Type": spec.kind.value}
    if point.name:
        view["Name"] = point.name
    view |= {"Source": point.source, "Destination": spec.destination}
    if spec.kind is MountKind.VOLUME:
        view["Driver"] = point.driver or "local"
    propagation = spec.propagation
    if spec.kind is MountKind.BIND and not propagation:
        propagation = "rprivate"
    view |= {
        "Mode": "" if spec.kind is MountKind.TMPFS else spec.mode,
        "RW": not spec.read_only,
        "Propagation": propagation,
    }
    return view


def tmpfs_requests(host: HostOptions) -> dict[str, str]:
    """Return ``HostConfig.Tmpfs``: what ``--tmpfs`` asked for."""
    return {mount.destination: mount.mode for mount in host.mounts if _is_plain_tmpfs(mount)}


def mount_requests(host: HostOptions) -> list[dict[str, Any]]:
    """Return ``HostConfig.Mounts``: what ``--mount`` asked for."""
    # The mounts of Binds come first, one for each.
    others = host.mounts[len(host.binds) :]
    return [_request_view(mount) for mount in others if not _is_plain_tmpfs(mount)]


def _is_plain_tmpfs(mount: MountSpec) -> bool:
    # A --mount of this kind with options of its own keeps no text of them.
    options = mount.tmpfs_size or mount.tmpfs_mode or mount.tmpfs_options
    return mount.kind is MountKind.TMPFS and bool(mount.mode or not options)


def _request_view(mount: MountSpec) -> dict[str, Any]:
    view: dict[str, Any] = {"Type": mount.kind.value}
    if mount.source:
        view["Source"] = mount.source
    view["Target"] = mount.destination
    if mount.read_only:
        view["ReadOnly"] = True
    options = {
        MountKind.BIND: ("BindOptions", _bind_options),
        MountKind.VOLUME: ("VolumeOptions", _volume_options),
        MountKind.TMPFS: ("TmpfsOptions", _tmpfs_options),
        MountKind.IMAGE: ("ImageOptions", _image_options),
    }
    name, make = options[mount.kind]
    if value := make(mount):
        view[name] = value
    return view


def _bind_options(mount: MountSpec) -> dict[str, Any]:
    view: dict[str, Any] = {}
    if mount.propagation:
        view["Propagation"] = mount.propagation
    if not mount.recursive:
        view["NonRecursive"] = True
    if mount.shallow:
        view["ReadOnlyNonRecursive"] = True
    if mount.create_source:
        view["CreateMountpoint"] = True
    return view


def _volume_options(mount: MountSpec) -> dict[str, Any]:
    view: dict[str, Any] = {}
    if mount.no_copy:
        view["NoCopy"] = True
    if mount.labels:
        view["Labels"] = dict(mount.labels)
    if mount.driver:
        view["DriverConfig"] = {"Name": mount.driver, "Options": dict(mount.driver_options)}
    if mount.subpath:
        view["Subpath"] = mount.subpath
    return view


def _image_options(mount: MountSpec) -> dict[str, Any]:
    return {"Subpath": mount.subpath} if mount.subpath else {}


def _tmpfs_options(mount: MountSpec) -> dict[str, Any]:
    view: dict[str, Any] = {}
    if mount.tmpfs_size:
        view["SizeBytes"] = mount.tmpfs_size
    if mount.tmpfs_mode:
        view["Mode"] = mount.tmpfs_mode
    if mount.tmpfs_options:
        view["Options"] = [option.split("=", 1) for option in mount.tmpfs_options]
    return view
