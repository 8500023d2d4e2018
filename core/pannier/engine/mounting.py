"""What is mounted into a container: from what was asked to what is used."""

from __future__ import annotations

import contextlib
import os
import posixpath
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.engine.localvolume import bind_device, reads_only
from pannier.engine.model import MountKind, MountPoint, MountSpec
from pannier.errors import DriverError, InvalidRequest, NotFound
from pannier.linux.copying import copy_tree
from pannier.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, open_in_root, openat2
from pannier.linux.propagation import propagation_of
from pannier.linux.trees import list_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pannier.engine.imagemounts import ImageMounts
    from pannier.engine.model import Container, ContainerConfig, HostOptions, Volume
    from pannier.engine.registry import Registry
    from pannier.engine.volumes import VolumeStore

__all__ = [
    "Mounting",
    "check_specs",
    "copy_up",
    "fill",
    "inherited",
    "opened_sources",
    "preview",
    "wants_copy",
]


@dataclass(slots=True)
class Mounting:
    """The mounts of a container being made, and the volumes that were made for it."""

    points: list[MountPoint] = field(default_factory=list)
    made: list[Volume] = field(default_factory=list)
    held: list[str] = field(default_factory=list)

    @property
    def destinations(self) -> set[str]:
        """Where something is mounted already."""
        return {posixpath.normpath(point.spec.destination) for point in self.points}


def check_specs(specs: tuple[MountSpec, ...]) -> None:
    """Check mounts that were asked for.

    :raises InvalidRequest: in Docker's words.
    """
    seen: set[str] = set()
    for spec in specs:
        where = f'invalid mount config for type "{spec.kind}"'
        if not spec.destination.startswith("/"):
            raise InvalidRequest(
                f"{where}: invalid mount path: '{spec.destination}' mount path must be absolute"
            )
        destination = posixpath.normpath(spec.destination).replace("//", "/")
        if destination == "/":
            raise InvalidRequest(f"{where}: invalid specification: destination can't be '/'")
        if destination in seen:
            raise InvalidRequest(f"Duplicate mount point: {destination}")
        seen.add(destination)
        if spec.kind is MountKind.BIND:
            if not spec.source.startswith("/"):
                raise InvalidRequest(
                    f"{where}: invalid mount path: '{spec.source}' must be absolute"
                )
            if not spec.create_source and not os.path.lexists(spec.source):
                raise InvalidRequest(
                    f"{where}: bind source path does not exist: {spec.source}",
                    hint="make it first, or use -v, which makes a folder",
                )
        elif spec.kind is MountKind.IMAGE and not spec.source:
            raise InvalidRequest(f"{where}: field Source must not be empty")
        elif spec.kind is MountKind.TMPFS and spec.source:
            raise InvalidRequest(f"{where}: field Source must not be specified")


def inherited(host: HostOptions, registry: Registry) -> list[MountPoint]:
    """Return the mounts that ``--volumes-from`` takes over, without those asked for anew.

    :raises InvalidRequest: there is no such container, or the mode is neither ``ro`` nor ``rw``.
    """
    asked = {posixpath.normpath(spec.destination) for spec in host.mounts}
    found: dict[str, MountPoint] = {}
    for entry in host.volumes_from:
        ref, _, mode = entry.partition(":")
        options = set(mode.split(",")) if mode else set()
        if not options <= {"ro", "rw", "z", "Z"} or options >= {"ro", "rw"}:
            raise InvalidRequest(f"invalid mode for volumes-from: {mode}")
        for point in _donor(ref, registry).mounts:
            destination = posixpath.normpath(point.spec.destination)
            if destination in asked or point.spec.kind is MountKind.TMPFS:
                continue
            spec = replace(point.spec, read_only=True) if "ro" in options else point.spec
            # An anonymous volume goes with the last container that has it, as Docker's does.
            found[destination] = replace(point, spec=spec)
    return list(found.values())


def _donor(ref: str, registry: Registry) -> Container:
    try:
        return registry.find(ref).container
    except NotFound as error:
        # Not the 404 that has clients look for the image.
        raise InvalidRequest(str(error), hint=error.hint) from error


def fill(
    mounting: Mounting,
    specs: tuple[MountSpec, ...],
    config: ContainerConfig,
    volumes: VolumeStore,
    images: Iterable[MountPoint] = (),
) -> None:
    """Add what was asked for, then the image's volumes where nothing is mounted yet.

    :param images: the mounts of images, decided already.

    Volumes that do not exist are made; all are held (see :meth:`VolumeStore.ensure`).

    :raises InvalidRequest: a volume's name is malformed.
    """
    for spec in specs:
        if spec.kind is not MountKind.IMAGE:
            _add(mounting, spec, volumes)
    mounting.points += images
    taken = mounting.destinations
    for destination in config.volumes:
        if posixpath.normpath(destination) not in taken:
            _add(mounting, MountSpec(MountKind.VOLUME, destination), volumes)


