"""An image store that pulls and pushes, over a storage driver in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pannier.database import Database
from pannier.images.images import ImageStore
from pannier.images.reference import parse_reference
from pannier.images.registry.pull import PulledImage, Puller
from pannier.images.registry.push import PushedImage, Pusher
from pannier.images.registry.settings import RegistryOptions
from pannier.images.registry.transfers import TransferEvent, TransferRequest
from support.storage import MemoryStorage

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.images.oci import Platform
    from pannier.images.registry.auth import Credentials

__all__ = ["Rig"]


@dataclass
class Rig:
    """A store with its puller and pusher, and what they reported."""

    folder: Path
    options: RegistryOptions = field(default_factory=RegistryOptions)
    events: list[TransferEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.storage = MemoryStorage()
        self.open()

    def open(self) -> None:
        """Open the store, as a daemon does when it starts."""
        self.database = Database(self.folder / "db")
        self.store = ImageStore(self.folder, self.database, self.storage)
        self.puller = Puller(self.store, self.options)
        self.pusher = Pusher(self.store, self.options)

    def restart(self) -> None:
        """Open the store anew, as after the death of the process."""
        self.database.close()
        self.open()

    def request(self, name: str, **more: object) -> TransferRequest:
        """Return the request for a name."""
        request = TransferRequest(parse_reference(name), report=self.events.append)
        return replace(request, **more)  # type: ignore[arg-type]  # a test names the fields

    def pull(
        self,
        name: str,
        credentials: Credentials | None = None,
        platform: Platform | None = None,
    ) -> PulledImage:
        """Pull."""
        request = self.request(name, platform=platform)
        if credentials is not None:
            request = replace(request, credentials=credentials)
        return self.puller.pull(request)

    def push(self, name: str, credentials: Credentials | None = None) -> PushedImage:
        """Push."""
        request = self.request(name)
        if credentials is not None:
            request = replace(request, credentials=credentials)
        return self.pusher.push(request)

    def statuses(self) -> list[str]:
        """Return what was reported, without progress."""
        return [event.status for event in self.events if not event.total]

    def leftovers(self) -> list[str]:
        """Return what lies in the ingest folder."""
        return sorted(path.name for path in self.store.content.ingest.iterdir())
