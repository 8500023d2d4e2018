"""What the engine says about itself and its host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pannier.drivers.resources import ResourceCapability
from pannier.engine.model import Status
from pannier.engine.results import ContainerUsage, DiskUsage, SystemInfo
from pannier.errors import NotFound, PannierError

if TYPE_CHECKING:
    from pannier.driverset import DriverSet
    from pannier.engine.images import Images
    from pannier.engine.model import Container, Volume
    from pannier.engine.networkstore import NetworkStore
    from pannier.engine.registry import Registry
    from pannier.engine.results import VolumeUsage
    from pannier.engine.settings import EngineSettings
    from pannier.engine.store import Store
    from pannier.engine.volumes import Volumes
    from pannier.engine.workers import Workers

__all__ = ["System"]

_WANTED = {
    ResourceCapability.MEMORY: "No memory limit support",
    ResourceCapability.SWAP: "No swap limit support",
    ResourceCapability.CPU: "No cpu limit support",
    ResourceCapability.CPUSET: "No cpuset support",
    ResourceCapability.PIDS: "No pids limit support",
}


@dataclass(slots=True)
class System:
    """Answers ``info`` and ``system df``."""

    settings: EngineSettings
    drivers: DriverSet
    store: Store
    registry: Registry
    networks: NetworkStore
    images: Images
    volumes: Volumes
    workers: Workers

    async def info(self) -> SystemInfo:
        """Describe the engine and its host."""
        statuses = [live.container.state.status for live in self.registry]
        running = sum(status is Status.RUNNING for status in statuses)
        paused = sum(status is Status.PAUSED for status in statuses)
        images = len(await self.images.list(all=True))
        return await self.workers.run(self._info, len(statuses), running, paused, images)

    def _info(self, containers: int, running: int, paused: int, images: int) -> SystemInfo:
        drivers = self.drivers
        available = frozenset(str(item) for item in drivers.resources.available())
        forwarding = _read("/proc/sys/net/ipv4/ip_forward").strip() == "1"
        warnings = [text for item, text in _WANTED.items() if item not in available]
        if not forwarding:
            warnings.append("IPv4 forwarding is disabled")
        warnings += list(self.networks.failures.values())
        security = ["name=seccomp,profile=builtin", "name=cgroupns"]
        if self.settings.userns_remap is not None:
            security.append("name=userns")
        return SystemInfo(
            id=self.store.identity(),
            hostname=self.settings.hostname,
            containers=containers,
            running=running,
            paused=paused,
            stopped=containers - running - paused,
            images=images,
            storage_driver=drivers.storage.id,
            resource_driver=drivers.resources.id,
            cgroup_version=drivers.resources.version,
            default_runtime=drivers.default_runtime,
            runtimes=tuple(drivers.runtimes),
            default_network=drivers.default_network,
            networks=tuple(drivers.networks),
            default_log=drivers.default_log,
            logs=tuple(drivers.logs),
            resources=available,
            kernel=platform.release(),
            operating_system=_operating_system(),
            architecture=platform.machine(),
            cpus=len(os.sched_getaffinity(0)),
            memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            root=str(self.settings.root),
            security=tuple(security),
            ipv4_forwarding=forwarding,
            listeners=0,
            open_files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
            threads=threading.active_count(),
            warnings=tuple(f"WARNING: {text}" for text in warnings),
        )

    async def disk_usage(self) -> DiskUsage:
        """Measure what containers, volumes and layers take up.

        :raises DriverError: a storage driver did not answer in time.
        """
        images = await self.images.disk_usage()
        sizes = {image.id: image.size for image, _ in images.images}
        containers = [live.container for live in self.registry]
        used = [
            await self.workers.bounded(self._container_usage, container, sizes)
            for container in containers
        ]
        # Side by side, since the filesystems of several may not answer.
        volumes = await asyncio.gather(*map(self._volume_usage, self.volumes.list({})))
        return DiskUsage(images.layers, tuple(used), tuple(filter(None, volumes)))

    async def _volume_usage(self, volume: Volume) -> tuple[Volume, VolumeUsage] | None:
        with contextlib.suppress(NotFound):  # removed meanwhile
            return volume, await self.volumes.usage(volume.name)
        return None

    def _container_usage(self, container: Container, sizes: dict[str, int]) -> ContainerUsage:
        try:
            own = self.drivers.storage_of(container.storage_driver).usage(container.id).size
        except (PannierError, FileNotFoundError):  # removed meanwhile, or in this moment
            own = 0
        return ContainerUsage(container, own, own + sizes.get(container.image_id, 0))


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", sys.platform)
    except OSError:
        return sys.platform