def preview(
    specs: tuple[MountSpec, ...], config: ContainerConfig, volumes: VolumeStore
) -> list[MountPoint]:
    """Return what :func:`fill` would add, without making a volume."""
    taken = {posixpath.normpath(spec.destination) for spec in specs}
    images = [
        MountSpec(MountKind.VOLUME, destination)
        for destination in config.volumes
        if posixpath.normpath(destination) not in taken
    ]
    points = []
    for spec in (*specs, *images):
        if spec.kind is MountKind.VOLUME:
            source = str(volumes.folder / (spec.source or "a new volume"))
            points.append(MountPoint(spec, name=spec.source, source=source, driver="local"))
        elif spec.kind is MountKind.IMAGE:
            points.append(MountPoint(replace(spec, read_only=True), source=f"/image:{spec.source}"))
        else:
            points.append(MountPoint(spec, source=spec.source))
    return points


def _add(mounting: Mounting, spec: MountSpec, volumes: VolumeStore) -> None:
    if spec.kind is MountKind.VOLUME:
        volume, made = volumes.ensure(
            spec.source, spec.driver, spec.driver_options, spec.labels, hold=True
        )
        mounting.held.append(volume.name)
        if made:
            mounting.made.append(volume)
        if reads_only(volume.options):
            spec = replace(spec, read_only=True)
        mounting.points.append(
            MountPoint(
                spec=spec,
                name=volume.name,
                source=volume.path,
                driver=volume.driver,
                anonymous=not spec.source,
                options=volume.options,
            )
        )
    else:
        mounting.points.append(MountPoint(spec=spec, source=spec.source))


def copy_up(points: list[MountPoint], root: int) -> None:
    """Fill new, empty volumes with what the image has in their place.

    :param root: a descriptor of the container's root.
    """
    for point in points:
        try:
            source = open_in_root(root, point.spec.destination, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue  # the image has no folder there
        try:
            target = os.open(point.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if not list_names(target):
                    copy_tree(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)


def wants_copy(point: MountPoint) -> bool:
    """Whether the image's files are to be copied into a volume, if it is empty."""
    spec = point.spec
    if point.spec.kind is not MountKind.VOLUME or spec.no_copy or spec.subpath:
        return False
    if point.options and not bind_device(point.options):
        return False  # not mounted yet, and perhaps empty each time that it is
    with contextlib.suppress(OSError), os.scandir(point.source) as entries:
        return next(entries, None) is None
    return False


@contextlib.contextmanager
def opened_sources(container: Container, images: ImageMounts) -> Iterator[tuple[MountPoint, ...]]:
    """Give a container's mounts with sources that can be mounted now.

    Missing bind sources are made where that was asked for. A volume's subpath is resolved below
    the volume and kept open meanwhile: by its path, another container that has the volume could
    swap it for a link out of it before it is mounted.

    :raises InvalidRequest: a source does not exist.
    :raises DriverError: mounts are to spread from or to a source that is on no such mount.
    """
    with contextlib.ExitStack() as stack:
        points = []
        for point in container.mounts:
            if point.spec.kind is MountKind.TMPFS:
                points.append(point)
                continue
            source = point.source
            if point.spec.subpath or point.spec.kind is MountKind.IMAGE:
                image = point.spec.kind is MountKind.IMAGE
                descriptor = images.open(point) if image else _open_subpath(point)
                stack.callback(os.close, descriptor)
                source = f"/proc/{os.getpid()}/fd/{descriptor}"
            elif not os.path.lexists(source):
                _make_source(point)
            if point.spec.kind is not MountKind.IMAGE:
                _check_propagation(point)
            points.append(replace(point, source=source))
        yield tuple(points)


def _check_propagation(point: MountPoint) -> None:
    """Refuse a propagation that the source's own mount does not offer, in Docker's words."""
    wanted = point.spec.propagation.removeprefix("r")
    if wanted not in ("shared", "slave"):
        return
    found = propagation_of(point.source)
    if found.shared or (wanted == "slave" and found.slave):
        return
    kind = "shared" if wanted == "shared" else "shared or slave"
    raise DriverError(
        f"path {point.source} is mounted on {found.point} but it is not a {kind} mount",
        hint=f"make it one: mount --make-shared {found.point}",
    )


def _make_source(point: MountPoint) -> None:
    if point.options:
        raise DriverError(
            f"error while mounting volume '{point.name}': failed to mount local volume: "
            f"{point.source}: no such file or directory",
            hint="make the folder that is the volume's device",
        )
    if not point.spec.create_source:
        raise InvalidRequest(
            f'invalid mount config for type "{point.spec.kind}": '
            f"bind source path does not exist: {point.source}"
        )
    Path(point.source).mkdir(mode=0o755, parents=True, exist_ok=True)


def _open_subpath(point: MountPoint) -> int:
    volume = os.open(point.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return openat2(
            volume,
            point.spec.subpath,
            os.O_PATH,
            resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
        )
    except OSError as error:
        raise NotFound(
            f"cannot access path {point.spec.subpath} of the volume {point.name}: "
            f"{os.strerror(error.errno or 0).lower()}"
        ) from error
    finally:
        os.close(volume)
