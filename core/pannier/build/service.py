"""The builder, as the server sees it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from pannier.build.building import Build
from pannier.build.cache import Cache
from pannier.build.context import Context, Workspace
from pannier.build.model import Output, PruneReport
from pannier.build.parser import parse_dockerfile
from pannier.build.remote import fetch_context
from pannier.build.state import Committer
from pannier.engine.results import ContainerQuery
from pannier.engine.results import Event as EngineEvent
from pannier.engine.workers import Workers
from pannier.errors import Conflict, NotFound, PannierError
from pannier.images.digest import short_id
from pannier.images.model import DeletedImage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from pannier.build.model import BuildRequest, Event
    from pannier.database import Database
    from pannier.engine.engine import Engine
    from pannier.images.images import ImageStore
    from pannier.images.model import Image

__all__ = ["Builder", "Caches"]

_log = logging.getLogger("pannier.build")


class Caches:
    """Who uses which cache mount; used on the event loop's thread."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._taken: dict[str, set[int]] = {}

    @contextlib.asynccontextmanager
    async def use(self, folder: str, sharing: str) -> AsyncIterator[int]:
        """Use a cache for a block; gives the number of the private folder, or 0.

        :param sharing: ``locked`` waits for others, ``private`` takes a folder that nobody uses.
        """
        if sharing == "locked":
            async with self._locks.setdefault(folder, asyncio.Lock()):
                yield 0
        elif sharing == "private":
            taken = self._taken.setdefault(folder, set())
            number = next(number for number in range(len(taken) + 1) if number not in taken)
            taken.add(number)
            try:
                yield number
            finally:
                taken.discard(number)
        else:
            yield 0


class Builder:
    """Builds images. Made and used on the engine's event loop.

    :param root: the engine's folder that survives a reboot; contexts and caches are in ``build``.
    :param state: the one that does not.
    """

    def __init__(
        self,
        engine: Engine,
        store: ImageStore,
        database: Database,
        root: Path,
        state: Path,
    ) -> None:
        self._engine = engine
        self._store = store
        self._cache = Cache(database)
        self._caches = Caches()
        self._workspace = Workspace(root / "build", state)
        self._workers = Workers()

    async def clear(self) -> None:
        """Remove the containers of builds that ended with a daemon, whatever they do."""
        containers = self._engine.containers
        for container in containers.list(ContainerQuery(all=True)):
            if container.step:
                try:
                    await containers.remove(container.id, force=True, volumes=True)
                except PannierError as error:
                    _log.warning("%s, of a build, stays: %s", container.id[:12], error)

    async def close(self) -> None:
        """Wait for what is under way, then end the threads."""
        await self._workers.close()

    async def build(
        self, request: BuildRequest, body: AsyncIterator[bytes]
    ) -> AsyncGenerator[Event, None]:
        """Build an image; yields what happens.

        A consumer that ends early cancels the build.

        :param body: the context, as an archive; unread where there is a remote.
        :raises BuildFailed: an instruction failed.
        :raises InvalidRequest: the Dockerfile or what was asked is malformed.
        """
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        work = asyncio.get_running_loop().create_task(self._build(request, body, events.put_nowait))
        work.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await work
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait([work])

    async def _build(
        self, request: BuildRequest, body: AsyncIterator[bytes], deliver: Callable[[Event], None]
    ) -> None:
        workers = self._workers
        folder = await workers.run(self._workspace.begin)
        context = Context(folder)
        work = self._store.workbench.work()
        try:
            dockerfile = await self._fill(request, context, body)
            lease = work.__enter__()
            try:
                committer = Committer(self._store, lease, request.epoch)
                build = Build(
                    request,
                    parse_dockerfile(dockerfile),
                    context,
                    engine=self._engine,
                    store=self._store,
                    committer=committer,
                    cache=self._cache,
                    caches=self._caches,
                    workspace=self._workspace,
                    workers=workers,
                    deliver=deliver,
                )
                image = await build.run()
                await self._finish(request, image, build.unused(), deliver)
            finally:
                # Off the event loop, since it collects what no image uses.
                await asyncio.shield(workers.bulk(work.__exit__, None, None, None))
        finally:
            context.close()
            workers.spawn(workers.bulk(self._workspace.end, folder))

    async def _fill(
        self, request: BuildRequest, context: Context, body: AsyncIterator[bytes]
    ) -> bytes:
        """Fill the context; return the Dockerfile."""
        workers = self._workers
        found = None
        if request.remote:
            limits = self._store.limits
            found = await workers.bulk(fetch_context, request.remote, context, limits)
        else:
            async with workers.reading(body) as stream:
                await workers.bulk(context.unpack, stream, self._store.limits)
        text = request.dockerfile_text if found is None else found
        if text is not None:
            return text
        return await workers.run(context.dockerfile, request.dockerfile)

    async def _finish(
        self, request: BuildRequest, image: str, unused: list[str], deliver: Callable[[Event], None]
    ) -> None:
        if unused:
            names = " ".join(unused)
            deliver(Output(f"[Warning] One or more build-args [{names}] were not consumed\n"))
        deliver(Output(f"Successfully built {short_id(image)}\n"))
        for name in request.names:
            reference = await self._engine.images.tag(image, name.familiar)
            deliver(Output(f"Successfully tagged {reference.familiar}\n"))

    async def prune(
        self, *, all: bool = False, until: int | None = None, keep: int = 0
    ) -> PruneReport:
        """Forget steps, and remove the images that only the cache knew.

        :param all: also those that other images are made of; else only those that lead nowhere.
        :param until: only what was not used since then, in seconds since the epoch.
        :param keep: bytes of the images that may stay.
        """
        removed: list[str] = []
        reclaimed = 0
        kept = 0
        for key, identity, _, used in await self._workers.run(self._cache.entries):
            if until is not None and used > until:
                continue
            image = await self._engine.images.find(identity)
            leaf = image is not None and image.dangling and not self._store.children(identity)
            if image is not None and not (all or leaf):
                continue
            if image is not None and leaf and kept + image.size <= keep:
                kept += image.size
                continue
            if image is not None and leaf:
                # First: without its key no later prune would know it for a step. A key whose image
                # has gone leads nowhere, and is forgotten by the next one.
                reclaimed += await self._remove(image)
            await self._workers.run(self._cache.forget, [key])
            removed.append(key)
        attributes = {"reclaimed": str(reclaimed)}
        self._engine.events.publish(EngineEvent("builder", "prune", "", attributes))
        return PruneReport(tuple(removed), reclaimed)

    async def _remove(self, image: Image) -> int:
        """Remove an image, and the untagged ones below; return the bytes of layers that went."""
        sizes = {layer.chain_id: layer.size for layer in image.layers}
        try:
            removals = await self._engine.images.remove(image.id)
        except (Conflict, NotFound):  # a container has it after all
            return 0
        return sum(
            sizes.get(item.id, 0)
            for item in removals
            if isinstance(item, DeletedImage) and not item.is_image
        )
