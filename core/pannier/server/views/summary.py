"""Containers as ``GET /containers/json`` lists them.

A listing is asked for often and its containers change rarely, so their JSON is kept, but for the
one field that depends on the time. A container is a frozen value: a change makes another, and what
was kept for the old one is made anew.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from pannier.engine.healthstate import HealthStatus
from pannier.engine.model import Status
from pannier.server.views.endpoints import endpoints_view, port_summaries
from pannier.server.views.mounts import mount_point_view
from pannier.server.views.times import human_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pannier.engine.healthstate import Health
    from pannier.engine.model import Container

__all__ = ["SummaryCache", "container_summary", "status_text"]

_encode = json.JSONEncoder(separators=(",", ":")).encode


def status_text(container: Container, now: float) -> str:
    """Return what ``ps`` shows: ``Up 3 minutes``, ``Exited (0) 2 hours ago``.

    :param now: seconds since the epoch.
    """
    state = container.state
    status = state.status
    if status is Status.RUNNING:
        return f"Up {human_duration(now - state.started / 1e9)}{health_text(state.health)}"
    if status is Status.PAUSED:
        return f"Up {human_duration(now - state.started / 1e9)} (Paused)"
    if status is Status.RESTARTING:
        ago = human_duration(now - state.finished / 1e9)
        return f"Restarting ({state.exit_code}) {ago} ago"
    if status is Status.EXITED and state.finished:
        return f"Exited ({state.exit_code}) {human_duration(now - state.finished / 1e9)} ago"
    return {
        Status.CREATED: "Created",
        Status.REMOVING: "Removal In Progress",
        Status.DEAD: "Dead",
    }.get(status, "Created")


def health_text(health: Health | None) -> str:
    """Return what ``ps`` shows of health: `` (healthy)``, or nothing for what is not probed."""
    if health is None:
        return ""
    word = "health: starting" if health.status is HealthStatus.STARTING else health.status.value
    return f" ({word})"


def command_text(args: tuple[str, ...]) -> str:
    """Return a command line, with the arguments that hold spaces in single quotes."""
    return " ".join(f"'{arg}'" if " " in arg else arg for arg in args)


def container_summary(container: Container, linked: Sequence[str] = ()) -> dict[str, Any]:
    """Return a ``ContainerSummary`` without its ``Status``.

    :param linked: the names that it has by others' links.
    """
    host: dict[str, Any] = {"NetworkMode": container.host.network_mode or "default"}
    if container.host.annotations:
        host["Annotations"] = dict(container.host.annotations)
    return {
        "Id": container.id,
        "Names": [f"/{container.name}", *linked],
        "Image": container.image_name or container.rootfs,
        "ImageID": container.image_id,
        "Command": command_text(container.args),
        "Created": container.created // 10**9,
        "Ports": port_summaries(container),
        "Labels": dict(container.config.labels),
        "State": container.state.status.value,
        "HostConfig": host,
        "NetworkSettings": {"Networks": endpoints_view(container)},
        "Mounts": [mount_point_view(point) for point in container.mounts],
    }


class SummaryCache:
    """The JSON of containers, as far as it does not depend on the time."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Container, tuple[str, ...], str]] = {}

    def listing(
        self,
        containers: Iterable[Container],
        sizes: Mapping[str, tuple[int, int]] | None = None,
        linked: Mapping[str, tuple[str, ...]] | None = None,
    ) -> bytes:
        """Return a listing as JSON.

        :param linked: by id, the names that containers have by others' links.
        :param sizes: by id, ``(SizeRw, SizeRootFs)``; None leaves them out.
        """
        now = time.time()
        kept = self._kept
        texts = []
        for container in containers:
            known = kept.get(container.id)
            others = linked.get(container.id, ()) if linked else ()
            if known is None or known[0] is not container or known[1] != others:
                # Without the closing brace, so that the other fields can follow.
                known = (container, others, _encode(container_summary(container, others))[:-1])
                kept[container.id] = known
            extra = ""
            if sizes is not None:
                size = sizes.get(container.id, (0, 0))
                extra = f',"SizeRw":{size[0]},"SizeRootFs":{size[1]}'
            # No status needs escaping.
            texts.append(f'{known[2]}{extra},"Status":"{status_text(container, now)}"}}')
        if len(kept) > 2 * len(texts) + 256:
            self._forget()
        return f"[{','.join(texts)}]\n".encode("ascii")

    def _forget(self) -> None:
        """Empty the cache: most of what it holds are containers that have gone."""
        self._kept.clear()
