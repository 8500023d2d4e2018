"""The engine: its services, wired together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pannier.engine.containers import Containers
from pannier.engine.events import Events
from pannier.engine.execs import Execs
from pannier.engine.images import Images
from pannier.engine.networks import Networks
from pannier.engine.system import System
from pannier.engine.volumes import Volumes

if TYPE_CHECKING:
    from pannier.database import Database
    from pannier.engine.settings import EngineSettings

__all__ = ["Engine"]


class Engine:
    """All services; each is handed what it needs and nothing more."""

    def __init__(
        self, settings: EngineSettings, database: Database, drivers: Any, images: Any
    ) -> None:
        self.settings = settings
        self.database = database
        self.drivers = drivers
        self.store = images
        self.events = Events()
        self.containers = Containers()
        self.execs = Execs()
        self.images = Images()
        self.networks = Networks()
        self.volumes = Volumes()
        self.system = System()

    async def start(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
