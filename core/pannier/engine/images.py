"""Images, for the engine: the image store off the event loop, with the users' side and events."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from pannier.engine.imagefacts import ImageFacts
from pannier.engine.model import ContainerConfig, HealthCheck
from pannier.engine.results import Event
from pannier.engine.telling import tell_of_image
from pannier.engine.workers import uninterrupted
from pannier.errors import NotFound
from pannier.images.config import Healthcheck, RunConfig
from pannier.images.images import EVERYTHING
from pannier.images.importing import CommitRequest
from pannier.images.load import LoadedImage
from pannier.images.model import DeletedImage
from pannier.images.oci import Platform
from pannier.images.reference import parse_reference

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from pannier.engine.events import Events
    from pannier.engine.model import Container
    from pannier.engine.store import Store
    from pannier.engine.workers import Workers
    from pannier.images.filters import ImageFilters
    from pannier.images.images import ImageStore
    from pannier.images.importing import ImportRequest
    from pannier.images.load import LoadEvent
    from pannier.images.model import (
        AddedImage,
        DiskUsage,
        HistoryItem,
        Image,
        ImageSize,
        PruneReport,
        Removal,
    )
    from pannier.images.reference import Reference

__all__ = ["Images", "StoredImages", "container_config", "run_config"]


def container_config(config: RunConfig) -> ContainerConfig:
    """Return what an image says of its containers, in the engine's words."""
    health = config.healthcheck
    return ContainerConfig(
        user=config.user,
        env=config.env,
        cmd=config.cmd,
        entrypoint=config.entrypoint,
        working_dir=config.working_dir,
        volumes=config.volumes,
        exposed_ports=config.exposed_ports,
        labels=config.labels,
        stop_signal=config.stop_signal,
        stop_timeout=config.stop_timeout,
        health_check=None if health is None else HealthCheck(*_health_fields(health)),
        shell=config.shell or (),
        on_build=config.on_build,
    )


def run_config(config: ContainerConfig) -> RunConfig:
    """Return what an image committed from a container says of its own containers."""
    health = config.health_check
    return RunConfig(
        env=config.env,
        cmd=config.cmd,
        entrypoint=config.entrypoint,
        working_dir=config.working_dir,
        user=config.user,
        exposed_ports=config.exposed_ports,
        volumes=config.volumes,
        labels=config.labels,
        stop_signal=config.stop_signal,
        stop_timeout=config.stop_timeout,
        healthcheck=None if health is None else Healthcheck(*_health_fields(health)),
        shell=config.shell or None,
        on_build=config.on_build,
    )


def _health_fields(
    health: Healthcheck | HealthCheck,
) -> tuple[tuple[str, ...], int, int, int, int, int]:
    return (
        health.test,
        health.interval,
        health.timeout,
        health.start_period,
        health.start_interval,
        health.retries,
    )


