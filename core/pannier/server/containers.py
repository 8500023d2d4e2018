"""Containers: create, list, inspect, change, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pannier.engine.results import ContainerQuery
from pannier.errors import InvalidRequest
from pannier.server.body import read_fields
from pannier.server.call import Route
from pannier.server.parse.create import check_container_name, parse_create
from pannier.server.parse.hostconfig import parse_restart
from pannier.server.parse.limits import asks_cpus, parse_limits
from pannier.server.respond import created, json_bytes, json_response, no_content
from pannier.server.views.container import add_for_version, container_view

if TYPE_CHECKING:
    from aiohttp import web

    from pannier.server.call import Call

__all__ = ["ROUTES"]

_FILTERS: Final = frozenset(
    [
        "ancestor",
        "before",
        "exited",
        "expose",
        "health",
        "id",
        "is-task",
        "isolation",
        "label",
        "name",
        "network",
        "publish",
        "since",
        "status",
        "volume",
    ]
)
_STATUSES: Final = frozenset(
    ["created", "running", "paused", "restarting", "removing", "exited", "dead"]
)
_PRUNE_FILTERS: Final = frozenset({"until", "label", "label!"})
_KINDS: Final = {"C": 0, "A": 1, "D": 2}


async def _list(call: Call) -> web.StreamResponse:
    query = call.query
    filters = query.filters(_FILTERS)
    for status in filters.get("status", ()):
        if status not in _STATUSES:
            raise InvalidRequest(f"invalid filter 'status={status}'")
    for code in filters.get("exited", ()):
        if not code.removeprefix("-").isdecimal():
            raise InvalidRequest(f"invalid filter 'exited={code}'")
    limit = max(query.integer("limit"), 0)
    containers = call.engine.containers.list(
        ContainerQuery(all=query.boolean("all"), limit=limit, filters=filters)
    )
    sizes = None
    if query.boolean("size"):
        sizes = {one.id: await call.engine.containers.sizes(one.id) for one in containers}
    linked = call.engine.containers.linked_names()
    return json_bytes(call.services.summaries.listing(containers, sizes, linked))


async def _create(call: Call) -> web.StreamResponse:
    fields = await read_fields(call.request)
    options = parse_create(fields, call.query.text("name"), call.query.text("platform"))
    result = await call.engine.containers.create(options)
    return created({"Id": result.container.id, "Warnings": list(result.warnings)})


async def _inspect(call: Call) -> web.StreamResponse:
    container = await call.engine.containers.settled(call.name)
    sizes = None
    if call.query.boolean("size"):
        sizes = await call.engine.containers.sizes(container.id)
    execs = call.engine.execs.ids_of(container)
    layer = await call.engine.containers.driver_data(container)
    view = container_view(container, execs, layer, {}, sizes)
    add_for_version(view, container, call.version)
    view["HostConfig"]["Links"] = list(call.engine.containers.links_of(container)) or None
    return json_response(view)


async def _rename(call: Call) -> web.StreamResponse:
    name = call.query.text("name")
    if not name:
        raise InvalidRequest("Neither old nor new names may be empty")
    call.engine.containers.get(call.name)  # whether it is there comes first
    await call.engine.containers.rename(call.name, check_container_name(name))
    return no_content()


async def _update(call: Call) -> web.StreamResponse:
    fields = await read_fields(call.request)
    restart = parse_restart(fields.object("RestartPolicy")) if "RestartPolicy" in fields else None
    if restart is not None and not fields.object("RestartPolicy").text("Name"):
        restart = None
    limits = parse_limits(fields, update=True)
    warnings = await call.engine.containers.update(
        call.name, limits, restart, by_cpus=asks_cpus(fields)
    )
    return json_response({"Warnings": list(warnings)})


async def _remove(call: Call) -> web.StreamResponse:
    if call.query.boolean("link"):
        await call.engine.containers.remove_link(call.name)
        return no_content()
    await call.engine.containers.remove(
        call.name, force=call.query.boolean("force"), volumes=call.query.boolean("v")
    )
    return no_content()


async def _prune(call: Call) -> web.StreamResponse:
    result = await call.engine.containers.prune(call.query.filters(_PRUNE_FILTERS))
    return json_response(
        {"ContainersDeleted": list(result.deleted) or None, "SpaceReclaimed": result.reclaimed}
    )


async def _changes(call: Call) -> web.StreamResponse:
    changes = await call.engine.containers.changes(call.name)
    return json_response(
        [{"Path": change.path, "Kind": _KINDS[change.kind.value]} for change in changes] or None
    )


async def _top(call: Call) -> web.StreamResponse:
    result = await call.engine.containers.top(call.name, call.query.text("ps_args", "-ef"))
    return json_response(
        {"Titles": list(result.titles), "Processes": [list(line) for line in result.processes]}
    )


ROUTES: Final = (
    Route("GET", "/containers/json", _list),
    Route("POST", "/containers/create", _create),
    Route("POST", "/containers/prune", _prune),
    Route("GET", "/containers/{name}/json", _inspect),
    Route("POST", "/containers/{name}/rename", _rename),
    Route("POST", "/containers/{name}/update", _update),
    Route("GET", "/containers/{name}/changes", _changes),
    Route("GET", "/containers/{name}/top", _top),
    Route("DELETE", "/containers/{name}", _remove, slashes=True),
)
