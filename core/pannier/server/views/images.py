"""Images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pannier.images.model import UntaggedImage
from pannier.server.views.times import ZERO_TIME, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pannier.images.config import RunConfig
    from pannier.images.model import HistoryItem, Image, Removal

__all__ = ["history_view", "image_summary", "image_view", "removals_view"]


_CONTAINER_ONLY: Final = {
    "Hostname": "",
    "Domainname": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Image": "",
}


def image_summary(image: Image, shared: int = -1, containers: int = -1) -> dict[str, Any]:
    """Return an ``ImageSummary``; -1 for what was not counted."""
    return {
        "Id": image.id,
        "ParentId": image.parent or "",
        "RepoTags": list(image.tags),
        "RepoDigests": list(image.digests),
        "Created": max(image.created_ns // 10**9, 0),
        "Size": image.size,
        "SharedSize": shared,
        "VirtualSize": image.size,
        "Labels": dict(image.config.config.labels) or None,
        "Containers": containers,
    }


def image_view(
    image: Image,
    storage: str,
    layer: Mapping[str, str],
    *,
    whole_config: bool = False,
    container_config: bool = False,
) -> dict[str, Any]:
    """Return an ``ImageInspect``.

    :param storage: the storage driver's id.
    :param layer: what the storage driver says of the image's layer.
    :param whole_config: with the fields of a container's configuration that no image has; they
        were there until API 1.50.
    :param container_config: with the configuration of the container that the image was made of,
        which was there until API 1.45 and which Compose 1 reads the volumes in. No image of
        today says it; the image's own stands for it.
    """
    config = image.config
    platform = config.platform
    view: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": list(image.digests),
        "Parent": image.parent or "",
        "Comment": next((entry.comment for entry in reversed(config.history)), ""),
        "Created": rfc3339(image.created_ns),
        "DockerVersion": "",
        "Author": config.author,
        "Config": (_CONTAINER_ONLY if whole_config else {}) | _run_config(config.config),
        "Architecture": platform.architecture,
        "Os": platform.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Name": storage, "Data": dict(layer)},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in image.layers]},
        "Metadata": {"LastTagTime": ZERO_TIME if image.tagged is None else rfc3339(image.tagged)},
        "Descriptor": {
            "mediaType": image.manifest.media_type,
            "digest": image.manifest.digest,
            "size": image.manifest.size,
        },
    }
    if platform.variant:
        view["Variant"] = platform.variant
    if container_config:
        view["Container"] = ""
        view["ContainerConfig"] = _CONTAINER_ONLY | _run_config(config.config)
    return view


def _run_config(config: RunConfig) -> dict[str, Any]:
    view: dict[str, Any] = {
        "User": config.user,
        "Env": list(config.env),
        "Cmd": None if config.cmd is None else list(config.cmd),
        "Volumes": {path: {} for path in config.volumes} or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": None if config.entrypoint is None else list(config.entrypoint),
        "OnBuild": list(config.on_build) or None,
        "Labels": dict(config.labels) or None,
    }
    if config.exposed_ports:
        view["ExposedPorts"] = {port: {} for port in config.exposed_ports}
    if config.healthcheck is not None:
        view["Healthcheck"] = config.healthcheck.document()
    if config.stop_signal:
        view["StopSignal"] = config.stop_signal
    if config.stop_timeout is not None:
        view["StopTimeout"] = config.stop_timeout
    if config.shell:
        view["Shell"] = list(config.shell)
    return view


def history_view(items: Iterable[HistoryItem]) -> list[dict[str, Any]]:
    """Return a list of ``HistoryResponseItem``."""
    return [
        {
            "Id": item.id,
            "Created": max(item.created // 10**9, 0),
            "CreatedBy": item.created_by,
            "Tags": list(item.tags) or None,
            "Size": item.size,
            "Comment": item.comment,
        }
        for item in items
    ]


def removals_view(removals: Iterable[Removal]) -> list[dict[str, str]]:
    """Return a list of ``ImageDeleteResponseItem``."""
    return [
        {"Untagged": one.reference} if isinstance(one, UntaggedImage) else {"Deleted": one.id}
        for one in removals
    ]
