"""Images to and from registries: pulls, pushes, log-ins and searches, off the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from pannier.engine.telling import tell_of_image
from pannier.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from pannier.engine.events import Events
    from pannier.images.images import ImageStore
    from pannier.images.importing import ImportRequest
    from pannier.images.model import AddedImage
    from pannier.images.oci import Platform
    from pannier.images.reference import Reference
    from pannier.images.registry.auth import Credentials
    from pannier.images.registry.cancelling import Cancellation
    from pannier.images.registry.choosing import Described
    from pannier.images.registry.listing import SearchQuery, SearchResult
    from pannier.images.registry.pull import PulledImage, Puller
    from pannier.images.registry.push import PushedImage, Pusher
    from pannier.images.registry.settings import RegistryOptions
    from pannier.images.registry.transfers import TransferEvent, TransferRequest

__all__ = ["Transfers"]

T = TypeVar("T")

_AT_ONCE = 32
_UNREAD = 256


class Transfers:
    """Talks to registries on threads of its own: a transfer may wait for long.

    The registry client is imported with its first use, since most daemons start without a pull.
    """

    def __init__(self, images: ImageStore, options: RegistryOptions, events: Events) -> None:
        self._images = images
        self._options = options
        self._events = events
        self._pool = ThreadPoolExecutor(_AT_ONCE, "pannier-transfer")
        self._running: set[Cancellation] = set()

    @cached_property
    def _puller(self) -> Puller:
        from pannier.images.registry.pull import Puller  # noqa: PLC0415 - see the class

        return Puller(self._images, self._options)

    @cached_property
    def _pusher(self) -> Pusher:
        from pannier.images.registry.push import Pusher  # noqa: PLC0415 - see the class

        return Pusher(self._images, self._options)

    async def pull(
        self,
        reference: Reference,
        credentials: Credentials,
        platform: Platform | None = None,
        *,
        all_tags: bool = False,
    ) -> AsyncGenerator[TransferEvent | PulledImage, None]:
        """Pull an image, or every tag of a repository; yields what happens, and each image.

        Ending the iteration early gives the transfer up.

        :raises NotFound: there is no such image, or it is not for us.
        """
        request = _request(reference, credentials, platform)
        references = [reference]
        if all_tags:
            tags = await self._call(
                lambda given_up: self._puller.tags(replace(request, cancellation=given_up))
            )
            references = [replace(reference, tag=tag) for tag in tags]
        for one in references:
            wanted = replace(request, reference=one)
            async for item in self._run(_watched(self._puller.pull, wanted)):
                yield item
        await self._tell("pull", reference if all_tags else reference.with_default_tag())

    async def push(
        self, reference: Reference, credentials: Credentials, tags: Sequence[Reference] = ()
    ) -> AsyncGenerator[TransferEvent | PushedImage, None]:
        """Push an image; yields what happens, then what the registry has.

        Ending the iteration early gives the transfer up.

        :param tags: push these, of the repository that *reference* then is the name of.
        """
        opening: TransferEvent | PushedImage | None = None
        for one in tags or [reference]:
            request = _request(one, credentials, None)
            async for item in self._run(_watched(self._pusher.push, request)):
                # What repository it is about is said once.
                if opening is None or item != opening:
                    yield item
                opening = opening or item
        await self._tell("push", reference if tags else reference.with_default_tag())

    async def import_url(
        self, source: str, request: ImportRequest
    ) -> AsyncGenerator[TransferEvent | AddedImage, None]:
        """Make an image of a root filesystem at a URL; yields what happens, then the image.

        Ending the iteration early gives it up.

        :raises InvalidRequest: it is no URL, or what is there is no archive.
        :raises NotFound: there is nothing.
        :raises RegistryError: the server cannot be reached, or refuses.
        """
        from pannier.images.registry.downloading import (  # noqa: PLC0415 - see the class
            download_url,
            downloaded,
        )

        url = download_url(source)

        def work(report: Callable[[TransferEvent], None], given_up: Cancellation) -> AddedImage:
            with downloaded(self._options, url, given_up, report) as stream:
                return self._images.import_image(stream, replace(request, source=url))

        async for item in self._run(work):
            yield item

    async def _tell(self, action: str, reference: Reference) -> None:
        """Say once what happened, however many tags it was about, by the name that was given."""
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(self._pool, self._images.find, reference.familiar)
        labels = None if image is None else image.config.config.labels
        tell_of_image(self._events, action, reference.familiar, reference.familiar_name, labels)

    async def _run(
        self, work: Callable[[Callable[[TransferEvent], None], Cancellation], T]
    ) -> AsyncGenerator[TransferEvent | T, None]:
        """Have *work* done on a thread; yields what it reports, and what it returns."""
        from pannier.images.registry.cancelling import Cancellation  # noqa: PLC0415 - see the class
        from pannier.images.registry.transfers import Throttle  # noqa: PLC0415 - see the class

        loop = asyncio.get_running_loop()
        events: asyncio.Queue[TransferEvent | None] = asyncio.Queue()

        def report(event: TransferEvent) -> None:
            # A client that does not read misses progress, never what is said but once.
            if not event.current or events.qsize() < _UNREAD:
                loop.call_soon_threadsafe(events.put_nowait, event)

        cancellation = Cancellation()
        self._running.add(cancellation)
        future = loop.run_in_executor(self._pool, work, Throttle(report), cancellation)
        future.add_done_callback(partial(_ended, events))
        try:
            while (event := await events.get()) is not None:
                yield event
            yield _result(future)
        finally:
            # The thread goes on for as long as another transfer needs what it fetches.
            cancellation.cancel()
            self._running.discard(cancellation)

    async def _call(self, work: Callable[[Cancellation], T]) -> T:
        """Ask a registry something; the thread is not held for longer than somebody waits."""
        from pannier.images.registry.cancelling import Cancellation  # noqa: PLC0415 - see the class

        cancellation = Cancellation()
        self._running.add(cancellation)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, work, cancellation)
        except OSError as error:
            raise DriverError(str(error)) from error
        finally:
            cancellation.cancel()
            self._running.discard(cancellation)

    async def log_in(self, registry: str, credentials: Credentials) -> None:
        """Find out whether a registry accepts credentials.

        :param registry: its host and port.
        :raises Forbidden: it does not.
        :raises RegistryError: it cannot be reached.
        """
        from pannier.images.registry.listing import check_access  # noqa: PLC0415 - see the class

        await self._call(partial(check_access, self._options, registry, credentials))

    async def search(self, query: SearchQuery, credentials: Credentials) -> list[SearchResult]:
        """Search a registry; see :func:`pannier.images.registry.listing.search`."""
        from pannier.images.registry.listing import search  # noqa: PLC0415 - see the class

        return await self._call(partial(search, self._options, query, credentials))

    async def describe(self, reference: Reference, credentials: Credentials) -> Described:
        """Tell what a registry has under a name, without fetching the image."""
        from pannier.images.registry.pull import describe_at  # noqa: PLC0415 - see the class

        request = _request(reference.with_default_tag(), credentials, None)
        return await self._call(
            lambda given_up: describe_at(self._options, replace(request, cancellation=given_up))
        )

    async def close(self) -> None:
        """Give every transfer up, and wait for its end."""
        for cancellation in self._running:
            cancellation.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)


def _request(
    reference: Reference, credentials: Credentials, platform: Platform | None
) -> TransferRequest:
    from pannier.images.registry.transfers import (  # noqa: PLC0415 - see Transfers
        TransferRequest,
    )

    return TransferRequest(reference, credentials, platform)


def _watched(
    work: Callable[[TransferRequest], T], request: TransferRequest
) -> Callable[[Callable[[TransferEvent], None], Cancellation], T]:
    return lambda report, given_up: work(replace(request, report=report, cancellation=given_up))


def _ended(events: asyncio.Queue[TransferEvent | None], future: asyncio.Future[object]) -> None:
    events.put_nowait(None)
    if not future.cancelled():
        future.exception()  # looked at, so that asyncio does not report what nobody waits for


def _result(future: asyncio.Future[T]) -> T:
    try:
        return future.result()
    except OSError as error:
        raise DriverError(str(error)) from error
