"""Builds: ``POST /build`` with Docker's parameters, and the pruning of the build cache."""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import TYPE_CHECKING, Any, Final

from pannier.build.model import BuildFailed, BuildRequest, Built, Output
from pannier.drivers.resources import Limits
from pannier.drivers.sizes import parse_size
from pannier.engine.model import Ulimit
from pannier.errors import InvalidRequest, PannierError, UnsupportedOperation
from pannier.images.reference import parse_reference
from pannier.server.body import body_chunks, parse_json
from pannier.server.call import Route
from pannier.server.errors import error_text
from pannier.server.messages import parse_platform
from pannier.server.parse.hostmodes import check_hosts, check_security
from pannier.server.parse.query import parse_time
from pannier.server.respond import JSON_TYPE, closed, encode, json_response, open_stream
from pannier.server.transfers import decode_credentials, event_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from pannier.build.model import Event
    from pannier.build.service import Builder
    from pannier.images.reference import Reference
    from pannier.images.registry.auth import Credentials
    from pannier.server.call import Call

__all__ = ["ROUTES", "credentials_of"]

EXTRAS: Final = "X-Pannier-Build-Extras"
"""How many bytes before the context are a JSON object with what has no place in a URL.

A Dockerfile and secrets, in base64, and security options, which may be whole profiles.
"""

_MAX_EXTRAS: Final = 16 << 20
_PRUNE_FILTERS: Final = frozenset({"all", "id", "label", "label!", "unused-for", "until"})
_BUILDKIT: Final = "2"
_REGISTRIES: Final = "X-Registry-Config"
_DOCKER_HUB: Final = frozenset({"index.docker.io", "registry-1.docker.io", "docker.io"})


def _builder(call: Call) -> Builder:
    builder = call.services.builder
    if builder is None:
        raise UnsupportedOperation(
            "this server has no builder", hint="only the daemon as a whole has one"
        )
    return builder


class _Answer:
    """The stream of a build's messages; it begins with the first of them."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._quiet = call.query.boolean("q")
        self._said: list[str] = []
        self._image = ""
        self.response: web.StreamResponse | None = None

    async def _write(self, message: dict[str, Any]) -> None:
        if self.response is None:
            self.response = await open_stream(self._call, JSON_TYPE)
        await self.response.write(encode(message))

    async def take(self, event: Event) -> None:
        """Pass an event on; a quiet build only keeps it."""
        if isinstance(event, Built):
            self._image = event.id
        if not self._quiet:
            await self._write(_message(event))
        elif isinstance(event, Output):
            self._said.append(event.text)

    async def fail(self, error: PannierError) -> None:
        """Tell of a failure, and of what a quiet build has said before it."""
        if self._said:
            await self._write({"stream": "".join(self._said)})
        await self._write(_failure(error))
        self._image = ""

    async def finish(self) -> web.StreamResponse:
        """End the stream."""
        if self._quiet and self._image:
            await self._write({"stream": f"{self._image}\n"})
        if self.response is None:
            self.response = await open_stream(self._call, JSON_TYPE)
        await self.response.write_eof()
        return self.response


async def _build(call: Call) -> web.StreamResponse:
    builder = _builder(call)
    extras, body = await _extras(call, body_chunks(call.request))
    events = builder.build(_request(call, extras), body)
    answer = _Answer(call)
    try:
        async with closed(events):
            async for event in events:
                await answer.take(event)
    except BuildFailed as error:
        await answer.fail(error)
    except PannierError as error:
        if answer.response is None:
            raise
        await answer.fail(error)
    return await answer.finish()


def _message(event: Event) -> dict[str, Any]:
    if isinstance(event, Output):
        return {"stream": event.text}
    if isinstance(event, Built):
        return {"aux": {"ID": event.id}}
    return event_message(event)


def _failure(error: PannierError) -> dict[str, Any]:
    text = error_text(error)
    detail: dict[str, Any] = {"message": text}
    if isinstance(error, BuildFailed) and error.code:
        detail["code"] = error.code
    message: dict[str, Any] = {"errorDetail": detail, "error": text}
    if error.hint:
        message["hint"] = error.hint
    return message


async def _extras(
    call: Call, body: AsyncIterator[bytes]
) -> tuple[dict[str, Any], AsyncIterator[bytes]]:
    """Take what Pannier's own client puts before the context."""
    text = call.request.headers.get(EXTRAS, "")
    if not text:
        return {}, body
    if not (text.isascii() and text.isdigit()) or int(text[:12]) > _MAX_EXTRAS:
        raise InvalidRequest(f"the header {EXTRAS} has no length that is allowed")
    length = int(text)
    data = bytearray()
    async for chunk in body:
        data += chunk
        if len(data) >= length:
            break
    if len(data) < length:
        raise InvalidRequest("the request ends before its extras do")
    rest = bytes(data[length:])

    async def remaining() -> AsyncIterator[bytes]:
        yield rest
        async for chunk in body:
            yield chunk

    return parse_json(bytes(data[:length])), remaining()


