"""Registries: pull, push, search, log in, and what a registry says of an image."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from pannier.errors import Forbidden, InvalidRequest, NotFound
from pannier.images.reference import parse_any, parse_reference
from pannier.images.registry.auth import ANONYMOUS, Credentials
from pannier.images.registry.transfers import TransferEvent
from pannier.server.body import read_fields
from pannier.server.call import Route
from pannier.server.messages import message_stream, parse_platform
from pannier.server.respond import closed, json_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from aiohttp import web

    from pannier.images.reference import Reference
    from pannier.images.registry.pull import PulledImage
    from pannier.images.registry.push import PushedImage
    from pannier.server.call import Call

__all__ = ["ROUTES", "pull"]

_HEADER: Final = "X-Registry-Auth"
_MAX_HEADER: Final = 64 << 10
_SEARCH_FILTERS: Final = frozenset({"is-automated", "is-official", "stars"})
_DEFAULT_SERVERS: Final = frozenset({"", "index.docker.io", "registry-1.docker.io", "docker.io"})


class Unauthorized(Forbidden):
    """A registry does not accept what a user logs in with."""

    status = 401


def credentials_of(call: Call) -> Credentials:
    """Read what the client logs in with; what is malformed counts as nothing, as with Docker."""
    return decode_credentials(call.request.headers.get(_HEADER, ""))


def decode_credentials(text: str) -> Credentials:
    """Read credentials as the API's headers have them: JSON in base64."""
    if not text or len(text) > _MAX_HEADER:
        return ANONYMOUS
    fields: Any = None
    with contextlib.suppress(ValueError):
        padded = text.translate({ord("+"): "-", ord("/"): "_"}).rstrip("=")
        fields = json.loads(base64.urlsafe_b64decode(padded + "=" * (-len(padded) % 4)))
    if not isinstance(fields, dict):
        return ANONYMOUS
    lower = {key.lower(): value for key, value in fields.items() if isinstance(value, str)}
    username, password = lower.get("username", ""), lower.get("password", "")
    if not username and lower.get("auth"):
        with contextlib.suppress(ValueError):
            pair = base64.b64decode(lower["auth"]).decode()
            username, _, password = pair.partition(":")
    return Credentials(
        username, password, lower.get("identitytoken", ""), lower.get("registrytoken", "")
    )


def event_message(event: TransferEvent) -> dict[str, Any]:
    """Return Docker's message for something that happens to a layer."""
    message: dict[str, Any] = {"status": event.status}
    if event.id:
        message["id"] = event.id
    if event.total:
        message["progressDetail"] = {"current": event.current, "total": event.total}
        message["progress"] = _bar(event.current, event.total)
    elif event.current:
        message["progressDetail"] = {"current": event.current}
        message["progress"] = f"{_size(event.current):>8}"
    elif event.id and not event.status.startswith("Pulling from"):
        message["progressDetail"] = {}
    return message


