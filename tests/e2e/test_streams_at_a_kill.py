"""Streams while the daemon is killed: a client gets an end, not a hang."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING

import pytest

from support.agreement import disagreements, settled
from support.images import Entry, image, layer, tar
from support.registry import FaultyRegistry, Stall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

SECONDS = 10.0
UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
SHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
ENDING = {
    "events": ("GET", "/events", ""),
    "logs": ("GET", "/containers/box/logs?follow=1&stdout=1&stderr=1", ""),
    "stats": ("GET", "/containers/box/stats", ""),
    "wait": ("POST", "/containers/box/wait?condition=next-exit", ""),
    "wait for a removal": ("POST", "/containers/box/wait?condition=removed", ""),
    "a stop": ("POST", "/containers/stubborn/stop?t=1000", ""),
    "a restart": ("POST", "/containers/stubborn2/restart?t=1000", ""),
    "an upload": ("PUT", "/containers/box/archive?path=/tmp", "Transfer-Encoding: chunked\r\n"),
    "a load": ("POST", "/images/load", "Transfer-Encoding: chunked\r\n"),
    "an import": ("POST", "/images/create?fromSrc=-", "Transfer-Encoding: chunked\r\n"),
    "a build": ("POST", "/build", "Transfer-Encoding: chunked\r\n"),
    "a websocket": (
        "GET",
        "/containers/box/attach/ws?stream=1&stdout=1",
        SHAKE,
    ),
}
"""Streams that the daemon itself serves."""


@contextlib.contextmanager
def _asked(daemon: Daemon, method: str, path: str, headers: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        client.connect(str(daemon.socket))
        client.sendall(f"{method} /v1.51{path} HTTP/1.1\r\nHost: d\r\n{headers}\r\n".encode())
        yield client


LARGE = {
    "a download": "/containers/box/archive?path=/bin",
    "an export": "/containers/box/export",
    "a save": "/images/busybox/get",
    "a save of several": "/images/get?names=busybox&names=busybox:latest",
}
"""Answers that are larger than what the kernel holds for a client that does not read."""


def _to_the_end(client: socket.socket) -> bytes:
    """Read until the end.

    :raises TimeoutError: it does not come.
    """
    data = b""
    deadline = time.monotonic() + SECONDS
    with contextlib.suppress(ConnectionError):  # also an end
        while chunk := client.recv(65536):
            data += chunk
            if time.monotonic() > deadline:
                raise TimeoutError
    return data


def test_streams_of_the_daemon_end_with_it(own_daemon: Daemon) -> None:
    """Whatever a client waits for; and the next daemon serves the same streams again."""
    own_daemon.cli("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo hi; sleep 1000")
    for name in ("stubborn", "stubborn2"):  # whose first process takes no SIGTERM
        own_daemon.cli("run", "-d", "--name", name, "busybox", "sleep", "1000")
    with contextlib.ExitStack() as stack:
        clients = {
            name: stack.enter_context(_asked(own_daemon, *request))
            for name, request in ENDING.items()
        }
        # These have begun for certain; of the others the daemon may still be reading the request.
        for name in ("logs", "stats", "wait", "wait for a removal", "a websocket"):
            assert clients[name].recv(12) == (
                b"HTTP/1.1 101" if name == "a websocket" else b"HTTP/1.1 200"
            )
        own_daemon.kill()
        for client in clients.values():
            _to_the_end(client)
    own_daemon.start()
    # A restart that was under way is gone on with; a stop that was not acknowledged may be.
    own_daemon.cli("rm", "-f", "stubborn", "stubborn2")
    with _asked(own_daemon, *ENDING["logs"]) as client:
        assert client.recv(12) == b"HTTP/1.1 200"


def test_an_archive_that_was_cut_is_seen_to_be(own_daemon: Daemon) -> None:
    """A copy, an export and a save end without the last chunk, which says that all is there."""
    own_daemon.cli("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    with contextlib.ExitStack() as stack:
        clients = {
            name: stack.enter_context(_asked(own_daemon, "GET", path, ""))
            for name, path in LARGE.items()
        }
        for client in clients.values():
            assert client.recv(12) == b"HTTP/1.1 200"
        own_daemon.kill()
        ends = {name: _to_the_end(client) for name, client in clients.items()}
    assert [name for name, data in ends.items() if data.endswith(b"\r\n0\r\n\r\n")] == []
    own_daemon.start()
    for path in LARGE.values():
        with _asked(own_daemon, "GET", path, "Connection: close\r\n") as client:
            assert _to_the_end(client).endswith(b"\r\n0\r\n\r\n")
    assert settled(lambda: disagreements(own_daemon)) == []


@pytest.fixture
def registry(own_daemon: Daemon) -> Iterator[FaultyRegistry]:
    """Return a registry on the daemon's loopback."""
    with own_daemon.inside():
        made = FaultyRegistry()
    yield made
    made.close()


def test_a_pull_that_was_cut_begins_again(own_daemon: Daemon, registry: FaultyRegistry) -> None:
    """Its client gets an end without a success; nothing half is listed, and it can be repeated."""
    registry.put(image([layer({"f": bytes(1 << 20)})]))
    reference = f"{registry.host}/a/b:1"
    stall = registry.faults.stall = Stall()
    with _asked(
        own_daemon, "POST", f"/images/create?fromImage={reference}", "Content-Length: 0\r\n"
    ) as client:
        assert stall.begun.wait(SECONDS)
        own_daemon.kill()
        told = _to_the_end(client)
    stall.set()
    assert b"Downloaded newer image" not in told
    assert b"Status: " not in told
    own_daemon.start()
    assert own_daemon.cli("images", "-q", reference).stdout == ""
    registry.faults.stall = None
    assert "Downloaded newer image" in own_daemon.cli("pull", reference).stdout


