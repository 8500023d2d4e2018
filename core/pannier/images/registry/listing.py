"""A registry's listings: pages of tags or repositories, and searches."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin

import urllib3

from pannier.errors import Forbidden, ImageInvalid, InvalidRequest, NotFound
from pannier.images.reference import DEFAULT_DOMAIN
from pannier.images.registry.auth import ANONYMOUS, Credentials
from pannier.images.registry.cancelling import Cancellation
from pannier.images.registry.refusals import RegistryError
from pannier.images.registry.transport import Request, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pannier.images.registry.settings import RegistryOptions

__all__ = ["SearchQuery", "SearchResult", "check_access", "pages", "read_document", "search"]

_LIST_LIMIT = 16 << 20
_PAGES = 1000
_TRIES = 4
_PAUSE = 0.25
_MOST = 100
_USUAL = 25
_DOCKER_SEARCH = "index.docker.io"


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is searched for.

    :param term: words, with a registry's host before them for another than the default one.
    :param limit: how many results at most; 0 is the usual number.
    :param official: only official images, or only others; None for both.
    :param automated: likewise, of images that the registry itself built.
    :param stars: how many stars a result has at least.
    """

    term: str
    limit: int = 0
    official: bool | None = None
    automated: bool | None = None
    stars: int = 0

    def accepts(self, result: SearchResult) -> bool:
        """Whether the filters let a result through."""
        return (
            self.official in (None, result.official)
            and self.automated in (None, result.automated)
            and result.stars >= self.stars
        )


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A repository that was found."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False
    automated: bool = False


def search(
    options: RegistryOptions,
    query: SearchQuery,
    credentials: Credentials = ANONYMOUS,
    cancellation: Cancellation | None = None,
) -> list[SearchResult]:
    """Search a registry: by its search API where it has one, else in its catalog.

    :raises Cancelled: it was given up.
    :raises InvalidRequest: the limit is out of range.
    :raises RegistryError: the registry cannot be reached, or offers neither.
    """
    if not 0 <= query.limit <= _MOST:
        raise InvalidRequest(f"limit {query.limit} is outside the range of [1, {_MOST}]")
    first, slash, rest = query.term.partition("/")
    host, term = DEFAULT_DOMAIN, query.term
    if slash and (first == "localhost" or "." in first or ":" in first):
        host, term = first, rest
    official = host == DEFAULT_DOMAIN
    endpoint = options.endpoint(_DOCKER_SEARCH) if official else options.endpoints(host)[-1]
    limit = query.limit or _USUAL
    cancellation = cancellation or Cancellation()
    transport = Transport(endpoint, options, credentials, any_server=True)
    try:
        found = _by_api(transport, term, limit, cancellation)
        if found is None:
            found = _in_catalog(transport, term, cancellation)
    finally:
        transport.close()
    prefix = "" if official else f"{host}/"
    return [
        SearchResult(prefix + one.name, one.description, one.stars, one.official, one.automated)
        for one in found
        if query.accepts(one)
    ][:limit]


def _by_api(
    transport: Transport, term: str, limit: int, cancellation: Cancellation
) -> list[SearchResult] | None:
    query = urlencode({"q": term, "n": limit})
    url = urljoin(transport.url("", cancellation), f"/v1/search?{query}")
    with contextlib.suppress(NotFound, Forbidden, RegistryError):
        request = Request("GET", url, cancellation=cancellation)
        raw, _ = read_document(transport, request, _LIST_LIMIT, "the search's answer")
        document = _parse(raw, transport)
        if isinstance(document.get("results"), list):
            return [_result(item) for item in document["results"] if isinstance(item, dict)]
    return None


def _result(item: dict[str, Any]) -> SearchResult:
    stars = item.get("star_count")
    return SearchResult(
        str(item.get("name", "")),
        str(item.get("description") or ""),
        stars if isinstance(stars, int) else 0,
        bool(item.get("is_official")),
        bool(item.get("is_automated")),
    )


def _in_catalog(transport: Transport, term: str, cancellation: Cancellation) -> list[SearchResult]:
    try:
        return [
            SearchResult(name)
            for page in pages(transport, "_catalog?n=1000", "registry:catalog:*", cancellation)
            for name in page.get("repositories") or []
            if isinstance(name, str) and term in name
        ]
    except NotFound as error:
        raise RegistryError(
            f"{transport.endpoint.host} cannot be searched: it has neither a search API nor a "
            f"catalog",
            http_status=HTTPStatus.NOT_FOUND,
        ) from error


def check_access(
    options: RegistryOptions,
    registry: str,
    credentials: Credentials,
    cancellation: Cancellation | None = None,
) -> None:
    """Find out whether a registry accepts credentials.

    :param registry: its host and port.
    :raises Cancelled: it was given up.
    :raises AccessDenied: it does not.
    :raises RegistryError: it cannot be reached.
    """
    transport = Transport(options.endpoints(registry)[-1], options, credentials)
    try:
        request = Request("GET", "", cancellation=cancellation or Cancellation())
        with transport.request(request):
            return
    finally:
        transport.close()


def pages(
    transport: Transport, path: str, scope: str, cancellation: Cancellation
) -> Iterator[dict[str, Any]]:
    """Yield each page of a listing, following its Link headers (RFC 8288)."""
    for _ in range(_PAGES):
        request = Request("GET", path, scope, cancellation=cancellation)
        raw, headers = read_document(transport, request, _LIST_LIMIT, "the listing")
        link = headers.get("Link", "")
        yield _parse(raw, transport)
        target = link.partition("<")[2].partition(">")[0]
        if 'rel="next"' not in link or not target:
            return
        path = urljoin(transport.url(path, cancellation), target)


def _parse(raw: bytes, transport: Transport) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise RegistryError(f"{transport.endpoint.host} sent a broken listing") from error
    return document if isinstance(document, dict) else {}


def read_document(
    transport: Transport, request: Request, limit: int, what: str
) -> tuple[bytes, Mapping[str, str]]:
    """Return a small body, asked for again where it breaks off, with the answer's headers.

    :raises ImageInvalid: it is larger than *limit* bytes.
    :raises RegistryError: as :meth:`Transport.request`, or it breaks off time and again.
    """
    for attempt in range(1, _TRIES + 1):
        with transport.request(request) as response:
            try:
                return _read(response, limit, what), response.headers
            except (urllib3.exceptions.HTTPError, OSError) as error:
                request.cancellation.check()  # it may be what broke the connection
                if attempt == _TRIES:
                    raise RegistryError(
                        f"{transport.endpoint.host} broke off within {what}: {error}"
                    ) from error
        request.cancellation.pause(_PAUSE * attempt)
    raise AssertionError("the last attempt returns or raises")


def _read(response: urllib3.BaseHTTPResponse, limit: int, what: str) -> bytes:
    raw = b""
    while len(raw) <= limit:
        data = response.read(limit + 1 - len(raw))
        if not data:
            return raw
        raw += data
    raise ImageInvalid(f"{what} is larger than {limit >> 20} MiB")
