"""Images: list, inspect, name, remove; in and out as archives."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from pannier.errors import InvalidRequest, NotFound
from pannier.images.filters import ImageFilters
from pannier.images.importing import ImportRequest
from pannier.images.load import LoadedImage, RenamedImage
from pannier.images.reference import parse_reference
from pannier.images.registry.transfers import TransferEvent
from pannier.server import transfers
from pannier.server.body import body_chunks, read_fields
from pannier.server.call import Route
from pannier.server.messages import message_stream, parse_platform
from pannier.server.parse.config import parse_config
from pannier.server.parse.query import parse_time
from pannier.server.respond import (
    closed,
    created,
    json_response,
    stream_chunks,
)
from pannier.server.views.images import history_view, image_summary, image_view, removals_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pannier.images.reference import Reference
    from pannier.server.call import Call

__all__ = ["ROUTES"]

_FILTERS: Final = frozenset({"before", "dangling", "label", "reference", "since", "until"})
_PRUNE_FILTERS: Final = frozenset({"dangling", "label", "label!", "until"})
_NO_CONTAINER_SINCE: Final = (1, 45)
_SLIM_CONFIG_SINCE: Final = (1, 50)
_TAR: Final = "application/x-tar"


async def _list(call: Call) -> web.StreamResponse:
    query = call.query
    filters = query.filters(_FILTERS)
    older = query.text("filter")
    if older and "reference" not in filters:
        filters["reference"] = (older,)
    images = await call.engine.images.list(_filters(filters), all=query.boolean("all"))
    shared = [-1] * len(images)
    if query.boolean("shared-size"):
        shared = [size.shared for size in await call.engine.images.sizes(images)]
    return json_response(
        [image_summary(image, size) for image, size in zip(images, shared, strict=True)]
    )


def _filters(filters: dict[str, tuple[str, ...]], *, prune: bool = False) -> ImageFilters:
    until = _single(filters, "until")
    return ImageFilters(
        dangling=_dangling(filters, default=True if prune else None),
        labels=filters.get("label", ()),
        not_labels=filters.get("label!", ()),
        before=_single(filters, "before"),
        since=_single(filters, "since"),
        references=filters.get("reference", ()),
        until=None if until is None else parse_time(until, time.time),
    )


def _single(filters: dict[str, tuple[str, ...]], name: str) -> str | None:
    values = filters.get(name, ())
    if len(values) > 1 and name == "until":
        raise InvalidRequest("more than one until filter specified")
    if len(values) > 1:
        raise InvalidRequest(f"invalid filter '{name}': only one value is possible")
    return values[0] if values else None


def _dangling(filters: dict[str, tuple[str, ...]], *, default: bool | None) -> bool | None:
    value = _single(filters, "dangling")
    if value is None:
        return default
    if value in {"1", "true"}:
        return True
    if value in {"0", "false"}:
        return False
    raise InvalidRequest(f"invalid filter 'dangling=[{value}]'")


async def _inspect(call: Call) -> web.StreamResponse:
    image = await call.engine.images.get(call.name)
    storage = call.engine.drivers.storage
    return json_response(
        image_view(
            image,
            storage.id,
            {},
            whole_config=call.version < _SLIM_CONFIG_SINCE,
            container_config=_reads_container_config(call),
        )
    )


def _reads_container_config(call: Call) -> bool:
    # Compose 1 speaks the newest API that it is offered and reads what went away with 1.45.
    compose = call.request.headers.get("User-Agent", "").startswith("docker-compose/1.")
    return compose or call.version < _NO_CONTAINER_SINCE


async def _history(call: Call) -> web.StreamResponse:
    return json_response(history_view(await call.engine.images.history(call.name)))


async def _tag(call: Call) -> web.StreamResponse:
    name = _named(call)
    if name is None:
        raise InvalidRequest("invalid reference format: a repository is needed")
    await call.engine.images.tag(call.name, name.familiar)
    return web.Response(status=201)


def _named(call: Call) -> Reference | None:
    """Return the name that ``repo`` and ``tag`` make; None where there is no ``repo``."""
    repository, tag = call.query.text("repo"), call.query.text("tag")
    if not repository:
        return None
    reference = parse_reference(f"{repository}:{tag}" if tag else repository)
    if reference.digest is not None:
        raise InvalidRequest("refusing to create a tag with a digest reference")
    return reference.with_default_tag()


async def _remove(call: Call) -> web.StreamResponse:
    removals = await call.engine.images.remove(
        call.name,
        force=call.query.boolean("force"),
        prune=not call.query.boolean("noprune"),
    )
    return json_response(removals_view(removals))


async def _prune(call: Call) -> web.StreamResponse:
    filters = _filters(call.query.filters(_PRUNE_FILTERS), prune=True)
    report = await call.engine.images.prune(filters)
    return json_response(
        {
            "ImagesDeleted": removals_view(report.removals) or None,
            "SpaceReclaimed": report.reclaimed,
        }
    )


async def _get(call: Call) -> web.StreamResponse:
    chunks = await call.engine.images.save([call.name])
    return await stream_chunks(call, chunks, _TAR)


async def _get_many(call: Call) -> web.StreamResponse:
    names = [name for text in call.query.texts("names") for name in text.split(",") if name]
    if not names:
        raise InvalidRequest("no image names given")
    chunks = await call.engine.images.save(names)
    return await stream_chunks(call, chunks, _TAR)


async def _load(call: Call) -> web.StreamResponse:
    platform = parse_platform(call.query.text("platform"))
    quiet = call.query.boolean("quiet", default=True)  # so dockerd has it, whatever is documented
    events = call.engine.images.load(body_chunks(call.request), platform)

    async def lines() -> AsyncIterator[dict[str, Any]]:
        async with closed(events):
            async for event in events:
                if isinstance(event, (LoadedImage, RenamedImage)):
                    yield {"stream": f"{event.message}\n"}
                elif not quiet:
                    yield transfers.event_message(
                        TransferEvent("Loading layer", event.layer, event.current, event.total)
                    )

    # docker-py tells a failed load by the message, and takes a bad status for another failure.
    return await message_stream(call, lines(), at_once=True)


async def _create(call: Call) -> web.StreamResponse:
    source = call.query.text("fromSrc")
    if not source:
        return await transfers.pull(call)
    request = ImportRequest(
        name=_named(call),
        changes=call.query.texts("changes"),
        message=call.query.text("message"),
        platform=parse_platform(call.query.text("platform")),
        source=source,
    )
    if source != "-":
        return await message_stream(call, _imported_from(call, source, request))
    added = await call.engine.images.import_image(body_chunks(call.request), request)

    async def lines() -> AsyncIterator[dict[str, Any]]:
        yield {"status": added.image.id}

    return await message_stream(call, lines())


async def _imported_from(
    call: Call, source: str, request: ImportRequest
) -> AsyncIterator[dict[str, Any]]:
    events = call.engine.transfers.import_url(source, request)
    async with closed(events):
        async for item in events:
            if isinstance(item, TransferEvent):
                yield transfers.event_message(item)
            else:
                call.engine.images.imported(item, request)
                yield {"status": item.image.id}


async def _commit(call: Call) -> web.StreamResponse:
    query = call.query
    name = query.text("container")
    if not name:
        raise NotFound("No such container: ")
    fields = await read_fields(call.request, empty=True)
    reference = _named(call)
    identity = await call.engine.containers.commit(
        name,
        repository="" if reference is None else reference.familiar_name,
        tag="" if reference is None else reference.tag or "",
        author=query.text("author"),
        message=query.text("comment"),
        changes=tuple(line for text in query.texts("changes") for line in text.split("\n") if line),
        pause=query.boolean("pause", default=True),
        config=parse_config(fields) if fields else None,
    )
    return created({"Id": identity})


ROUTES: Final = (
    Route("GET", "/images/json", _list),
    Route("GET", "/images/get", _get_many, stream=True),
    Route("POST", "/images/load", _load),
    Route("POST", "/images/create", _create, stream=True),
    Route("POST", "/images/prune", _prune),
    Route("GET", "/images/{name}/json", _inspect, slashes=True),
    Route("GET", "/images/{name}/history", _history, slashes=True),
    Route("GET", "/images/{name}/get", _get, stream=True, slashes=True),
    Route("POST", "/images/{name}/tag", _tag, slashes=True),
    Route("DELETE", "/images/{name}", _remove, slashes=True),
    Route("POST", "/commit", _commit),
)
