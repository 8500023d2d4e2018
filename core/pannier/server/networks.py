"""Networks, and which containers are on them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pannier.errors import Forbidden, InvalidRequest, NotFound, UnsupportedOperation
from pannier.server.absent import no_manager
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
    scope, config_only = fields.text("Scope"), fields.boolean("ConfigOnly")
    swarms = scope == "swarm" or fields.boolean("Ingress")
    if config_only and (scope or swarms):
        raise Forbidden(
            "configuration network can only contain network specific fields. Network operator "
            "fields like [ ingress | internal | attachable | scope ] are not supported."
        )
    if swarms:
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    if scope not in {"", "local"}:
        raise no_manager()
    if not fields.boolean("EnableIPv4", default=True):
        raise UnsupportedOperation(
            f"network {name}: IPv4 cannot be disabled", hint="leave out --ipv4=false"
        )
    ipv6, ipam = fields.boolean("EnableIPv6"), fields.object("IPAM")
    network = await call.engine.networks.create(
        name,
        driver=fields.text("Driver"),
        internal=fields.boolean("Internal"),
        ipv6=ipv6,
        attachable=fields.boolean("Attachable"),
        subnets=parse_ipam(ipam, ipv6=ipv6),
        auxiliary=parse_auxiliary(ipam),
        options=fields.string_map("Options"),
        labels=fields.string_map("Labels"),
        config_only=config_only,
        config_from=fields.object("ConfigFrom").text("Network"),
    )
    unused = ", ".join(one.subnet for one in network.unused_subnets)
    warning = f"The subnet {unused} is not used: the network has no IPv6." if unused else ""
    return created({"Id": network.id, "Warning": "" if config_only else warning})


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
