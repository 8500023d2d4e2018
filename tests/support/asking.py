"""One call of a comparison of engines, and what calls are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from support.registry import PASSWORD, USER

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LOGIN", "OPEN", "PRIVATE", "SEARCHED", "UNASKED", "WRONG_LOGIN", "Ask", "filters"]

OPEN = "127.0.0.1:5000"
"""A registry that lets everyone in; beside the engine, on its own loopback, as the others."""
PRIVATE = "127.0.0.1:5001"
"""A registry that wants a user and a password."""
SEARCHED = "127.0.0.1:5002"
"""An index that knows Docker's search API."""

LOGIN = {"username": USER, "password": PASSWORD, "serveraddress": PRIVATE}
WRONG_LOGIN = LOGIN | {"password": "wrong"}


@dataclass(frozen=True)
class Ask:
    """A call.

    :param path: with ``{NAME}`` for what an earlier answer was kept under.
    :param body: JSON, or bytes as they are.
    :param keep: a name to keep a field of the answer under.
    :param kept: the path to that field.
    :param first: only the first line of an answer without end is read.
    :param auth: what the client logs in with at a registry.
    :param upgrade: the protocol to change to; what comes then is the answer.
    :param send: what the client sends once the protocol is another.
    """

    name: str
    method: str
    path: str
    body: Any = None
    keep: str = ""
    kept: str = "Id"
    first: bool = False
    auth: Mapping[str, str] | None = None
    upgrade: str = ""
    send: bytes = b""


UNASKED: Final[Mapping[tuple[str, str], str]] = {
    ("PUT", "/volumes/{name}"): "dockerd 20.10 does not know it: it came with API 1.42",
    ("POST", "/session"): "of BuildKit, which the engine is not: it is spoken over HTTP/2",
    ("POST", "/swarm/init"): "a dockerd would become a swarm, which Pannier does not know",
    ("POST", "/swarm/join"): "likewise",
    ("GET", "/plugins/privileges"): "of plugins in containers, which dockerd would install",
    ("POST", "/plugins/pull"): "likewise",
    ("POST", "/plugins/create"): "likewise",
    ("POST", "/plugins/{name}/upgrade"): "likewise",
}
"""The operations of the specification that no call is about, and why."""


def filters(**filters: str) -> str:
    """Return filters as a query has them."""
    return quote(json.dumps({name: [value] for name, value in filters.items()}))
