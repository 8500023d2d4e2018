"""An engine on fake drivers, for tests of its services."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pannier.database import Database
from pannier.engine.engine import Engine
from pannier.engine.model import ContainerConfig, CreateOptions, HostOptions, Status
from pannier.engine.settings import EngineSettings
from pannier.images.images import ImageStore
from support.fakes import FakeNetwork, FakeResources, FakeRuntime, FakeStorage, World, fake_drivers
from support.images import Entry, docker_archive, image, tar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pannier.drivers.base import IdMap
    from pannier.driverset import DriverSet
    from pannier.engine.model import Container
    from pannier.engine.registry import Live

__all__ = ["Rig", "chunks", "descriptors_open", "engine_test", "eventually"]


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    """Yield chunks, as a request's body does."""
    for chunk in data:
        yield chunk


async def eventually(condition: Callable[[], object]) -> None:
    """Return once a condition holds; the event loop goes on meanwhile."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition, which sets no event
            await asyncio.sleep(0.001)


def descriptors_open() -> int:
    """Return how many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Rig:
    """A started engine on fake drivers, with an image ``small:latest``.

    :param world: what the drivers hold; it outlives engines.
    :param patience: seconds that a driver may take.
    """

    def __init__(
        self, folder: Path, idmap: IdMap | None = None, *, patience: float = 300.0
    ) -> None:
        self.folder = folder
        self.patience = patience
        self.idmap = idmap
        (folder / "world").mkdir(exist_ok=True)
        self.world = World(folder / "world")
        self.drivers: DriverSet = fake_drivers(self.world)
        self.engine: Engine

    @property
    def runtime(self) -> FakeRuntime:
        """The runtime driver."""
        return cast("FakeRuntime", self.drivers.runtimes["fake"])

    @property
    def storage(self) -> FakeStorage:
        """The storage driver."""
        return cast("FakeStorage", self.drivers.storage)

    @property
    def resources(self) -> FakeResources:
        """The resource driver."""
        return cast("FakeResources", self.drivers.resources)

    @property
    def bridge(self) -> FakeNetwork:
        """The default network's driver."""
        return cast("FakeNetwork", self.drivers.networks["bridge"])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Engine]:
        """Give a started engine on this rig's database; afterwards it is closed in good order."""
        database = Database(self.folder / "pannier.db")
        # As the daemon has them.
        drivers = self.drivers.guarded()
        images = ImageStore(
            self.folder / "images",
            database,
            drivers.storage,
            others=drivers.storages,
            patience=self.patience,
        )
        settings = EngineSettings(
            root=self.folder,
            state=self.folder / "state",
            userns_remap=self.idmap,
            hostname="testhost",
            patience=self.patience,
        )
        self.engine = Engine(settings, database, drivers, images)
        try:
            await self.engine.start()
            if self.engine.images.id_of("small") is None:
                await self.load()
            yield self.engine
        finally:
            await self.engine.close()
            database.close()

    async def load(self, **config: Any) -> None:
        """Load the image ``small:latest``; *config* is laid over its configuration."""
        layers = [tar([Entry("etc/os-release", b"ID=small\n")])]
        base = {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin", "IMAGE=yes"]} | config
        archive = docker_archive([image(layers, tags=["small:latest"], config=base)])
        async for _ in self.engine.images.load(chunks(archive)):
            pass

    async def create(
        self,
        name: str = "",
        config: ContainerConfig | None = None,
        host: HostOptions | None = None,
        **more: Any,
    ) -> Container:
        """Create a container of the image ``small``."""
        config = replace(config or ContainerConfig(), image="small")
        options = CreateOptions(config, host or HostOptions(), name=name, **more)
        return (await self.engine.containers.create(options)).container

    async def run(self, name: str = "", **more: Any) -> Container:
        """Create a container and start it."""
        container = await self.create(name, **more)
        await self.engine.containers.start(container.id)
        return self.engine.containers.get(container.id)

    def live(self, ref: str) -> Live:
        """Return what the engine has in memory of a container."""
        return self.engine._registry.find(ref)

    def status(self, ref: str) -> Status:
        """Return a container's status."""
        return self.engine.containers.get(ref).state.status

    async def ended(self, container: Container, status: int = 0, **more: Any) -> None:
        """Have a container's process end, and return once the engine is done with it."""
        self.runtime.end(container.id, status, **more)
        live = self.live(container.id)
        await eventually(lambda: live.watch is None and not live.lock.locked())
        await asyncio.sleep(0)
        await eventually(lambda: live.watch is None and not live.lock.locked())

    def actions(self, kind: str = "container") -> list[str]:
        """Return the actions of the events so far."""
        return [event.action for event in self.engine.events._history if event.kind == kind]


def engine_test(test: Callable[[Rig], Awaitable[None]]) -> Callable[[Path], None]:
    """Make a test of a coroutine function that is given a :class:`Rig` with a started engine."""

    @functools.wraps(test)
    def wrapper(tmp_path: Path) -> None:
        async def main() -> None:
            rig = Rig(tmp_path)
            async with asyncio.timeout(60), rig.running():
                await test(rig)

        asyncio.run(main())

    del wrapper.__wrapped__  # pytest would look at its parameters
    return wrapper