def _request(call: Call, extras: dict[str, Any]) -> BuildRequest:
    query = call.query
    _refuse(call)
    args = _mapping(call, "buildargs")
    remote = query.text("remote")
    return BuildRequest(
        dockerfile=query.text("dockerfile") or "Dockerfile",
        dockerfile_text=_decoded(extras.get("dockerfile"), "dockerfile"),
        remote="" if remote == "client-session" else remote,
        names=_names(call),
        build_args=args,
        labels={key: value or "" for key, value in _mapping(call, "labels").items()},
        target=query.text("target"),
        platform=parse_platform(query.text("platform")),
        no_cache=query.boolean("nocache"),
        pull=query.boolean("pull"),
        cache_from=_list(call, "cachefrom"),
        network=query.text("networkmode"),
        extra_hosts=check_hosts(
            tuple(host for text in query.texts("extrahosts") for host in _hosts(text))
        ),
        limits=_limits(call),
        cgroup_parent=query.text("cgroupparent"),
        ulimits=_ulimits(call),
        security_options=_security(call, extras),
        shm_size=query.integer("shmsize") or 64 << 20,
        secrets=_secrets(extras),
        credentials=credentials_of(call),
        epoch=_epoch(args.get("SOURCE_DATE_EPOCH")),
        keep=not query.boolean("rm", default=True) and not query.boolean("forcerm"),
        keep_failed=not query.boolean("forcerm"),
    )


def _refuse(call: Call) -> None:
    query = call.query
    if query.text("version") == _BUILDKIT or query.text("remote") == "client-session":
        raise UnsupportedOperation(
            "BuildKit sessions are not supported", hint="set DOCKER_BUILDKIT=0"
        )
    if query.text("isolation") not in {"", "default"}:
        raise InvalidRequest(f'Unsupported isolation: "{query.text("isolation")[:50]}"')
    if query.boolean("squash"):
        raise UnsupportedOperation(
            "squash is not supported",
            hint="copy the result into an empty stage: FROM scratch, COPY --from=0 / /",
        )
    if query.text("outputs") not in ("", "null", "[]"):
        raise UnsupportedOperation(
            "custom outputs are not supported",
            hint="build an image, and take files out with `pannier cp`",
        )


def _names(call: Call) -> tuple[Reference, ...]:
    found = []
    for text in call.query.texts("t"):
        reference = parse_reference(text)
        if reference.digest is not None:
            raise InvalidRequest("build tag cannot contain a digest")
        found.append(reference.with_default_tag())
    return tuple(dict.fromkeys(found))


def _parsed(call: Call, name: str) -> object:
    text = call.query.text(name)
    if not text:
        return None
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"error reading {name}: it is not JSON") from None
    return value


def _security(call: Call, extras: dict[str, Any]) -> tuple[str, ...]:
    """Read security options; a profile is too long for a URL, so ours are among the extras."""
    given = extras.get("security") or []
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise InvalidRequest("the security options of the build's extras are no list of strings")
    return check_security((*call.query.texts("securityopt"), *given))


def _mapping(call: Call, name: str) -> dict[str, str | None]:
    value = _parsed(call, name) or {}
    if not isinstance(value, dict) or not all(
        item is None or isinstance(item, str) for item in value.values()
    ):
        raise InvalidRequest(f"error reading {name}: an object of strings is expected")
    return value


