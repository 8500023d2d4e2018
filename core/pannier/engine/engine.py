"""The engine: its services, wired together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pannier.bounded import Patience
from pannier.engine.archive import Archives
from pannier.engine.attach import Attaching
from pannier.engine.connecting import Connecting
from pannier.engine.containers import Containers
from pannier.engine.creation import Creator
from pannier.engine.deliveries import Deliveries
from pannier.engine.dns import NameService
from pannier.engine.endpoints import Endpoints
from pannier.engine.entering import Entering
from pannier.engine.events import Events
from pannier.engine.execs import Execs
from pannier.engine.health import HealthMonitor
from pannier.engine.hostfiles import HostFiles
from pannier.engine.imagemounts import ImageMounts
from pannier.engine.images import Images, StoredImages
from pannier.engine.launching import Launcher
from pannier.engine.lifecycle import Lifecycle
from pannier.engine.logs import Logs
from pannier.engine.networks import Networks
from pannier.engine.networkstore import NetworkStore
from pannier.engine.ooms import Ooms
from pannier.engine.recovery import Recovery
from pannier.engine.registry import Registry
from pannier.engine.removal import Remover
from pannier.engine.sharedmemory import SharedMemory
from pannier.engine.stats import Measuring
from pannier.engine.store import Store
from pannier.engine.supervision import Exits, Supervisor
from pannier.engine.system import System
from pannier.engine.telling import Teller
from pannier.engine.transfers import Transfers
from pannier.engine.updating import Updater
from pannier.engine.volumes import Volumes, VolumeStore
from pannier.engine.wiring import Wiring
from pannier.engine.workers import Workers
from pannier.images.registry.settings import RegistryOptions

if TYPE_CHECKING:
    from pannier.database import Database
    from pannier.driverset import DriverSet
    from pannier.engine.settings import EngineSettings
    from pannier.images.images import ImageStore

__all__ = ["Engine"]


class Engine:
    """All services; each is handed what it needs and nothing more.

    Made and used on one event loop. The database, the drivers and the image store are the
    caller's, who closes them after the engine.

    :param registries: how registries are reached; by default as without a configuration.
    """

    def __init__(
        self,
        settings: EngineSettings,
        database: Database,
        drivers: DriverSet,
        images: ImageStore,
        registries: RegistryOptions | None = None,
    ) -> None:
        self.settings = settings
        self.drivers = drivers
        folder = settings.root / "containers"
        store = Store(database)
        self._workers = workers = Workers(settings.patience)
        self._registry = registry = Registry()
        self.events = Events()
        teller = Teller(self.events)
        networks = NetworkStore(drivers, store)
        volumes = VolumeStore(settings.root / "volumes", store, settings.userns_remap)
        endpoints = Endpoints(drivers, networks)
        files = HostFiles(settings, folder, endpoints.named, endpoints.host_address)
        wiring = Wiring(store, endpoints, files)
        self._names = names = NameService(
            registry, networks, endpoints, settings.resolv_conf, files.asks_embedded
        )
        memory = SharedMemory(settings.state / "shm")
        mounted = ImageMounts(drivers, settings.state / "scratch")
        launcher = Launcher(settings, folder, drivers, store, files, memory, names, mounted)
        self._health = health = HealthMonitor(store, drivers, launcher, teller, workers)
        self._deliveries = deliveries = Deliveries(folder, drivers, settings.hostname, workers)
        self._ooms = ooms = Ooms(drivers, teller, workers)
        self._supervisor = supervisor = Supervisor(
            store,
            drivers,
            endpoints,
            launcher,
            names,
            memory,
            health,
            deliveries,
            ooms,
            teller,
            workers,
        )
        lifecycle = Lifecycle(
            settings,
            registry,
            store,
            drivers,
            endpoints,
            launcher,
            supervisor,
            health,
            teller,
            workers,
        )
        remover = Remover(
            folder,
            registry,
            store,
            drivers,
            volumes,
            lifecycle,
            deliveries,
            self.events,
            teller,
            workers,
        )
        entering = Entering(drivers, settings.state / "scratch")
        logs = Logs(folder, drivers, workers)
        self.images = Images(images, store, self.events, workers)
        self.transfers = Transfers(images, registries or RegistryOptions(), self.events)
        self.volumes = Volumes(volumes, registry, self.events, workers)
        self.execs = Execs(registry, drivers, launcher, entering, supervisor, teller, workers)
        health.execs = self.execs
        supervisor.exits = Exits(
            lifecycle.start_again,
            lifecycle.finish_restart,
            remover.remove_automatically,
            self.execs.ended,
        )
        creator = Creator(
            settings,
            folder,
            registry,
            store,
            drivers,
            StoredImages(images),
            volumes,
            endpoints,
            launcher,
            lifecycle,
            self.events,
            teller,
            workers,
        )
        self.containers = Containers(
            registry,
            store,
            drivers,
            creator,
            lifecycle,
            remover,
            Updater(store, drivers, teller, workers),
            Attaching(launcher, logs, teller, workers),
            Archives(entering, teller, workers),
            logs,
            Measuring(drivers, workers),
            self.images,
            teller,
            workers,
        )
        connecting = Connecting(registry, store, endpoints, wiring, files, names, teller, workers)
        self.networks = Networks(drivers, networks, connecting, registry, self.events, workers)
        self.system = System(
            settings, drivers, store, registry, networks, self.images, self.volumes, workers
        )
        self._recovery = Recovery(
            folder,
            registry,
            store,
            drivers,
            networks,
            volumes,
            endpoints,
            wiring,
            launcher,
            supervisor,
            memory,
            health,
            workers,
            Patience(settings.patience),
        )

    async def start(self) -> None:
        """Take over what runs, and clear away what was left half done. Once, before all else."""
        self._names.begin()
        await self._recovery.run()
        await self._deliveries.recover(self._registry.containers())
        await self._workers.bulk(self._names.recover, self._names.unserved())

    async def close(self) -> None:
        """Let go of everything. Containers live on; the next engine takes them over."""
        self._supervisor.closing = True
        self._health.close()
        self.events.close()
        await self.transfers.close()
        for live in self._registry:
            if live.restart is not None:
                live.restart.cancel()
                live.restart = None
        await self._workers.idle()
        self._ooms.close()
        for live in self._registry:
            self._supervisor.unwatch(live)
        await self._deliveries.close()
        self._names.close_all()
        await self._workers.close()