def _bar(current: int, total: int) -> str:
    filled = min(current * 50 // total, 50)
    bar = "=" * filled + ">" * (filled < 50)
    return f"[{bar:<50}]  {_size(current)}/{_size(total)}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g}{unit}"
        count /= 1000
    return f"{count:.4g}TB"


async def pull(call: Call) -> web.StreamResponse:
    """Answer ``POST /images/create?fromImage=``."""
    query = call.query
    image, tag = query.text("fromImage"), query.text("tag")
    reference = _wanted(image, tag)
    platform = parse_platform(query.text("platform"))
    # Without a tag the API means all of them.
    every = reference.is_name_only
    events = call.engine.transfers.pull(reference, credentials_of(call), platform, all_tags=every)

    async def lines() -> AsyncIterator[dict[str, Any]]:
        done: list[PulledImage] = []
        async with closed(events):
            async for item in events:
                if isinstance(item, TransferEvent):
                    yield event_message(item)
                else:
                    yield {"status": f"Digest: {item.digest}"}
                    done.append(item)
        if done:
            yield _pulled(done, reference.familiar if every else done[0].reference.familiar)

    return await message_stream(call, lines())


def _wanted(image: str, tag: str) -> Reference:
    if not image:
        raise InvalidRequest("invalid reference format: no image is named")
    named = parse_any(image)
    if isinstance(named, str):
        raise InvalidRequest(
            "invalid reference format: repository name must not be an image id",
            hint="a registry knows images by names, not by ids",
        )
    if not tag:
        return named
    # A tag beside the name replaces one in it, and may be a digest.
    separator = "@" if ":" in tag else ":"
    return parse_reference(f"{named.name}{separator}{tag}")


def _pulled(done: Sequence[PulledImage], name: str) -> dict[str, Any]:
    changed = any(pulled.changed for pulled in done)
    words = "Downloaded newer image for" if changed else "Image is up to date for"
    return {"status": f"Status: {words} {name}"}


async def _push(call: Call) -> web.StreamResponse:
    tag = call.query.text("tag")
    reference = parse_reference(f"{call.name}:{tag}" if tag else call.name)
    tags: list[Reference] = []
    if not tag and reference.is_name_only:
        tags = await _tags_of(call, reference)
    events = call.engine.transfers.push(reference, credentials_of(call), tags)

    async def lines() -> AsyncIterator[dict[str, Any]]:
        async with closed(events):
            async for item in events:
                if isinstance(item, TransferEvent):
                    yield event_message(item)
                else:
                    for message in _pushed(item):
                        yield message

    words = await _push_words(call, reference)
    return await message_stream(call, lines(), words=words)


async def _tags_of(call: Call, reference: Reference) -> list[Reference]:
    try:
        selected = await call.engine.images.select(reference.familiar)
    except NotFound:
        return []  # the push finds that out, and says it as one of its messages
    return [parse_reference(tag) for _, tags in selected for tag in tags]


async def _push_words(call: Call, reference: Reference) -> Callable[[str], str]:
    """Return what puts a failure into Docker's words: a tag is missing, or all of a repository."""
    try:
        here = bool(await call.engine.images.select(reference.familiar_name))
    except NotFound:
        here = False

    def words(text: str) -> str:
        name = text.removeprefix("No such image: ")
        if name == text:
            return text
        if here:
            return f"tag does not exist: {name}"
        return f"An image does not exist locally with the tag: {reference.familiar_name}"

    return words


def _pushed(pushed: PushedImage) -> list[dict[str, Any]]:
    tag = pushed.reference.tag or ""
    return [
        {"status": f"{tag}: digest: {pushed.digest} size: {pushed.size}"},
        {"progressDetail": {}, "aux": {"Tag": tag, "Digest": pushed.digest, "Size": pushed.size}},
    ]


async def _search(call: Call) -> web.StreamResponse:
    from pannier.images.registry.listing import SearchQuery  # noqa: PLC0415 - imports urllib3

    term = call.query.text("term")
    if not term:
        raise InvalidRequest("no search term is given")
    filters = call.query.filters(_SEARCH_FILTERS)
    query = SearchQuery(
        term=term,
        limit=call.query.integer("limit"),
        official=_switch(filters, "is-official"),
        automated=_switch(filters, "is-automated"),
        stars=_stars(filters),
    )
    found = await call.engine.transfers.search(query, credentials_of(call))
    return json_response(
        [
            {
                "star_count": one.stars,
                "is_official": one.official,
                "name": one.name,
                "is_automated": one.automated,
                "description": one.description,
            }
            for one in found
        ]
    )


def _switch(filters: dict[str, tuple[str, ...]], name: str) -> bool | None:
    values = filters.get(name, ())
    if not values:
        return None
    if values[-1] not in {"true", "1", "false", "0"}:
        raise InvalidRequest(f"invalid filter '{name}={list(values)}'")
    return values[-1] in {"true", "1"}


def _stars(filters: dict[str, tuple[str, ...]]) -> int:
    values = filters.get("stars", ())
    if not all(value.isdecimal() for value in values):
        raise InvalidRequest(f"invalid filter 'stars={list(values)}'")
    return max((int(value) for value in values), default=0)


async def _describe(call: Call) -> web.StreamResponse:
    reference = parse_reference(call.name)
    try:
        found = await call.engine.transfers.describe(reference, credentials_of(call))
    except NotFound as error:
        from pannier.images.registry.pull import PullDenied  # noqa: PLC0415 - imports urllib3

        if isinstance(error, PullDenied):
            raise Unauthorized(str(error), hint=error.hint) from error
        raise
    platforms = []
    for one in found.platforms:
        fields = {"architecture": one.architecture, "os": one.os}
        platforms.append(fields | ({"variant": one.variant} if one.variant else {}))
    return json_response({"Descriptor": found.descriptor.document(), "Platforms": platforms})


async def _auth(call: Call) -> web.StreamResponse:
    fields = await read_fields(call.request)
    # Clients write "https://index.docker.io/v1/" as well as "registry.example.com:5000".
    server = fields.text("serveraddress")
    host = server.partition("://")[2] or server
    host = host.partition("/")[0]
    credentials = Credentials(
        fields.text("username"), fields.text("password"), fields.text("identitytoken")
    )
    try:
        await call.engine.transfers.log_in(
            "docker.io" if host in _DEFAULT_SERVERS else host, credentials
        )
    except Forbidden as error:
        raise Unauthorized(str(error), hint="are the user name and the password right?") from error
    return json_response({"Status": "Login Succeeded", "IdentityToken": ""})


ROUTES: Final = (
    # A registry may take its time: whoever goes away ends the asking, which changes nothing.
    Route("GET", "/images/search", _search, stream=True),
    Route("POST", "/images/{name}/push", _push, stream=True, slashes=True),
    Route("GET", "/distribution/{name}/json", _describe, stream=True, slashes=True),
    Route("POST", "/auth", _auth, stream=True),
)
