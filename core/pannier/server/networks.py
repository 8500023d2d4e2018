"""Networks, and which containers are on them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pannier.errors import InvalidRequest, NotFound
from pannier.server.body import read_fields
from pannier.server.call import Route
from pannier.server.parse.networks import parse_auxiliary, parse_endpoint, parse_ipam
from pannier.server.respond import created, json_response, no_content
from pannier.server.views.resources import network_view

if TYPE_CHECKING:
    from pannier.server.call import Call

__all__ = ["ROUTES"]

_FILTERS: Final = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_PRUNE_FILTERS: Final = frozenset({"label", "label!", "until"})
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_./ -]*")


async def _list(call: Call) -> web.StreamResponse:
    networks = call.engine.networks.list(call.query.filters(_FILTERS))
    return json_response([network_view(one) for one in networks])


async def _inspect(call: Call) -> web.StreamResponse:
    # "verbose" adds the services of a swarm, of which there are none.
    call.query.boolean("verbose")
    network = call.engine.networks.get(call.name)
    if call.query.text("scope") not in {"", "local"}:
        raise NotFound(f"network {call.name} not found")
    return json_response(network_view(network, call.engine.networks.containers_of(network)))


async def _create(call: Call) -> web.StreamResponse:
    fields = await read_fields(call.request)
    name = fields.text("Name")
    if _NAME.fullmatch(name) is None or name.strip() != name:
        raise InvalidRequest(f"invalid network name: {name}")
    if fields.text("Scope") not in {"", "local"} or fields.boolean("Ingress"):
        raise InvalidRequest(f"invalid network {name}: only the scope 'local' is offered")
    if fields.boolean("ConfigOnly") or fields.object("ConfigFrom").text("Network"):
        raise InvalidRequest(f"invalid network {name}: configuration networks are not supported")
    if not fields.boolean("EnableIPv4", default=True):
        raise InvalidRequest(f"invalid network {name}: IPv4 cannot be disabled")
    network = await call.engine.networks.create(
        name,
        driver=fields.text("Driver"),
        internal=fields.boolean("Internal"),
        ipv6=fields.boolean("EnableIPv6"),
        attachable=fields.boolean("Attachable"),
        subnets=parse_ipam(fields.object("IPAM")),
        auxiliary=parse_auxiliary(fields.object("IPAM")),
        options=fields.string_map("Options"),
        labels=fields.string_map("Labels"),
    )
    return created({"Id": network.id, "Warning": ""})


async def _remove(call: Call) -> web.StreamResponse:
    await call.engine.networks.remove(call.name)
    return no_content()


async def _connect(call: Call) -> web.StreamResponse:
    fields = await read_fields(call.request)
    endpoint = parse_endpoint(fields.object("EndpointConfig"))
    await call.engine.networks.connect(call.name, _container(fields.text("Container")), endpoint)
    return web.Response()


async def _disconnect(call: Call) -> web.StreamResponse:
    fields = await read_fields(call.request)
    await call.engine.networks.disconnect(
        call.name, _container(fields.text("Container")), force=fields.boolean("Force")
    )
    return web.Response()


def _container(name: str) -> str:
    if not name:
        raise InvalidRequest("Container must not be empty")
    return name


async def _prune(call: Call) -> web.StreamResponse:
    result = await call.engine.networks.prune(call.query.filters(_PRUNE_FILTERS))
    return json_response({"NetworksDeleted": list(result.deleted) or None})


ROUTES: Final = (
    Route("GET", "/networks", _list),
    Route("POST", "/networks/create", _create),
    Route("POST", "/networks/prune", _prune),
    Route("GET", "/networks/{name}", _inspect),
    Route("DELETE", "/networks/{name}", _remove),
    Route("POST", "/networks/{name}/connect", _connect),
    Route("POST", "/networks/{name}/disconnect", _disconnect),
)