class StoredImages:
    """The image store as the source of new containers (see :class:`ImageSource`)."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        # By id: what an image is never changes.
        self._config = functools.lru_cache(maxsize=256)(self._convert)

    def _convert(self, id: str) -> ContainerConfig:
        return container_config(self._store.get(id).config.config)

    @contextlib.contextmanager
    def hold(self, ref: str, platform: str = "", storage: str = "") -> Iterator[ImageFacts]:
        """Give an image whose layers stay while the block runs."""
        with self._store.hold(ref, storage) as image:
            found = image.config.platform
            if platform and not found.matches(Platform.parse(platform)):
                raise NotFound(
                    f"image with reference {ref} was found but its platform ({found}) does not "
                    f"match the specified platform ({platform})"
                )
            yield ImageFacts(
                id=image.id,
                parent=image.top_layer,
                config=self._config(image.id),
                platform=str(found),
            )


class Images:
    """The image store's methods, each awaited; see :class:`pannier.images.images.ImageStore`."""

    def __init__(self, images: ImageStore, store: Store, events: Events, workers: Workers) -> None:
        self._images = images
        self._store = store
        self._events = events
        self._workers = workers

    async def find(self, text: str) -> Image | None:
        """Return the image that *text* names; None if there is none."""
        return await self._workers.run(self._images.find, text)

    async def get(self, text: str) -> Image:
        """Return an image by tag, digest, full id or the beginning of an id."""
        return await self._workers.run(self._images.get, text)

    def id_of(self, text: str) -> str | None:
        """Return the id of the image that *text* names; None if there is none. Blocks briefly."""
        image = self._images.find(text)
        return None if image is None else image.id

    async def list(
        self, filters: ImageFilters = EVERYTHING, *, all: bool = False
    ) -> Sequence[Image]:
        """Return images, the newest first."""
        return await self._workers.run(self._images.list, filters, all=all)

    async def select(self, text: str) -> Sequence[tuple[str, tuple[str, ...]]]:
        """Return the images that *text* means to push, by id, with the tags it means."""
        return await self._workers.run(self._images.select, text)

    async def history(self, text: str) -> Sequence[HistoryItem]:
        """Return how an image was made, the last step first."""
        return await self._workers.run(self._images.history, text)

    async def sizes(self, images: Iterable[Image]) -> Sequence[ImageSize]:
        """Return how large images are, in their order."""
        return await self._workers.run(self._images.sizes, images)

    async def disk_usage(self) -> DiskUsage:
        """Return what all images take."""
        return await self._workers.bulk(self._images.disk_usage)

    @uninterrupted
    async def tag(self, text: str, name: str) -> Reference:
        """Give an image another name."""
        reference = await self._workers.run(self._images.tag, text, name)
        image = await self._workers.run(self._images.get, reference.familiar)
        self._publish("tag", image, reference.familiar)
        return reference

    @uninterrupted
    async def remove(
        self, text: str, *, force: bool = False, prune: bool = True
    ) -> tuple[Removal, ...]:
        """Remove a name, and the image with its last one; or an image by id."""
        removals = await self._workers.bulk(
            self._images.remove,
            text,
            users=self._store.image_users,
            force=force,
            prune=prune,
        )
        self._publish_removals(removals)
        return removals

    @uninterrupted
    async def prune(self, filters: ImageFilters) -> PruneReport:
        """Remove images that no container uses."""
        report = await self._workers.bulk(
            self._images.prune, filters, users=self._store.image_users
        )
        self._publish_removals(report.removals)
        self._events.publish(Event("image", "prune", "", {"reclaimed": str(report.reclaimed)}))
        return report

    def _publish_removals(self, removals: Iterable[Removal]) -> None:
        for item in removals:
            if isinstance(item, DeletedImage):
                if item.is_image:
                    tell_of_image(self._events, "delete", item.id, item.id, None)
            elif not item.implied:
                tell_of_image(self._events, "untag", item.image, item.image, item.labels)

    async def load(
        self, chunks: AsyncIterator[bytes], platform: Platform | None = None
    ) -> AsyncIterator[LoadEvent]:
        """Load the images of an archive; yields what happens."""
        told = set()
        async with self._workers.reading(chunks) as stream:
            events = self._workers.stream(self._images.load(stream, platform))
            async with contextlib.aclosing(events):
                async for event in events:
                    # Once, however many names it has.
                    if isinstance(event, LoadedImage) and event.id not in told:
                        told.add(event.id)
                        self._publish("load", await self.find(event.id), event.id)
                    yield event

    async def save(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        """Return images as an archive.

        :raises NotFound: before anything is sent, where an image does not exist.
        """
        selected = [await self._workers.run(self._images.select, name) for name in names]
        for id in dict.fromkeys(id for found in selected for id, _ in found):
            self._publish("save", await self.find(id), id)
        return self._workers.written(lambda out: self._images.save(names, out))

    async def import_image(
        self, chunks: AsyncIterator[bytes], request: ImportRequest
    ) -> AddedImage:
        """Make an image of a root filesystem."""
        async with self._workers.reading(chunks) as stream:
            added = await self._workers.bulk(self._images.import_image, stream, request)
        self.imported(added, request)
        return added

    def imported(self, added: AddedImage, request: ImportRequest) -> None:
        """Say that an image was made of a root filesystem."""
        if request.name is not None:
            self._publish("tag", added.image, request.name.with_default_tag().familiar)
        self._publish("import", added.image, added.image.id)

    async def commit(
        self,
        container: Container,
        config: ContainerConfig,
        *,
        name: str = "",
        author: str = "",
        message: str = "",
        changes: builtins.list[str] | tuple[str, ...] = (),
    ) -> str:
        """Make an image of a container; return its id. See :meth:`ImageStore.commit`."""
        request = CommitRequest(
            container=container.id,
            storage=container.storage_driver,
            base=container.image_id or None,
            config=run_config(config),
            name=parse_reference(name).with_default_tag() if name else None,
            changes=changes,
            author=author,
            message=message,
            created_by=" ".join(container.args),
        )
        added = await self._workers.bulk(self._images.commit, request)
        self._publish("create", added.image, added.image.id)
        if request.name is not None:
            self._publish("tag", added.image, request.name.familiar)
        return added.image.id

    def _publish(self, action: str, image: Image | None, name: str) -> None:
        """Say what happened to an image; nothing where it has gone meanwhile."""
        if image is not None:
            labels = image.config.config.labels
            tell_of_image(self._events, action, image.id, name, labels)
