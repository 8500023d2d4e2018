"""Volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pannier.server.body import read_fields
from pannier.server.call import Route
from pannier.server.parse.mounts import check_volume_name
from pannier.server.respond import created, json_response, no_content
from pannier.server.views.resources import volume_view

if TYPE_CHECKING:
    from aiohttp import web

    from pannier.server.call import Call

__all__ = ["ROUTES"]

_FILTERS: Final = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS: Final = frozenset({"label", "label!", "all"})
_ANONYMOUS_ALONE_SINCE: Final = (1, 42)


async def _list(call: Call) -> web.StreamResponse:
    volumes = call.engine.volumes.list(call.query.filters(_FILTERS))
    return json_response({"Volumes": [volume_view(one) for one in volumes], "Warnings": None})


async def _create(call: Call) -> web.StreamResponse:
    fields = await read_fields(call.request)
    name = fields.text("Name")
    volume = await call.engine.volumes.create(
        check_volume_name(name) if name else "",
        fields.text("Driver"),
        fields.string_map("DriverOpts"),
        fields.string_map("Labels"),
    )
    return created(volume_view(volume))


async def _inspect(call: Call) -> web.StreamResponse:
    return json_response(volume_view(call.engine.volumes.get(call.name)))


async def _remove(call: Call) -> web.StreamResponse:
    await call.engine.volumes.remove(call.name, force=call.query.boolean("force"))
    return no_content()


async def _prune(call: Call) -> web.StreamResponse:
    both = call.version < _ANONYMOUS_ALONE_SINCE
    filters = call.query.filters(_PRUNE_FILTERS - {"all"} if both else _PRUNE_FILTERS)
    if both:
        filters["all"] = ("true",)
    result = await call.engine.volumes.prune(filters)
    return json_response(
        {"VolumesDeleted": list(result.deleted) or None, "SpaceReclaimed": result.reclaimed}
    )


ROUTES: Final = (
    Route("GET", "/volumes", _list),
    Route("POST", "/volumes/create", _create),
    Route("POST", "/volumes/prune", _prune),
    Route("GET", "/volumes/{name}", _inspect),
    Route("DELETE", "/volumes/{name}", _remove),
)