def test_a_push_that_was_cut_begins_again(own_daemon: Daemon, registry: FaultyRegistry) -> None:
    """Its client gets an end without a digest, and it can be repeated."""
    reference = f"{registry.host}/a/b"
    own_daemon.cli("tag", "busybox", f"{reference}:1")
    registry.faults.on = "(PATCH|PUT) .*/blobs/"
    stall = registry.faults.stall = Stall()
    headers = "Content-Length: 0\r\nX-Registry-Auth: e30=\r\n"
    with _asked(own_daemon, "POST", f"/images/{reference}/push?tag=1", headers) as client:
        assert stall.begun.wait(SECONDS)
        own_daemon.kill()
        assert b"digest: " not in _to_the_end(client)
    stall.set()
    own_daemon.start()
    registry.faults.stall = None
    assert "digest: sha256:" in own_daemon.cli("push", f"{reference}:1").stdout


def test_a_build_that_was_cut_leaves_nothing_running(own_daemon: Daemon) -> None:
    """Its client gets an end without a success; the next daemon ends the step and builds anew."""
    context = tar([Entry("Dockerfile", b"FROM busybox\nRUN echo begun; sleep 1000\n")])
    headers = f"Content-Type: application/x-tar\r\nContent-Length: {len(context)}\r\n"
    with _asked(own_daemon, "POST", "/build?t=cut:1", headers) as client:
        client.sendall(context)
        told = b""
        while b"begun\\n" not in told:
            piece = client.recv(4096)
            assert piece, told
            told += piece
        own_daemon.kill()
        assert b"Successfully" not in _to_the_end(client)
    own_daemon.start()
    assert own_daemon.cli("ps", "-aq").stdout == ""
    assert settled(lambda: disagreements(own_daemon)) == []
    assert own_daemon.cli("images", "-q", "cut").stdout == ""
    own_daemon.cli("build", "-t", "cut:1", "-", input="FROM busybox\nRUN echo again\n")


@pytest.mark.parametrize("what", ["attach", "exec"])
@pytest.mark.parametrize("tty", [False, True], ids=["frames", "tty"])
def test_streams_of_processes_go_on(own_daemon: Daemon, what: str, tty: bool) -> None:
    """They are served beside the daemon, and end with their process."""
    own_daemon.cli("run", "-d", "-it" if tty else "-i", "--name", "box", "busybox", "cat")
    path, body = "/containers/box/attach?stream=1&stdin=1&stdout=1", ""
    if what == "exec":
        import docker  # noqa: PLC0415 - only this one needs it

        maker = docker.APIClient(base_url=own_daemon.host, version="1.43")
        path = f"/exec/{maker.exec_create('box', ['cat'], stdin=True, tty=tty)['Id']}/start"
        body = json.dumps({"Tty": tty})
        maker.close()
    headers = f"{UPGRADE}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with _asked(own_daemon, "POST", path, headers) as client:
        client.sendall(body.encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.recv(4096)
        data = data.partition(b"\r\n\r\n")[2]
        # A terminal repeats what is typed, and has no frames.
        read, end = (_typed, b"\r\n") if tty else (_frame, b"\n")
        client.sendall(b"before\n")
        assert read(client, data) == b"before" + end
        own_daemon.kill()
        client.sendall(b"after\n")
        assert read(client, b"") == b"after" + end
        own_daemon.start()
        own_daemon.cli("rm", "-f", "box")
        assert _to_the_end(client) == b""


def test_an_exec_outlives_what_is_known_of_it(own_daemon: Daemon) -> None:
    """The next daemon knows no exec of its predecessor's, as dockerd; it goes on to its end."""
    import docker  # noqa: PLC0415 - only here and above

    own_daemon.cli("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    maker = docker.APIClient(base_url=own_daemon.host, version="1.43")
    id = maker.exec_create("box", ["cat"], stdin=True, tty=True)["Id"]
    body = json.dumps({"Tty": True})
    headers = f"{UPGRADE}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with _asked(own_daemon, "POST", f"/exec/{id}/start", headers) as client:
        client.sendall(body.encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.recv(4096)
        client.sendall(b"before\n")
        assert _typed(client, data.partition(b"\r\n\r\n")[2]) == b"before\r\n"
        own_daemon.kill()
        own_daemon.start()
        for method, what in (("POST", "resize?h=20&w=40"), ("GET", "json")):
            with _asked(own_daemon, method, f"/exec/{id}/{what}", "Connection: close\r\n") as asker:
                answer = _to_the_end(asker)
            assert answer.startswith(b"HTTP/1.1 404")
            assert f"No such exec instance: {id}".encode() in answer
        client.sendall(b"after\n")
        assert _typed(client, b"") == b"after\r\n"
        client.sendall(b"\x04")  # the end of a terminal's input, to its process
        assert _to_the_end(client) == b""
    maker.close()
    assert own_daemon.inspect("box")["State"]["Running"]
    assert own_daemon.cli("exec", "box", "echo", "on").stdout == "on\n"


def _typed(client: socket.socket, data: bytes) -> bytes:
    """Read a line's echo, and then the line."""
    while data.count(b"\n") < 2:
        piece = client.recv(4096)
        assert piece, "the stream has ended"
        data += piece
    echo, _, line = data.partition(b"\n")
    assert echo + b"\n" == line
    return line


def _frame(client: socket.socket, data: bytes) -> bytes:
    while len(data) < 8 or len(data) < 8 + int.from_bytes(data[4:8], "big"):
        piece = client.recv(4096)
        assert piece, "the stream has ended"
        data += piece
    return data[8:]
