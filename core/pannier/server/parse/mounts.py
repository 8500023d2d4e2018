"""Mounts: ``Binds``, ``Mounts`` and ``Tmpfs`` become one kind of specification.

What is asked is checked for its form only; whether a path or volume exists is the engine's to see.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from pannier.engine.model import MountKind, MountSpec
from pannier.errors import InvalidRequest
from pannier.server.parse.tmpfs import parse_tmpfs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.server.parse.fields import Fields

__all__ = ["check_volume_name", "parse_bind", "parse_mounts"]

_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_PROPAGATION = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}
_CONSISTENCY = {"consistent", "cached", "delegated"}
_OPTIONS_OF = {
    MountKind.BIND: "BindOptions",
    MountKind.VOLUME: "VolumeOptions",
    MountKind.TMPFS: "TmpfsOptions",
    MountKind.IMAGE: "ImageOptions",
}
# Which letter groups a bind's mode may use once each.
_MODE_GROUPS = (
    {"rw", "ro"},
    {"z", "Z"},
    _PROPAGATION,
    {"nocopy"},
    _CONSISTENCY,
)


def parse_mounts(host: Fields) -> tuple[MountSpec, ...]:
    """Read every mount that a ``HostConfig`` asks for.

    :raises InvalidRequest: one is malformed, or two have the same destination.
    """
    driver = host.text("VolumeDriver")
    mounts = [parse_bind(text, driver) for text in host.strings("Binds")]
    mounts += [_parse_mount(fields) for fields in host.objects("Mounts")]
    tmpfs = host.string_map("Tmpfs")
    mounts += [parse_tmpfs(_destination(path), options) for path, options in tmpfs.items()]
    _refuse_duplicates(mounts)
    return tuple(mounts)


def check_volume_name(name: str) -> str:
    """Return *name* if a volume can have it.

    :raises InvalidRequest: it cannot.
    """
    if _VOLUME_NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    if len(name) == 1:
        raise InvalidRequest(
            f"create {name}: volume name is too short, names should be at least two alphanumeric "
            "characters"
        )
    return name


def parse_bind(text: str, driver: str = "") -> MountSpec:
    """Parse ``-v``'s ``[source:]destination[:options]``."""
    parts = text.split(":")
    if len(parts) == 1:
        return MountSpec(MountKind.VOLUME, _bind_destination(text, text, "volume"), driver=driver)
    if len(parts) > 3 or not all(parts):
        raise InvalidRequest(f"invalid volume specification: '{text}'")
    source, destination = parts[0], parts[1]
    mode = parts[2] if len(parts) == 3 else ""
    read_only, propagation, no_copy = _bind_mode(mode)
    if source.startswith("/"):
        place = _bind_destination(text, destination, "bind")
        if no_copy:
            raise _wrong_bind(text, "bind", "field VolumeOptions must not be specified")
        return MountSpec(
            MountKind.BIND,
            place,
            source=posixpath.normpath(source),
            read_only=read_only,
            propagation=propagation,
            create_source=True,
            mode=mode,
        )
    if propagation:
        raise InvalidRequest(f"invalid mode: {mode}")
    return MountSpec(
        MountKind.VOLUME,
        _bind_destination(text, destination, "volume"),
        source=check_volume_name(source),
        read_only=read_only,
        no_copy=no_copy,
        driver=driver,
        mode=mode,
    )


def _bind_destination(text: str, destination: str, kind: str) -> str:
    try:
        return _destination(destination)
    except InvalidRequest as error:
        raise _wrong_bind(text, kind, error.message) from None


def _wrong_bind(text: str, kind: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"invalid volume specification: '{text}': {_wrong(kind, reason).message}")


def _destination(path: str) -> str:
    if not path.startswith("/"):
        raise InvalidRequest(f"invalid mount path: '{path}' mount path must be absolute")
    clean = "/" + posixpath.normpath(path).lstrip("/")
    if clean == "/":
        raise InvalidRequest("invalid specification: destination can't be '/'")
    return clean


def _bind_mode(mode: str) -> tuple[bool, str, bool]:
    """Return whether a mode says read-only, its propagation, and whether it says nocopy."""
    options = mode.split(",") if mode else []
    for option in options:
        if not any(option in group for group in _MODE_GROUPS):
            raise InvalidRequest(f"invalid mode: {mode}")
    for group in _MODE_GROUPS:
        if sum(option in group for option in options) > 1:
            raise InvalidRequest(f"invalid mode: {mode}")
    propagation = next((option for option in options if option in _PROPAGATION), "")
    return "ro" in options, propagation, "nocopy" in options


