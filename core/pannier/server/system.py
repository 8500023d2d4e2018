"""The engine itself: ping, version, info, disk usage, and what is not offered yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from pannier.errors import InvalidRequest
from pannier.server.call import API_VERSION, MIN_API_VERSION, Route
from pannier.server.respond import encode, json_bytes, json_response
from pannier.server.views.images import image_summary
from pannier.server.views.info import info_view
from pannier.server.views.resources import volume_view

if TYPE_CHECKING:
    from pannier.server.call import Call

__all__ = ["ROUTES"]

_PING_HEADERS: Final = {
    # 1 is the builder that speaks /build; 2 would be BuildKit's protocol.
    "Builder-Version": "1",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}
_DISK_TYPES: Final = frozenset({"container", "image", "volume", "build-cache"})


async def _ping(call: Call) -> web.StreamResponse:
    body = b"" if call.request.method == "HEAD" else b"OK"
    return web.Response(
        body=body, headers=_PING_HEADERS, content_type="text/plain", charset="utf-8"
    )


async def _version(call: Call) -> web.StreamResponse:
    identity = call.services.identity
    api, oldest = (f"{major}.{minor}" for major, minor in (API_VERSION, MIN_API_VERSION))
    details = {
        "ApiVersion": api,
        "Arch": identity.architecture,
        "Experimental": identity.experimental_word,
        "KernelVersion": identity.kernel,
        "MinAPIVersion": oldest,
        "Os": "linux",
        "Python": identity.python,
    }
    return json_response(
        {
            "Platform": {"Name": identity.product},
            "Components": [{"Name": "Engine", "Version": identity.version, "Details": details}],
            "Version": identity.version,
            "ApiVersion": api,
            "MinAPIVersion": oldest,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": identity.architecture,
            "KernelVersion": identity.kernel,
            "BuildTime": "",
        }
    )


async def _info(call: Call) -> web.StreamResponse:
    return json_response(info_view(await call.engine.system.info(), call.services.identity))


async def _disk_usage(call: Call) -> web.StreamResponse:
    wanted = set(call.query.texts("type")) or _DISK_TYPES
    if unknown := wanted - _DISK_TYPES:
        raise InvalidRequest(f"unknown object type: {min(unknown)}")
    view: dict[str, Any] = {}
    usage = await call.engine.system.disk_usage()
    if "image" in wanted:
        images = await call.engine.images.disk_usage()
        used: dict[str, int] = {}
        for one in usage.containers:
            used[one.container.image_id] = used.get(one.container.image_id, 0) + 1
        view["LayersSize"] = images.layers
        view["Images"] = [
            image_summary(image, size.shared, used.get(image.id, 0))
            for image, size in images.images
        ]
    if "volume" in wanted:
        view["Volumes"] = [volume_view(volume, one) for volume, one in usage.volumes]
    if "build-cache" in wanted:
        view["BuildCache"] = []
        view["BuilderSize"] = 0
    if "container" not in wanted:
        return json_response(view)
    listing = call.services.summaries.listing(
        [one.container for one in usage.containers],
        {one.container.id: (one.size_rw, one.size_root) for one in usage.containers},
        call.engine.containers.linked_names(),
    )
    # The containers' JSON is made already: it goes in as it is.
    head = encode(view).rstrip()[:-1]
    comma = b"," if view else b""
    return json_bytes(head + comma + b'"Containers":' + listing.rstrip() + b"}\n")


ROUTES: Final = (
    Route("GET", "/_ping", _ping),
    Route("HEAD", "/_ping", _ping),
    Route("GET", "/version", _version),
    Route("GET", "/info", _info),
    Route("GET", "/system/df", _disk_usage),
)
