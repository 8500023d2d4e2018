from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from support.api_server import serving
from support.fake_engine import as_engine

if TYPE_CHECKING:
    from pathlib import Path

    from support.api_server import ApiServer
    from support.fake_engine import FakeEngine, FakeShim

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


def send(server: ApiServer, request: str, body: str = "", more: bytes = b"") -> socket.socket:
    """Send a request as it stands, and perhaps bytes behind it at once."""
    connection = server.connect()
    head = f"{request}Host: d\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    connection.sendall(head.encode() + more)
    return connection


def read_head(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    """Read an answer's head; return its status line, headers, and what came behind."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return lines[0], headers, rest


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def wait_attached(server: ApiServer, shim: FakeShim) -> socket.socket:
    """Wait until a client has been handed over, and return the shim's side of it."""
    server.run(shim.attached.wait())
    connection = shim.connections[-1]
    connection.settimeout(60)
    return connection


@pytest.fixture
def shim(engine: FakeEngine, running: str) -> FakeShim:
    """Return the shim of the running container."""
    return engine.containers.shims[running]


class TestAttach:
    """Attaching to a container."""

    def test_bytes_flow_both_ways(self, server: ApiServer, shim: FakeShim) -> None:
        """After the head, the client speaks with the shim and with nobody else."""
        with send(
            server, f"POST /containers/web/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\n{UPGRADE}"
        ) as client:
            status, headers, rest = read_head(client)
            assert status == "HTTP/1.1 101 UPGRADED"
            assert headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
            assert headers["Upgrade"] == "tcp"
            assert headers["Api-Version"] == "1.51"
            assert rest == b""
            side = wait_attached(server, shim)
            client.sendall(b"to the process")
            assert side.recv(100) == b"to the process"
            side.sendall(b"from the process")
            assert client.recv(100) == b"from the process"
            side.close()
            assert client.recv(100) == b""

    def test_half_close_reaches_the_shim(self, server: ApiServer, shim: FakeShim) -> None:
        """The end of the client's input is passed on while output goes on."""
        with send(
            server, f"POST /containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\n{UPGRADE}"
        ) as client:
            read_head(client)
            side = wait_attached(server, shim)
            client.sendall(b"last")
            client.shutdown(socket.SHUT_WR)
            assert read_all(side) == b"last"
            side.sendall(b"answer")
            side.close()
            assert read_all(client) == b"answer"

    def test_early_half_close_is_survived(self, server: ApiServer, shim: FakeShim) -> None:
        """A client that ends its input right behind its request is attached all the same."""
        with send(
            server,
            f"POST /containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\n{UPGRADE}",
            more=b"all there is",
        ) as client:
            client.shutdown(socket.SHUT_WR)
            read_head(client)
            side = wait_attached(server, shim)
            assert [*shim.pending, read_all(side)] == [b"all there is", b""]
            side.sendall(b"out")
            side.close()
            assert read_all(client) == b"out"

    def test_input_sent_with_the_request_is_kept(self, server: ApiServer, shim: FakeShim) -> None:
        """Bytes right behind the request are no HTTP: they are handed over as pending."""
        early = b"POST / HTTP/1.1\r\n\r\n\x00\xff not http"
        with send(
            server,
            f"POST /v1.41/containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\n{UPGRADE}",
            more=early,
        ) as client:
            read_head(client)
            side = wait_attached(server, shim)
            assert shim.pending == [early]
            client.sendall(b"more")
            assert side.recv(10) == b"more"

    def test_large_streams_pass_untouched(self, server: ApiServer, shim: FakeShim) -> None:
        """Some megabytes arrive whole."""
        data = bytes(range(256)) * 4096 * 4
        with send(
            server, f"POST /containers/web/attach?stream=1&stdout=1 HTTP/1.1\r\n{UPGRADE}"
        ) as client:
            read_head(client)
            side = wait_attached(server, shim)

            def feed() -> None:
                side.sendall(data)
                side.close()

            import threading  # noqa: PLC0415

            thread = threading.Thread(target=feed)
            thread.start()
            assert read_all(client) == data
            thread.join()

    def test_without_upgrade_the_status_is_200(self, server: ApiServer, shim: FakeShim) -> None:
        """Clients that ask for no upgrade get the stream as the body of a plain answer."""
        with send(
            server, "POST /v1.41/containers/web/attach?stream=1&stdout=1 HTTP/1.1\r\n"
        ) as client:
            status, headers, _ = read_head(client)
            assert status == "HTTP/1.1 200 OK"
            assert headers["Content-Type"] == "application/vnd.docker.raw-stream"
            assert "Content-Length" not in headers
            wait_attached(server, shim).close()
            shim.connections.clear()

    def test_options_are_passed(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """What to attach, replay and detach with are the engine's business."""
        with send(
            server,
            "POST /containers/web/attach?logs=1&stream=1&stderr=1&detachKeys=ctrl-x,q HTTP/1.1\r\n",
        ) as client:
            read_head(client)
            server.run(engine.containers.shims[running].attached.wait())
        options = engine.containers.calls[-1][1]
        assert (options.logs, options.stream, options.stdin) == (True, True, False)
        assert (options.stdout, options.stderr, options.detach_keys) == (False, True, "ctrl-x,q")

    def test_refusals_are_plain_answers(self, server: ApiServer, running: str) -> None:
        """What can be refused is refused before the connection is taken over."""
        assert running
        missing = server.post("/containers/nope/attach?stream=1")
        assert (missing.status, missing.message) == (404, "No such container: nope")
        keys = server.post("/containers/web/attach?stream=1&detachKeys=zzz")
        assert (keys.status, keys.message) == (400, "Invalid detach keys (zzz) provided")

    def test_connection_goes_on_after_a_refusal(self, server: ApiServer, running: str) -> None:
        """A request that follows a refused attach on the same connection is answered."""
        assert running
        with send(
            server,
            f"POST /containers/nope/attach?stream=1 HTTP/1.1\r\n{UPGRADE}",
            more=b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n",
        ) as client:
            status, headers, rest = read_head(client)
            assert status.startswith("HTTP/1.1 404")
            while len(rest) < int(headers["Content-Length"]):
                rest += client.recv(65536)
            rest = rest[int(headers["Content-Length"]) :]
            while not rest.endswith(b"OK"):
                piece = client.recv(65536)
                assert piece
                rest += piece
            assert rest.startswith(b"HTTP/1.1 200 OK")

    def test_works_behind_a_plain_site(self, engine: FakeEngine, tmp_path: Path) -> None:
        """Without the server's own connections the hand-over works, too."""
        with serving(as_engine(engine), tmp_path, plain=True) as server:
            server.post("/containers/create?name=web", {"Image": "busybox"})
            server.post("/containers/web/start")
            shim = engine.containers.shims[engine.containers.get("web").id]
            with send(
                server, f"POST /containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\n{UPGRADE}"
            ) as client:
                read_head(client)
                side = wait_attached(server, shim)
                client.sendall(b"in")
                assert side.recv(10) == b"in"
                side.sendall(b"out")
                assert client.recv(10) == b"out"


class TestWebsocket:
    """Attaching through a websocket."""

    def test_needs_the_protocol(self, server: ApiServer, running: str) -> None:
        """A plain request is told what it lacks."""
        assert running
        answer = server.get("/containers/web/attach/ws?stream=1")
        assert (answer.status, answer.message) == (400, "not websocket protocol")


class TestExecStart:
    """Starting an exec."""

    def create(self, server: ApiServer, *args: str, **fields: object) -> str:
        body = {"Cmd": list(args), "AttachStdout": True, "AttachStderr": True, **fields}
        answer = server.post("/containers/web/exec", body)
        assert answer.status == 201
        id = answer.json["Id"]
        assert isinstance(id, str)
        return id

    def start(self, server: ApiServer, id: str, body: str = "{}") -> socket.socket:
        request = f"POST /exec/{id}/start HTTP/1.1\r\nContent-Type: application/json\r\n{UPGRADE}"
        return send(server, request, body)

    def test_streams_and_exit_code(
        self, server: ApiServer, engine: FakeEngine, running: str
    ) -> None:
        """The client speaks with the process; its exit code is there when the stream has ended."""
        assert running
        id = self.create(server, "cat", AttachStdin=True)
        with self.start(server, id) as client:
            status, headers, _ = read_head(client)
            assert status == "HTTP/1.1 101 UPGRADED"
            assert headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
            side = wait_attached(server, engine.execs.shim)
            client.sendall(b"x")
            assert side.recv(5) == b"x"
            side.sendall(b"\x01\0\0\0\0\0\0\x02hi")
            server.call(engine.execs.finish, id, 3)
            assert read_all(client) == b"\x01\0\0\0\0\0\0\x02hi"
        inspected = server.get(f"/exec/{id}/json").json
        assert (inspected["ExitCode"], inspected["Running"]) == (3, False)
        connection = engine.execs.calls[0][-1]
        assert (connection.stdin, connection.stdout, connection.stderr) == (True, True, True)

    def test_a_terminal_is_raw(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """With a terminal there is no framing, and the detach keys apply."""
        assert running
        id = self.create(server, "sh", Tty=True)
        with self.start(server, id, '{"Tty": true, "ConsoleSize": [24, 80]}') as client:
            _, headers, _ = read_head(client)
            assert headers["Content-Type"] == "application/vnd.docker.raw-stream"
            wait_attached(server, engine.execs.shim)
        _, detach, _, size, connection = engine.execs.calls[0]
        assert (detach, size) == (False, (24, 80))
        assert connection.detach_keys == b"\x10\x11"
        assert connection.framed is False

    def test_frames_are_for_the_start_to_ask(
        self, server: ApiServer, engine: FakeEngine, running: str
    ) -> None:
        """docker-py starts an exec with a terminal without saying so, and reads frames."""
        assert running
        id = self.create(server, "sh", Tty=True)
        with self.start(server, id) as client:
            _, headers, _ = read_head(client)
            assert headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
            wait_attached(server, engine.execs.shim)
        connection = engine.execs.calls[0][-1]
        assert (connection.framed, connection.detach_keys) == (True, b"\x10\x11")

    def test_who_attaches_to_nothing_has_an_end_at_once(
        self, server: ApiServer, engine: FakeEngine, running: str
    ) -> None:
        """The exec runs on without its client."""
        assert running
        id = self.create(server, "cat", AttachStdout=False, AttachStderr=False)
        with self.start(server, id) as client:
            status, _, rest = read_head(client)
            assert status == "HTTP/1.1 101 UPGRADED"
            assert rest + read_all(client) == b""
        assert engine.execs.calls[0][1] is True
        assert server.get(f"/exec/{id}/json").json["Running"] is True

    def test_detach_keys_are_shown_as_bytes(self, server: ApiServer, running: str) -> None:
        """In base64, as Docker has them; malformed ones are refused in its words."""
        assert running
        for keys, shown in (("", ""), ("ctrl-a,b", "AWI="), ("ctrl-@", "AA==")):
            id = self.create(server, "cat", DetachKeys=keys)
            assert server.get(f"/exec/{id}/json").json["DetachKeys"] == shown
        answer = server.post("/containers/web/exec", {"Cmd": ["cat"], "DetachKeys": "ctrl-A"})
        assert (answer.status, answer.message) == (400, "Invalid escape keys (ctrl-A) provided")

    def test_what_cannot_execute_is_told_in_the_stream(
        self, server: ApiServer, running: str
    ) -> None:
        """The head is out by then, so the error comes as output; the exit code says 127."""
        assert running
        id = self.create(server, "nope")
        with self.start(server, id) as client:
            status, _, rest = read_head(client)
            assert status == "HTTP/1.1 101 UPGRADED"
            data = rest + read_all(client)
        assert data[:4] == b"\x02\0\0\0"
        assert int.from_bytes(data[4:8], "big") == len(data) - 8
        assert b'exec: "nope": executable file not found in $PATH: unknown\r\n' in data
        assert server.get(f"/exec/{id}/json").json["ExitCode"] == 127

    def test_detached(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """A detached start answers when the process runs; one that cannot run is an error."""
        assert running
        answer = server.post(f"/exec/{self.create(server, 'true')}/start", {"Detach": True})
        assert (answer.status, answer.body) == (200, b"")
        assert engine.execs.calls[0][1] is True
        failed = server.post(f"/exec/{self.create(server, 'nope')}/start", {"Detach": True})
        assert failed.status == 400
        assert "executable file not found in $PATH" in failed.message

    def test_only_once(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """An exec that has run is not run again."""
        assert running
        id = self.create(server, "true")
        server.post(f"/exec/{id}/start", {"Detach": True})
        server.call(engine.execs.finish, id, 0)
        again = server.post(f"/exec/{id}/start", {})
        assert (again.status, again.message) == (
            409,
            f"Error: Exec command {id} has already run",
        )

    def test_needs_a_body_that_is_json(self, server: ApiServer, running: str) -> None:
        """A malformed body is refused before anything happens."""
        assert running
        id = self.create(server, "true")
        answer = server.request(
            "POST", f"/exec/{id}/start", b"{x}", headers={"Content-Type": "application/json"}
        )
        assert answer.status == 400
        assert answer.message.startswith("invalid JSON")
        assert server.get(f"/exec/{id}/json").json["ExitCode"] is None
