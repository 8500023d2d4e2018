"""The client: kept connections, versions, errors, uploads, hijacked streams."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pannier.client import Address, APIError, Client, ConnectionFailed, ProtocolError
from pannier.client.api import quote

if TYPE_CHECKING:
    from pathlib import Path


def test_one_connection_carries_many_requests(daemon: Any, client: Client) -> None:
    """A connection is used again once its answer was read."""
    daemon.reply("GET", "/a", {"n": 1})
    daemon.reply("POST", "/b", {"n": 2})
    assert [client.get("/a"), client.post("/b", None, {"x": 1}), client.get("/a")] == [
        {"n": 1},
        {"n": 2},
        {"n": 1},
    ]
    assert daemon.connections == 1


def test_our_own_daemon_is_asked_at_once(daemon: Any, client: Client) -> None:
    """Against our own socket there is no round trip to agree on a version."""
    daemon.reply("GET", "/info", {})
    client.get("/info")
    assert [one.target for one in daemon.requests] == ["/v1.51/info"]


def _old(daemon: Any, path: str) -> None:
    def answer(request: Any) -> None:
        if request.target.startswith("/v1.51"):
            message = "client version 1.51 is too new. Maximum supported API version is 1.41"
            request.answer(400, {"message": message})
        else:
            request.answer(200, {"got": request.body.decode()})

    daemon.on("POST", path, answer)
    daemon.on("HEAD", path, answer)
    daemon.on("GET", "/_ping", lambda request: request.answer(200, b"OK", {"Api-Version": "1.41"}))


def test_an_older_daemon_is_met_half_way(daemon: Any) -> None:
    """A daemon that finds the version too new is asked for its own, and the request repeated."""
    _old(daemon, "/x")
    client = Client(Address(path=str(daemon.path)))
    assert client.post("/x", None, {"a": 1}) == {"got": '{"a":1}'}
    assert [one.target for one in daemon.requests] == ["/v1.51/x", "/_ping", "/v1.41/x"]
    client.post("/x", None, {})
    assert len(daemon.requests) == 4
    client.close()


def test_an_answer_without_a_body_can_mean_an_older_daemon(daemon: Any) -> None:
    """A refused HEAD says no reason; the version is agreed on and it is asked again."""
    _old(daemon, "/x")
    client = Client(Address(path=str(daemon.path)))
    answer = client.request("HEAD", "/x")
    assert (answer.status, answer.read()) == (200, b"")
    client.close()


def test_a_stream_is_not_sent_twice(daemon: Any) -> None:
    """The version is agreed on before an upload, which cannot be repeated."""
    _old(daemon, "/x")
    client = Client(Address(path=str(daemon.path)))
    answer = client.request("POST", "/x", upload=iter([b"one", b"", b"two"]))
    assert answer.json() == {"got": "onetwo"}
    assert [one.target for one in daemon.requests] == ["/_ping", "/v1.41/x"]
    client.close()


def test_errors_carry_the_daemons_words(daemon: Any, client: Client) -> None:
    """The status, the message and the hint arrive as a typed error."""
    daemon.reply("GET", "/x", {"message": "No such container: x", "hint": "look"}, 404)
    with pytest.raises(APIError) as caught:
        client.get("/x")
    assert (caught.value.code, str(caught.value), caught.value.hint) == (
        404,
        "No such container: x",
        "look",
    )


def test_a_file_is_uploaded_with_its_length(daemon: Any, client: Client, tmp_path: Path) -> None:
    """A regular file goes from where it stands to its end, its length announced."""
    path = tmp_path / "f"
    path.write_bytes(bytes(range(256)) * 5000)
    daemon.reply("POST", "/x", {})
    descriptor = os.open(path, os.O_RDONLY)
    os.lseek(descriptor, 100, os.SEEK_SET)
    client.request("POST", "/x", upload=descriptor).read()
    os.close(descriptor)
    [request] = daemon.requests
    assert request.headers["content-length"] == str(256 * 5000 - 100)
    assert request.body == path.read_bytes()[100:]


def test_a_refusal_during_an_upload_is_heard(daemon: Any, tmp_path: Path) -> None:
    """A daemon that answers and closes early is quoted, not replaced by a broken pipe."""
    del tmp_path

    import socket as sockets  # noqa: PLC0415 - a server of its own

    path = f"{daemon.path}2"
    listener = sockets.socket(sockets.AF_UNIX)
    listener.bind(path)
    listener.listen()
    client = Client(Address(path=path, explicit=False))
    accepted: list[sockets.socket] = []

    def pieces() -> Any:
        yield b"x" * 1000
        server, _ = listener.accept()
        accepted.append(server)
        server.recv(100)
        server.sendall(b'HTTP/1.1 400 X\r\nContent-Length: 23\r\n\r\n{"message":"no thanks"}')
        server.shutdown(sockets.SHUT_RD)
        yield b"y" * 100
        yield from (b"z" * 100_000 for _ in range(100))

    with pytest.raises(APIError, match="no thanks"):
        client.request("POST", "/x", upload=pieces())
    client.close()
    for sock in (listener, *accepted):
        sock.close()


def test_hijacked_streams_keep_what_came_early(daemon: Any, client: Client, frame: Any) -> None:
    """Output that came with the answer's head is not lost, and half-close lets the rest come."""

    def attach(request: Any) -> None:
        request.sock.sendall(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream"
            b"\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + frame(1, b"early")
        )
        request.sock.sendall(frame(1, request.read_input()))

    daemon.on("POST", "/containers/x/attach", attach)
    stream = client.hijack("/containers/x/attach", query={"stream": True})
    stream.sock.sendall(b"input")
    stream.close_write()
    data = stream.leftover
    while piece := stream.sock.recv(100):
        data += piece
    stream.close()
    assert stream.multiplexed is True
    assert data == frame(1, b"early") + frame(1, b"input")