def _list(call: Call, name: str) -> tuple[str, ...]:
    value = _parsed(call, name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidRequest(f"error reading {name}: an array of strings is expected")
    return tuple(value)


def _hosts(text: str) -> list[str]:
    """Read extra hosts: one each time, or (docker-py) all of them with commas."""
    return [host for host in text.split(",") if host]


def _limits(call: Call) -> Limits | None:
    query = call.query
    found = Limits(
        memory=_size(call, "memory"),
        memory_swap=_size(call, "memswap"),
        cpu_shares=query.integer("cpushares") or None,
        cpu_period=query.integer("cpuperiod") or None,
        cpu_quota=query.integer("cpuquota") or None,
        cpuset_cpus=query.text("cpusetcpus") or None,
        cpuset_mems=query.text("cpusetmems") or None,
    )
    return None if found == Limits() else found


def _size(call: Call, name: str) -> int | None:
    text = call.query.text(name)
    if text in ("", "0"):
        return None
    return -1 if text == "-1" else parse_size(text, name)


def _ulimits(call: Call) -> tuple[Ulimit, ...]:
    value = _parsed(call, "ulimits") or []
    if not isinstance(value, list):
        raise InvalidRequest("error reading ulimits: an array is expected")
    found = []
    for item in value:
        fields = item if isinstance(item, dict) else {}
        name, soft, hard = fields.get("Name"), fields.get("Soft"), fields.get("Hard")
        if not isinstance(name, str) or not isinstance(soft, int) or not isinstance(hard, int):
            raise InvalidRequest("error reading ulimits: each has Name, Soft and Hard")
        found.append(Ulimit(name, soft, hard))
    return tuple(found)


def _decoded(value: object, what: str) -> bytes | None:
    if value is None:
        return None
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"the {what} of the build's extras is no base64") from None


def _secrets(extras: dict[str, Any]) -> dict[str, bytes]:
    value = extras.get("secrets") or {}
    if not isinstance(value, dict):
        raise InvalidRequest("the secrets of the build's extras are no object")
    return {key: _decoded(item, "secret") or b"" for key, item in value.items()}


def credentials_of(call: Call) -> dict[str, Credentials]:
    """Read what the client is logged in with, by registry; what is malformed counts as nothing."""
    text = call.request.headers.get(_REGISTRIES, "")
    try:
        value = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) or b"{}")
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    found = {}
    for server, fields in value.items():
        if isinstance(fields, dict):
            host = (server.partition("://")[2] or server).partition("/")[0]
            name = "docker.io" if host in _DOCKER_HUB else host
            encoded = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()
            found[name] = decode_credentials(encoded)
    return found


def _epoch(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 12:
        raise InvalidRequest(
            f"invalid SOURCE_DATE_EPOCH: {text[:50]!r}", hint="it is seconds since 1970"
        )
    return int(text)


async def _prune(call: Call) -> web.StreamResponse:
    if call.services.builder is None:
        return json_response({"CachesDeleted": None, "SpaceReclaimed": 0})
    query = call.query
    filters = query.filters(_PRUNE_FILTERS)
    if "label" in filters:  # which steps have none
        return json_response({"CachesDeleted": None, "SpaceReclaimed": 0})
    ages = (*filters.get("until", ()), *filters.get("unused-for", ()))
    until = min((parse_time(text, time.time) for text in ages), default=None)
    report = await _builder(call).prune(
        all=query.boolean("all"),
        until=None if until is None else until // 1_000_000_000,
        keep=query.integer("keep-storage"),
    )
    return json_response(
        {"CachesDeleted": list(report.removed) or None, "SpaceReclaimed": report.reclaimed}
    )


async def _cancel(_call: Call) -> web.StreamResponse:
    raise UnsupportedOperation(
        "builds are cancelled by closing their connection", hint="end the client that builds"
    )


ROUTES: Final = (
    Route("POST", "/build", _build, stream=True),
    Route("POST", "/build/prune", _prune),
    Route("POST", "/build/cancel", _cancel),
)
