"""What a single host does not have: Docker's own answers for swarm and plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pannier.errors import NotFound, UnsupportedOperation
from pannier.server.call import Route
from pannier.server.errors import Unavailable
from pannier.server.respond import json_response

if TYPE_CHECKING:
    from aiohttp import web

    from pannier.server.call import Call

__all__ = ["ROUTES", "no_manager"]


def no_manager() -> Unavailable:
    """Return Docker's answer of a node that manages no swarm."""
    return Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to '
        "connect this node to swarm and try again.",
        hint="Pannier runs containers on one host; there is no swarm",
    )


async def _no_swarm(_call: Call) -> web.StreamResponse:
    raise no_manager()


async def _not_in_swarm(_call: Call) -> web.StreamResponse:
    raise Unavailable("This node is not part of a swarm")


async def _swarm_unsupported(_call: Call) -> web.StreamResponse:
    raise UnsupportedOperation("swarm is not supported", hint="Pannier runs containers on one host")


async def _no_plugins(_call: Call) -> web.StreamResponse:
    return json_response([])


async def _no_such_plugin(call: Call) -> web.StreamResponse:
    raise NotFound(f'plugin "{call.name}" not found')


async def _plugins_unsupported(_call: Call) -> web.StreamResponse:
    raise UnsupportedOperation(
        "plugins in containers are not supported",
        hint="Pannier's own plugins are Python packages: see `pannier drivers`",
    )


async def _session(_call: Call) -> web.StreamResponse:
    raise UnsupportedOperation("BuildKit sessions are not supported", hint="set DOCKER_BUILDKIT=0")


def _manager_routes() -> list[Route]:
    routes = [
        Route("GET", "/swarm", _no_swarm),
        Route("GET", "/swarm/unlockkey", _no_swarm),
        Route("POST", "/swarm/update", _no_swarm),
        Route("POST", "/swarm/unlock", _no_swarm),
        Route("POST", "/swarm/leave", _not_in_swarm),
        Route("POST", "/swarm/init", _swarm_unsupported),
        Route("POST", "/swarm/join", _swarm_unsupported),
        # Volumes of a cluster are the only ones that can be updated.
        Route("PUT", "/volumes/{name}", _no_swarm),
        Route("GET", "/services/{name}/logs", _no_swarm),
        Route("GET", "/tasks/{name}/logs", _no_swarm),
    ]
    for kind in ("nodes", "services", "tasks", "secrets", "configs"):
        routes += [
            Route("GET", f"/{kind}", _no_swarm),
            Route("GET", f"/{kind}/{{name}}", _no_swarm),
        ]
        if kind != "tasks":
            routes += [
                Route("POST", f"/{kind}/{{name}}/update", _no_swarm),
                Route("DELETE", f"/{kind}/{{name}}", _no_swarm),
            ]
        if kind in {"services", "secrets", "configs"}:
            routes.append(Route("POST", f"/{kind}/create", _no_swarm))
    return routes


ROUTES: Final = (
    *_manager_routes(),
    Route("GET", "/plugins", _no_plugins),
    Route("GET", "/plugins/privileges", _plugins_unsupported),
    Route("POST", "/plugins/pull", _plugins_unsupported),
    Route("POST", "/plugins/create", _plugins_unsupported),
    Route("GET", "/plugins/{name}/json", _no_such_plugin, slashes=True),
    Route("DELETE", "/plugins/{name}", _no_such_plugin, slashes=True),
    Route("POST", "/plugins/{name}/enable", _no_such_plugin, slashes=True),
    Route("POST", "/plugins/{name}/disable", _no_such_plugin, slashes=True),
    Route("POST", "/plugins/{name}/upgrade", _no_such_plugin, slashes=True),
    Route("POST", "/plugins/{name}/push", _no_such_plugin, slashes=True),
    Route("POST", "/plugins/{name}/set", _no_such_plugin, slashes=True),
    Route("POST", "/session", _session),
)
