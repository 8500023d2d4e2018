"""A stand-in for the engine's transfers: answers what a test puts in, and notes what was asked."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from pannier.errors import Forbidden, NotFound
from pannier.images.model import AddedImage
from pannier.images.oci import OCI_MANIFEST, Descriptor, Platform
from pannier.images.registry.choosing import Described
from pannier.images.registry.listing import SearchResult
from pannier.images.registry.pull import PullDenied, PulledImage
from pannier.images.registry.push import PushedImage
from pannier.images.registry.transfers import TransferEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pannier.images.importing import ImportRequest
    from pannier.images.model import Image
    from pannier.images.reference import Reference
    from pannier.images.registry.auth import Credentials
    from pannier.images.registry.listing import SearchQuery

__all__ = ["DIGEST", "FakeTransfers"]

DIGEST = "sha256:" + "d" * 64


class FakeTransfers:
    """Pulls everything but ``absent`` and ``broken``; ``endless`` never ends by itself."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self.calls: list[Any] = []
        self.given_up = threading.Event()

    async def import_url(
        self, source: str, request: ImportRequest
    ) -> AsyncIterator[TransferEvent | AddedImage]:
        """Say how a download goes on; ``absent`` is not there, ``broken`` breaks off."""
        self.calls.append((source, request))
        if "absent" in source:
            raise NotFound(f"failed to GET {source} with status 404 Not Found")
        yield TransferEvent(f"Downloading from {source}")
        yield TransferEvent("Importing", "", 500, 1000)
        yield TransferEvent("Importing", "", 1500)
        if "broken" in source:
            raise Forbidden("the download broke off")
        yield AddedImage(self._image, new=True)

    async def pull(
        self,
        reference: Reference,
        credentials: Credentials,
        platform: Platform | None = None,
        *,
        all_tags: bool = False,
    ) -> AsyncIterator[TransferEvent | PulledImage]:
        self.calls.append(("pull", str(reference), credentials, platform, all_tags))
        if "absent" in {reference.path.rpartition("/")[2], reference.tag}:
            raise NotFound("pull access denied for absent", hint="log in")
        yield TransferEvent(f"Pulling from {reference.path}", reference.tag or "")
        yield TransferEvent("Downloading", "aaaaaaaaaaaa", 5_000_000, 20_000_000)
        if reference.path.endswith("broken"):
            raise NotFound("it broke off", hint="try again")
        if reference.path.endswith("endless"):
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up.set()
        yield TransferEvent("Pull complete", "aaaaaaaaaaaa")
        yield PulledImage(self._image, reference, DIGEST, changed=True)

    async def push(
        self, reference: Reference, credentials: Credentials, tags: Sequence[Reference] = ()
    ) -> AsyncIterator[TransferEvent | PushedImage]:
        yield TransferEvent(f"The push refers to repository [{reference.name}]")
        for one in tags or [reference]:
            self.calls.append(("push", str(one), credentials))
            if "absent" in {one.path.rpartition("/")[2], one.tag}:
                raise NotFound(f"No such image: {one.familiar}")
            yield TransferEvent("Pushed", "aaaaaaaaaaaa")
            yield PushedImage(one, DIGEST, 528)

    async def log_in(self, registry: str, credentials: Credentials) -> None:
        self.calls.append(("log_in", registry, credentials))
        if credentials.password == "wrong":
            raise Forbidden("unauthorized: incorrect username or password")

    async def search(self, query: SearchQuery, credentials: Credentials) -> list[SearchResult]:
        self.calls.append(("search", query, credentials))
        return [SearchResult("busybox", "small", 7, official=True)]

    async def describe(self, reference: Reference, credentials: Credentials) -> Described:
        self.calls.append(("describe", str(reference), credentials))
        if "absent" in {reference.path.rpartition("/")[2], reference.tag}:
            raise NotFound("manifest for absent not found")
        if reference.path.endswith("secret"):
            raise PullDenied("pull access denied for secret")
        return Described(Descriptor(OCI_MANIFEST, DIGEST, 528), (Platform("linux", "arm64", "v8"),))
