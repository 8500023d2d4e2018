"""Making images here: ``docker import`` from a root filesystem, ``docker commit`` from a container.

A new layer is stored as the plain tar stream. Compressing it would cost about as much as all the
rest of a commit together (gzip's fastest level does some 150 MB a second here, hashing ten times
that), would make its bytes depend on the compressor, and is wasted if the image is never pushed.
The blob's digest is then the diff id, which is checked with one hash while it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pannier.errors import InvalidRequest
from pannier.images.changes import apply_changes
from pannier.images.compression import CHUNK, open_stream
from pannier.images.config import HistoryEntry, RunConfig, is_empty_layer, make_config
from pannier.images.model import NewImage
from pannier.images.oci import OCI_CONFIG, OCI_LAYER, Descriptor, Manifest, Platform
from pannier.images.timestamps import format_time, now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.drivers.storage import StorageDriver
    from pannier.images.config import ImageConfig
    from pannier.images.content import Blob
    from pannier.images.leases import Lease
    from pannier.images.model import AddedImage
    from pannier.images.reference import Reference
    from pannier.images.workbench import Workbench

__all__ = ["CommitRequest", "ImportRequest", "commit", "import_image"]


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What ``docker import`` is asked for.

    :param changes: Dockerfile instructions.
    :param source: what the message says it came from: a path, a URL or ``-``.
    """

    name: Reference | None = None
    changes: Sequence[str] = ()
    message: str = ""
    platform: Platform | None = None
    source: str = "-"


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What ``docker commit`` is asked for.

    :param container: the key of the container's layer.
    :param storage: the id of the storage driver that has it; empty for the default.
    :param base: the full id of the image that the container was made from; None for a rootfs.
    :param config: the container's own configuration, which the image's becomes.
    :param created_by: the container's command line, for the history.
    """

    container: str
    base: str | None
    config: RunConfig
    name: Reference | None = None
    changes: Sequence[str] = ()
    author: str = ""
    message: str = ""
    created_by: str = ""
    storage: str = ""


def import_image(bench: Workbench, stream: BinaryIO, request: ImportRequest) -> AddedImage:
    """Make an image of one layer from a tar stream, compressed or not.

    :raises ImageInvalid: the stream is broken or hostile; nothing was changed.
    :raises InvalidRequest: a change is malformed.
    """
    config = apply_changes(RunConfig(), request.changes)
    platform = request.platform or Platform.native()
    if platform.os != "linux":
        raise InvalidRequest(
            f"cannot import an image for {platform}", hint="only Linux images can be run here"
        )
    with bench.work() as lease:
        blob = _plain_blob(bench, stream, lease)
        created = format_time(now())
        message = request.message or f"Imported from {request.source}"
        image = make_config(
            config,
            platform=platform,
            created=created,
            diff_ids=[blob.digest],
            history=[HistoryEntry(created=created, comment=message)],
            comment=message,
        )
        return _add(bench, image, [_descriptor(blob)], lease, name=request.name)


def _plain_blob(bench: Workbench, stream: BinaryIO, lease: Lease) -> Blob:
    plain, _ = open_stream(stream, bench.limits)
    buffer = memoryview(bytearray(CHUNK))
    with bench.content.writer(lease) as writer:
        while count := plain.readinto(buffer):
            writer.write(buffer[:count])
        return writer.commit()


def commit(bench: Workbench, storage: StorageDriver, request: CommitRequest) -> AddedImage:
    """Make an image of a container: its image's layers, and one of what it changed.

    A container that changed nothing adds no layer. Pausing it meanwhile is the caller's.

    :param storage: the driver that has the container's layer.
    :raises NotFound: there is no such container layer or base image.
    :raises InvalidRequest: a change is malformed.
    """
    config = apply_changes(request.config, request.changes)
    with bench.work() as lease:
        below: ImageConfig | None = None
        layers: list[Descriptor] = []
        if request.base is not None:
            base = bench.held(request.base, lease)
            below, layers = base.config, [layer.blob for layer in base.layers]
        blob = bench.take_diff(storage, request.container, lease)
        empty = is_empty_layer(blob.digest)
        created = format_time(now())
        step = HistoryEntry(
            created=created,
            created_by=request.created_by,
            author=request.author,
            comment=request.message,
            empty_layer=empty,
        )
        image = make_config(
            config,
            platform=Platform.native() if below is None else below.platform,
            created=created,
            diff_ids=[*(below.diff_ids if below else ()), *([] if empty else [blob.digest])],
            history=[*(below.history if below else ()), step],
            author=request.author,
            comment=request.message,
        )
        if not empty:
            layers.append(_descriptor(blob))
        return _add(bench, image, layers, lease, name=request.name, parent=request.base)


def _descriptor(blob: Blob) -> Descriptor:
    return Descriptor(OCI_LAYER, blob.digest, blob.size)


def _add(
    bench: Workbench,
    config: ImageConfig,
    layers: list[Descriptor],
    lease: Lease,
    *,
    name: Reference | None,
    parent: str | None = None,
) -> AddedImage:
    bench.unpack(config, layers, lease)
    manifest = Manifest.make(Descriptor(OCI_CONFIG, config.id, len(config.raw)), layers)
    names = () if name is None else (name,)
    [added] = bench.add([NewImage(config, manifest, names, parent)], lease)
    return added
