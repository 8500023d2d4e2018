"""A container, as ``inspect`` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pannier.engine.model import Status
from pannier.server.views.config import config_view, host_view
from pannier.server.views.endpoints import settings_view
from pannier.server.views.mounts import mount_point_view
from pannier.server.views.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pannier.engine.healthstate import Health
    from pannier.engine.model import Container

__all__ = ["add_for_version", "container_view", "state_view"]

_NAMES_SINCE = (1, 45)
"""The first API version with ``DNSNames``; before that Compose looks for the id in ``Aliases``."""


def state_view(container: Container) -> dict[str, Any]:
    """Return a ``ContainerState``."""
    state = container.state
    view: dict[str, Any] = {
        "Status": state.status.value,
        "Running": state.running or state.status is Status.RESTARTING,
        "Paused": state.status is Status.PAUSED,
        "Restarting": state.status is Status.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": state.status is Status.DEAD,
        "Pid": state.pid if state.running else 0,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339(state.started),
        "FinishedAt": rfc3339(state.finished),
    }
    if state.health is not None:
        view["Health"] = health_state_view(state.health)
    return view


def health_state_view(health: Health) -> dict[str, Any]:
    """Return a ``Health``."""
    return {
        "Status": health.status.value,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": rfc3339(result.start),
                "End": rfc3339(result.end),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in health.log
        ],
    }


def add_for_version(view: dict[str, Any], container: Container, version: tuple[int, int]) -> None:
    """Add to a ``ContainerInspectResponse`` what clients of older API versions look for."""
    mode = container.host.network_mode
    options = container.networks.get(mode if mode not in {"", "default"} else "bridge")
    if options is not None and options.mac:
        view["Config"]["MacAddress"] = options.mac
    if version < _NAMES_SINCE:
        for settings in view["NetworkSettings"]["Networks"].values():
            if settings["DNSNames"] is not None:
                aliases = [*(settings["Aliases"] or []), container.id[:12]]
                settings["Aliases"] = list(dict.fromkeys(aliases))


def container_view(
    container: Container,
    execs: Sequence[str],
    layer: Mapping[str, str],
    files: Mapping[str, str],
    sizes: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return a ``ContainerInspectResponse``.

    :param execs: the ids of its execs.
    :param layer: what the storage driver says of its layer (``UpperDir``, …).
    :param files: where its own files are: ``LogPath``, ``HostsPath``, …
    :param sizes: ``(SizeRw, SizeRootFs)``; None leaves them out.
    """
    view: dict[str, Any] = {
        "Id": container.id,
        "Created": rfc3339(container.created),
        "Path": container.args[0] if container.args else "",
        "Args": list(container.args[1:]),
        "State": state_view(container),
        "Image": container.image_id,
        "ResolvConfPath": files.get("ResolvConfPath", ""),
        "HostnamePath": files.get("HostnamePath", ""),
        "HostsPath": files.get("HostsPath", ""),
        "LogPath": files.get("LogPath", ""),
        "Name": f"/{container.name}",
        "RestartCount": container.state.restart_count,
        "Driver": container.storage_driver,
        "Platform": container.platform.partition("/")[0],
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": list(execs) or None,
        "HostConfig": host_view(container.host),
        "GraphDriver": {"Name": container.storage_driver, "Data": dict(layer)},
        "Mounts": [mount_point_view(point) for point in container.mounts],
        "Config": config_view(container.config),
        "NetworkSettings": settings_view(container),
    }
    if container.rootfs:
        view["Rootfs"] = container.rootfs
    if sizes is not None:
        view["SizeRw"], view["SizeRootFs"] = sizes
    return view
