"""What a handler is given: the request, taken apart as far as all handlers need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.server.parse.query import Query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp import web

    from pannier.build.service import Builder
    from pannier.engine.engine import Engine
    from pannier.server.identity import Identity
    from pannier.server.views.summary import SummaryCache

__all__ = ["API_VERSION", "MIN_API_VERSION", "Call", "Route", "Services"]

API_VERSION: Final = (1, 51)
MIN_API_VERSION: Final = (1, 24)


@dataclass(frozen=True, slots=True)
class Services:
    """What the handlers work with.

    :param headers: what every answer carries.
    :param drivers: returns the rows of ``GET /pannier/drivers``.
    :param loads: returns the calls of ``GET /pannier/drivers/trace``.
    """

    engine: Engine
    identity: Identity
    headers: Mapping[str, str]
    drivers: Callable[[], list[dict[str, object]]]
    summaries: SummaryCache
    builder: Builder | None = None
    loads: Callable[[], list[dict[str, object]]] = list


class Call:
    """One request.

    :param name: what stood at the ``{name}`` of the route's path; else empty.
    :param version: the API version that the client speaks.
    """

    __slots__ = ("_query", "engine", "name", "request", "services", "version")

    def __init__(
        self, request: web.Request, services: Services, name: str, version: tuple[int, int]
    ) -> None:
        self.request = request
        self.services = services
        self.engine = services.engine
        self.name = name
        self.version = version
        self._query: Query | None = None

    @property
    def query(self) -> Query:
        """The parameters behind the question mark."""
        if self._query is None:
            self._query = Query(self.request.rel_url.query)
        return self._query


@dataclass(frozen=True, slots=True)
class Route:
    """An operation of the API.

    :param path: ``/containers/{name}/json``; a name holds no slash, unless *slashes* allows it.
    :param stream: the answer may take for ever: the handler is cancelled when its client goes.
        Other handlers run to their end, so that no change is left half done.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[web.StreamResponse]]
    stream: bool = False
    slashes: bool = False
