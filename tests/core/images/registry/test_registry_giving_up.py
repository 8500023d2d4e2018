"""Giving up what a registry does not answer: at once, wherever it waits."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.images.registry import client
from pannier.images.registry.auth import Credentials
from pannier.images.registry.cancelling import Cancellation, Cancelled
from pannier.images.registry.listing import SearchQuery, check_access, search
from support.images import docker_archive, image
from support.registry import PASSWORD, USER, Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.images import BuiltImage
    from support.registry import FaultyRegistry
    from support.registry_rig import Rig

JO = Credentials(USER, PASSWORD)
_SOON = 15.0
"""Seconds, in which something ends that would take much longer by itself."""


@pytest.fixture
def hanging(registry: FaultyRegistry) -> Iterator[FaultyRegistry]:
    """Return a registry that leaves requests without an answer, once a test says which."""
    registry.faults = Faults(hang=threading.Event())
    yield registry
    assert registry.faults.hang is not None
    registry.faults.hang.set()


def given_up(work: Callable[[Cancellation], object], begun: Callable[[], object]) -> None:
    """Check that *work* ends soon once it is given up, which is when *begun* returns."""
    cancellation = Cancellation()
    ends: list[BaseException | None] = []

    def run() -> None:
        try:
            work(cancellation)
            ends.append(None)
        except BaseException as error:  # noqa: BLE001 - told below
            ends.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun()
    cancellation.cancel()
    thread.join(_SOON)
    assert not thread.is_alive()
    assert [type(end) for end in ends] == [Cancelled]


@pytest.mark.parametrize("on", ["GET /v2/$", "GET /token", "GET .*/manifests/", "GET .*/blobs/"])
def test_a_pull(hanging: FaultyRegistry, rig: Rig, small: BuiltImage, on: str) -> None:
    """Whatever it waits for: the registry, a token, a manifest, a layer."""
    hanging.put(small)
    hanging.auth = "bearer"
    hanging.faults.on = on
    name = f"{hanging.host}/a/b:1"
    given_up(
        lambda cancellation: rig.puller.pull(
            rig.request(name, credentials=JO, cancellation=cancellation)
        ),
        lambda: hanging.hanging.wait(_SOON),
    )


@pytest.mark.parametrize(
    "on",
    ["HEAD ", "POST .*/uploads/", "PUT .*/uploads/", "PUT .*/manifests/", "(PUT|DELETE) .*/up"],
)
def test_a_push(
    hanging: FaultyRegistry, rig: Rig, small: BuiltImage, on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the registry takes nothing more, or does not let us say goodbye."""
    monkeypatch.setattr(client, "_FAREWELL_SECONDS", 0.1)
    name = f"{hanging.host}/t/x:1"
    list(rig.store.load(io.BytesIO(docker_archive([image(small.layers, tags=[name])]))))
    hanging.faults.on = on
    given_up(
        lambda cancellation: rig.pusher.push(rig.request(name, cancellation=cancellation)),
        lambda: hanging.hanging.wait(_SOON),
    )


def test_a_search_and_a_log_in(hanging: FaultyRegistry, rig: Rig) -> None:
    """What is only asked."""
    hanging.faults.on = "GET "
    query = SearchQuery(f"{hanging.host}/x")
    given_up(
        lambda cancellation: search(rig.options, query, JO, cancellation),
        lambda: hanging.hanging.wait(_SOON),
    )
    hanging.hanging.clear()
    given_up(
        lambda cancellation: check_access(rig.options, hanging.host, JO, cancellation),
        lambda: hanging.hanging.wait(_SOON),
    )


def test_a_handshake(rig: Rig) -> None:
    """Of a server that is connected to, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as stack:

        def begun() -> bool:
            connection, _ = server.accept()
            stack.enter_context(connection)
            return bool(connection.recv(1))

        host = f"127.0.0.1:{server.getsockname()[1]}"
        given_up(
            lambda cancellation: rig.puller.pull(
                rig.request(f"{host}/a/b:1", cancellation=cancellation)
            ),
            begun,
        )


def test_a_connection_that_is_not_made(rig: Rig) -> None:
    """The server's queue is full: it takes nobody in."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        contextlib.ExitStack() as stack,
    ):
        port = server.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        before = _connecting(port)

        def begun() -> bool:
            while _connecting(port) <= before:
                threading.Event().wait(0.005)  # nothing else says that a connection is waited for
            return True

        given_up(
            lambda cancellation: rig.puller.pull(
                rig.request(f"127.0.0.1:{port}/a/b:1", cancellation=cancellation)
            ),
            begun,
        )


def _connecting(port: int) -> int:
    """Return how many connections to a port are asked for and not answered (SYN_SENT)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(one[2].endswith(f":{port:04X}") and one[3] == "02" for one in fields)