def _parse_mount(fields: Fields) -> MountSpec:
    type_ = fields.text("Type", "bind")
    try:
        kind = MountKind(type_)
    except ValueError:
        raise _wrong(type_, "mount type unknown") from None
    target = fields.text("Target")
    if not target:
        raise _wrong(type_, "field Target must not be empty")
    for other, name in _OPTIONS_OF.items():
        if other is not kind and name in fields:
            raise _wrong(type_, f"field {name} must not be specified")
    try:
        destination = _destination(target)
    except InvalidRequest as error:
        raise _wrong(type_, error.message) from None
    if kind is MountKind.BIND:
        return _parse_bind_mount(fields, destination)
    if kind is MountKind.VOLUME:
        return _parse_volume_mount(fields, destination)
    if kind is MountKind.IMAGE:
        return _parse_image_mount(fields, destination)
    return _parse_tmpfs_mount(fields, destination)


def _wrong(type_: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f'invalid mount config for type "{type_}": {reason}')


def _parse_bind_mount(fields: Fields, destination: str) -> MountSpec:
    source = fields.text("Source")
    if not source:
        raise _wrong("bind", "field Source must not be empty")
    if not source.startswith("/"):
        raise _wrong("bind", f"invalid mount path: '{source}' mount path must be absolute")
    options = fields.object("BindOptions")
    propagation = options.text("Propagation")
    if propagation and propagation not in _PROPAGATION:
        raise _wrong("bind", f"invalid propagation mode: {propagation}")
    return MountSpec(
        MountKind.BIND,
        destination,
        source=posixpath.normpath(source),
        read_only=fields.boolean("ReadOnly"),
        recursive=not options.boolean("NonRecursive"),
        shallow=options.boolean("ReadOnlyNonRecursive"),
        propagation=propagation,
        create_source=options.boolean("CreateMountpoint"),
    )


def _parse_volume_mount(fields: Fields, destination: str) -> MountSpec:
    options = fields.object("VolumeOptions")
    source = fields.text("Source")
    subpath = options.text("Subpath")
    _check_subpath("volume", subpath)
    if not source and subpath:
        raise _wrong("volume", "must not set Subpath when using anonymous volumes")
    driver = options.object("DriverConfig")
    return MountSpec(
        MountKind.VOLUME,
        destination,
        source=check_volume_name(source) if source else "",
        read_only=fields.boolean("ReadOnly"),
        no_copy=options.boolean("NoCopy"),
        subpath=subpath,
        driver=driver.text("Name"),
        driver_options=driver.string_map("Options"),
        labels=options.string_map("Labels"),
    )


def _check_subpath(kind: str, subpath: str) -> None:
    if subpath and (subpath.startswith("/") or ".." in subpath.split("/")):
        raise _wrong(kind, f"subpath must be a relative path within the {kind}: {subpath}")


def _parse_image_mount(fields: Fields, destination: str) -> MountSpec:
    source = fields.text("Source")
    if not source:
        raise _wrong("image", "field Source must not be empty")
    subpath = fields.object("ImageOptions").text("Subpath")
    _check_subpath("image", subpath)
    return MountSpec(
        MountKind.IMAGE,
        destination,
        source=source,
        read_only=fields.boolean("ReadOnly"),
        subpath=subpath,
    )


def _parse_tmpfs_mount(fields: Fields, destination: str) -> MountSpec:
    if fields.text("Source"):
        raise _wrong("tmpfs", "field Source must not be specified")
    options = fields.object("TmpfsOptions")
    size, mode = options.integer("SizeBytes"), options.integer("Mode")
    if size < 0:
        raise _wrong("tmpfs", "invalid size: it must not be negative")
    if not 0 <= mode <= 0o7777:
        raise _wrong("tmpfs", f"invalid mode: {mode}")
    extra = []
    for pair in options.items("Options"):
        if not isinstance(pair, list) or not all(isinstance(word, str) for word in pair):
            raise _wrong("tmpfs", "invalid option array: an array of strings is expected")
        if len(pair) not in (1, 2):
            raise _wrong("tmpfs", f"invalid option array length: {len(pair)}")
        extra.append("=".join(pair))
    parsed = parse_tmpfs(destination, ",".join(extra))
    return MountSpec(
        MountKind.TMPFS,
        destination,
        read_only=fields.boolean("ReadOnly") or parsed.read_only,
        tmpfs_size=size or parsed.tmpfs_size,
        tmpfs_mode=mode or parsed.tmpfs_mode,
        tmpfs_options=parsed.tmpfs_options,
    )


def _refuse_duplicates(mounts: Iterable[MountSpec]) -> None:
    seen = set()
    for mount in mounts:
        if mount.destination in seen:
            raise InvalidRequest(f"Duplicate mount point: {mount.destination}")
        seen.add(mount.destination)
