"""The shapes of an engine's answers to a sequence of calls: statuses, types, names of fields.

The same calls are made to Pannier and to a real dockerd 20.10. What that one answered is recorded,
for machines that have none::

    cd tests && python -m support.answers > e2e/golden/answers_20_10.json
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.asking import OPEN, PRIVATE, SEARCHED
from support.asks_containers import CONTAINERS
from support.asks_host import ABSENT, FIRST, PLACES
from support.asks_images import IMAGES
from support.asks_transfers import TRANSFERS
from support.dockerd import running_dockerd
from support.registries import registry_beside, search_index_beside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.asking import Ask

__all__ = ["ASKS", "Shapes", "answers"]

Shapes = dict[str, dict[str, str]]
"""By call: the types that each field of the answer has, and its status, as ``status``.

Of streams also what came (``stream``), and of calls that make events of images those, with their
attributes (``events of images``). Each kind of event has an entry of its own.
"""

ASKS = (*FIRST, *IMAGES, *TRANSFERS, *PLACES, *CONTAINERS, *ABSENT)

_TIMEOUT = 60.0
_VERSION = "v1.41"  # the newest of dockerd 20.10
_STREAMS = frozenset(
    ["application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"]
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MULTIPLEXED = re.compile(rb"[\0-\2]\0\0\0")


def _shape(value: Any, where: str = "$") -> dict[str, set[str]]:
    """Return the types of each field; the items of a list stand together."""
    found = {where: {type(value).__name__}}
    parts: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        # Keys that are names of things are all alike.
        parts = [
            (f"{where}.{'*' if len(key) == 64 or '/' in key else key}", item)
            for key, item in value.items()
        ]
    elif isinstance(value, list):
        parts = [(f"{where}[]", item) for item in value]
    for name, item in parts:
        for path, kinds in _shape(item, name).items():
            found.setdefault(path, set()).update(kinds)
    return found


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


_HEADERS = ("Api-Version", "Content-Type", "Docker-Experimental", "Builder-Version", "Ostype",
            "Cache-Control", "Pragma", "Server", "X-Docker-Container-Path-Stat")  # fmt: skip


def _sent(ask: Ask) -> tuple[bytes | None, dict[str, str]]:
    """Return the body and the headers of a call."""
    raw = isinstance(ask.body, bytes)
    data = ask.body if raw or ask.body is None else json.dumps(ask.body).encode()
    archive = raw and ask.path != "/auth" and "/containers/create" not in ask.path
    headers = {"Content-Type": "application/x-tar" if archive else "application/json"}
    if ask.auth is not None or "/push" in ask.path:
        login = json.dumps(dict(ask.auth or {})).encode()
        headers["X-Registry-Auth"] = base64.urlsafe_b64encode(login).decode()
    if ask.upgrade:
        headers |= {"Connection": "Upgrade", "Upgrade": ask.upgrade}
    if ask.upgrade == "websocket":
        headers |= {
            "Origin": "http://docker",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        }
    return data, headers


def _received(connection: _Connection, response: http.client.HTTPResponse, ask: Ask) -> bytes:
    if ask.first:
        return response.readline()
    if response.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
        return response.read()
    with contextlib.suppress(OSError):  # who was left has gone
        connection.sock.sendall(ask.send)
        if ask.upgrade != "websocket":
            connection.sock.shutdown(socket.SHUT_WR)
    return response.fp.read()


def _answer(socket_path: str, ask: Ask, kept: dict[str, str]) -> dict[str, str]:
    path = ask.path
    for key, known in kept.items():
        path = path.replace(f"{{{key}}}", known)
    with contextlib.closing(_Connection(socket_path)) as connection:
        connection.request(ask.method, f"/{_VERSION}{path}", *_sent(ask))
        response = connection.getresponse()
        body = _received(connection, response, ask)
    found = {"status": str(response.status)}
    for name in _HEADERS:
        value = response.headers.get(name)
        if value is not None:
            # Which one, only where clients act on it.
            found[f"header {name}"] = value if name in {"Content-Type", "Ostype"} else "there"
    stat = response.headers.get("X-Docker-Container-Path-Stat")
    if stat is not None:
        found |= _typed(json.loads(base64.b64decode(stat)), "$stat")
    # dockerd says of some streams, and of events, not what they are.
    kind = response.headers.get("Content-Type", "")
    if ask.upgrade or kind in _STREAMS or _MULTIPLEXED.match(body):
        return found | {"stream": _stream(body, ask)}
    values = _values(body)
    if values:
        found |= _typed(values[0] if len(values) == 1 else values, "$")
        if ask.keep:
            item = values[0]
            for word in ask.kept.split("."):
                item = item[word]
            kept[ask.keep] = item
    return found


def _stream(body: bytes, ask: Ask) -> str:
    """Return what came, by stream where these are told apart."""
    if ask.upgrade == "websocket":
        return _frames(body)
    found: dict[int, bytes] = {}
    rest = body
    while _MULTIPLEXED.match(rest):
        size = int.from_bytes(rest[4:8], "big")
        found[rest[0]] = found.get(rest[0], b"") + rest[8 : 8 + size]
        rest = rest[8 + size :]
    parts = [f"{number}: {text!r}" for number, text in sorted(found.items())]
    return ", ".join(parts + ([repr(rest)] if rest else []))


def _frames(body: bytes) -> str:
    """Return what a web socket's frames of each kind have (RFC 6455, 5.2), which all are short.

    Which lines share a frame, and which comes first, is chance.
    """
    found: dict[int, bytes] = {}
    while body:
        size = body[1]
        found[body[0]] = found.get(body[0], b"") + body[2 : 2 + size]
        body = body[2 + size :]
    return ", ".join(
        f"{kind:x}: {b''.join(sorted(data.splitlines(keepends=True)))!r}"
        for kind, data in sorted(found.items())
    )


def _values(body: bytes) -> list[Any]:
    """Return the lines of JSON of a body; none where it is something else."""
    if not body.startswith((b"{", b"[")):
        return []
    found = [json.loads(line) for line in body.splitlines() if line.strip()]
    # How far something is, is told as often as there is time: whether at all is chance.
    return [item for item in found if not isinstance(item, dict) or "progress" not in item]


def _typed(value: Any, where: str) -> dict[str, str]:
    return {path: "|".join(sorted(kinds)) for path, kinds in _shape(value, where).items()}


def _events(socket_path: str, since: int, until: int) -> list[dict[str, Any]]:
    """Return the events between two times, in nanoseconds."""
    begin, end = (f"{when // 10**9}.{when % 10**9:09}" for when in (since, until))
    with contextlib.closing(_Connection(socket_path)) as connection:
        connection.request("GET", f"/{_VERSION}/events?since={begin}&until={end}")
        return [json.loads(line) for line in connection.getresponse().read().splitlines()]


def _event_shapes(events: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, str]]]:
    by_name: dict[str, list[Any]] = {}
    for event in events:
        by_name.setdefault(f"event {event['Type']} {event['Action']}", []).append(event)
    for name, several in by_name.items():
        # Each event stands for all of its kind.
        yield name, _typed(several, "$")


def _told(events: list[dict[str, Any]]) -> str:
    """Return the actions and attributes of events, in an order that is always the same."""
    found = []
    for event in events:
        actor = event["Actor"]
        words = (f"{key}={value}" for key, value in sorted(actor["Attributes"].items()))
        found.append(_DIGEST.sub("<id>", " ".join([event["Action"], actor["ID"], *words])))
    return "; ".join(sorted(found))


def answers(socket_path: str, pid: int) -> Shapes:
    """Make every call, in order; return the shapes of the answers and of the events meanwhile.

    :param pid: the engine's process, in whose network namespace there will be registries.
    """
    kept: dict[str, str] = {}
    found: Shapes = {}
    events: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asked-")))
        ports = (int(host.partition(":")[2]) for host in (OPEN, PRIVATE, SEARCHED))
        stack.enter_context(registry_beside(pid, folder / "open", next(ports)))
        stack.enter_context(registry_beside(pid, folder / "private", next(ports), private=True))
        stack.enter_context(search_index_beside(pid, next(ports)))
        begin = time.time_ns()
        for ask in ASKS:
            found[ask.name] = _answer(socket_path, ask, kept)
            # At once, since dockerd remembers but the last 256.
            end = time.time_ns()
            own = _events(socket_path, begin, end)
            begin = end + 1
            if told := _told([event for event in own if event["Type"] == "image"]):
                found[ask.name]["events of images"] = told
            events += own
    events += _events(socket_path, begin, time.time_ns() + 10**8)
    return found | dict(_event_shapes(events))


if __name__ == "__main__":
    with running_dockerd() as daemon:
        recorded = answers(f"{daemon.folder}/s", daemon.pid)
    sys.stdout.write(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
