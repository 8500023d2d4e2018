"""Finds the handler of a path, with or without the version prefix, in two dictionary look-ups.

A general router tries patterns one after another; the API's paths are regular enough for less.
A route's path is either literal, or has one ``{name}`` between a literal head and a literal tail.
Names of images hold slashes, so the tail is looked for from the end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pannier.errors import InvalidRequest
from pannier.server.call import API_VERSION, MIN_API_VERSION
from pannier.server.errors import PageNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.server.call import Route

__all__ = ["Router", "split_version"]

_VERSION: Final = re.compile(r"/v(\d{1,4})(?:\.(\d{1,4}))?(?=/)")


def split_version(path: str) -> tuple[tuple[int, int], str]:
    """Take the version prefix off a path; without one the client speaks the newest.

    :raises InvalidRequest: the version is not spoken here.
    """
    match = _VERSION.match(path)
    if match is None:
        return API_VERSION, path
    version = (int(match[1]), int(match[2] or 0))
    if MIN_API_VERSION <= version <= API_VERSION:
        return version, path[match.end() :]
    text = match[1] if match[2] is None else f"{match[1]}.{match[2]}"
    if version < MIN_API_VERSION:
        raise InvalidRequest(
            f"client version {text} is too old. Minimum supported API version is "
            f"{_dotted(MIN_API_VERSION)}, please upgrade your client to a newer version"
        )
    raise InvalidRequest(
        f"client version {text} is too new. Maximum supported API version is "
        f"{_dotted(API_VERSION)}",
        hint=f"set DOCKER_API_VERSION={_dotted(API_VERSION)}",
    )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


class Router:
    """The routes of the API."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._literal: dict[tuple[str, str], Route] = {}
        self._named: dict[tuple[str, str, str], Route] = {}
        for route in routes:
            head, brace, tail = route.path.partition("{name}")
            key = (route.method, head, tail)
            if not brace:
                self._literal[route.method, route.path] = route
            elif key in self._named:
                raise ValueError(f"two routes for {route.method} {route.path}")
            else:
                self._named[key] = route
        self._heads = sorted({head for _, head, _ in self._named}, key=len, reverse=True)

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """Return the route of a path without its version, and the name in it.

        :raises PageNotFound: there is none.
        """
        route = self._literal.get((method, path))
        if route is not None:
            return route, ""
        for head in self._heads:
            if path.startswith(head):
                return self._find_named(method, head, path[len(head) :])
        raise PageNotFound

    def _find_named(self, method: str, head: str, rest: str) -> tuple[Route, str]:
        # A doubled slash ("/containers//name/json") is how some clients write Docker's "/name".
        rest = rest.lstrip("/")
        slash = rest.rfind("/")
        while slash > 0:
            route = self._named.get((method, head, rest[slash:]))
            if route is not None and _fits(route, rest[:slash]):
                return route, rest[:slash]
            slash = rest.rfind("/", 0, slash)
        route = self._named.get((method, head, ""))
        if route is not None and rest and _fits(route, rest):
            return route, rest
        raise PageNotFound


def _fits(route: Route, name: str) -> bool:
    return route.slashes or "/" not in name