def test_a_refused_hijack_is_an_error(daemon: Any, client: Client) -> None:
    """An error instead of the upgrade is the daemon's own."""
    daemon.on("POST", "/x", lambda request: request.answer(409, {"message": "not running"}))
    with pytest.raises(APIError, match="not running"):
        client.hijack("/x")


def test_deferred_requests_answer_later(daemon: Any, client: Client) -> None:
    """A request may wait on its own connection while others go on."""
    import threading  # noqa: PLC0415 - for one event

    go = threading.Event()

    def wait(request: Any) -> None:
        request.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        go.wait(10)
        request.sock.sendall(b'10\r\n{"StatusCode":3}\r\n0\r\n\r\n')

    daemon.on("POST", "/containers/x/wait", wait)

    def answer(request: Any) -> None:
        go.set()
        request.answer(204)

    daemon.on("POST", "/go", answer)
    deferred = client.defer("POST", "/containers/x/wait")
    deferred.accepted(5)
    client.post("/go")
    assert deferred.json() == {"StatusCode": 3}
    deferred.close()


def test_a_kept_connection_that_went_stale_is_replaced(daemon: Any, client: Client) -> None:
    """A daemon may close an idle connection; reading again is harmless."""

    def answer(request: Any) -> None:
        request.answer(200, {"n": len(daemon.requests)})
        if len(daemon.requests) == 1:
            request.sock.shutdown(2)

    daemon.on("GET", "/x", answer)
    assert client.get("/x") == {"n": 1}
    assert client.get("/x") == {"n": 2}
    assert daemon.connections == 2


def test_a_lost_connection_is_a_clear_error(daemon: Any, client: Client) -> None:
    """A daemon that dies in the middle of an answer is named as the cause."""

    def die(request: Any) -> None:
        request.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        request.sock.shutdown(2)

    daemon.on("GET", "/x", die)
    with pytest.raises(ProtocolError, match="closed the connection"):
        client.get("/x")


def test_nobody_there_is_a_clear_error(tmp_path: Path) -> None:
    """No daemon: the address and what to do."""
    client = Client(Address(path=str(tmp_path / "none")))
    with pytest.raises(ConnectionFailed, match="none") as caught:
        client.get("/x")
    assert "pannier daemon" in str(caught.value.hint)


def test_a_daemon_is_started_once(daemon: Any, tmp_path: Path) -> None:
    """Where nobody answers, the starter is asked once, and the request goes to who answers then."""
    daemon.reply("GET", "/x", {"ok": True})
    link = tmp_path / "later"
    calls: list[int] = []

    def start() -> bool:
        calls.append(1)
        link.symlink_to(daemon.path)
        return True

    client = Client(Address(path=str(link), explicit=False), on_refused=start)
    assert client.get("/x") == {"ok": True}
    client.close()
    failing = Client(Address(path=str(tmp_path / "never")), on_refused=lambda: True)
    with pytest.raises(ConnectionFailed):
        failing.get("/x")
    assert calls == [1]


def test_queries_are_encoded(daemon: Any, client: Client) -> None:
    """Lists repeat, objects become JSON, switches are 1, None is left out."""
    daemon.reply("GET", "/x", {})
    client.get("/x", {"a": ["1", "2 3"], "f": {"k": {"v": True}}, "on": True, "no": None})
    assert (
        daemon.requests[0].query == "a=1&a=2%203&f=%7B%22k%22%3A%20%7B%22v%22%3A%20true%7D%7D&on=1"
    )


def test_a_name_cannot_leave_its_path() -> None:
    """Slashes, question marks and line breaks of a name are encoded."""
    assert quote("../x?y#z\r\n") == "..%2Fx%3Fy%23z%0D%0A"
