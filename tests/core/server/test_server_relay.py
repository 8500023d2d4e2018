"""Where a socket cannot be handed over, its bytes are relayed: websockets, and TLS."""

from __future__ import annotations

import asyncio
import os
import queue
import socket
from typing import TYPE_CHECKING, Any

import aiohttp

from pannier.server.relay import relay

if TYPE_CHECKING:
    from support.api_server import ApiServer
    from support.fake_engine import FakeEngine


MUCH = 8 << 20


class TestWebsocket:
    """Attaching through a websocket."""

    def test_both_ways(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """Messages are the connection's bytes; the end of output closes the websocket.

        As with Docker, that is asked for with ``stream``; else there is only the log.
        """
        shim = engine.containers.shims[running]

        async def client() -> None:
            connector = aiohttp.UnixConnector(server.path)
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.ws_connect(
                    "http://d/v1.51/containers/web/attach/ws?stream=1&stdin=1&stdout=1"
                ) as websocket,
            ):
                await asyncio.to_thread(server.run, shim.attached.wait())
                side = shim.connections[0]
                side.settimeout(60)
                await websocket.send_bytes(b"binary ")
                await websocket.send_str("text")
                data = b""
                while len(data) < 11:
                    data += await asyncio.to_thread(side.recv, 100)
                assert data == b"binary text"
                await asyncio.to_thread(side.sendall, b"output")
                assert await websocket.receive_bytes() == b"output"
                side.close()
                message = await websocket.receive()
                assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}

        asyncio.run(client())
        options = engine.containers.calls[-1][1]
        assert (options.stream, options.raw) == (True, True)

    def test_a_long_log_is_read_while_it_is_replayed(
        self, server: ApiServer, engine: FakeEngine, running: str
    ) -> None:
        """More than sockets hold; and where the client goes meanwhile, the replay ends, too."""
        assert running
        ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        async def attach(_: str, __: object, descriptor: int, ___: bytes) -> None:
            def replay() -> None:
                with socket.socket(fileno=os.dup(descriptor)) as target:
                    target.setblocking(True)
                    target.sendall(bytes(MUCH))

            try:
                await asyncio.to_thread(replay)
            except OSError as error:
                ended.put(error)
                raise
            ended.put(None)

        engine.containers.attach = attach  # type: ignore[method-assign, assignment]

        async def client(wanted: int) -> None:
            connector = aiohttp.UnixConnector(server.path)
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.ws_connect("http://d/containers/web/attach/ws?logs=1") as websocket,
            ):
                while wanted > 0:
                    wanted -= len(await websocket.receive_bytes())

        asyncio.run(client(MUCH))
        asyncio.run(client(1))
        assert ended.get(timeout=60) is None
        assert isinstance(ended.get(timeout=60), BrokenPipeError | ConnectionResetError)

    def test_streams_are_chosen_since_api_1_42(
        self, server: ApiServer, engine: FakeEngine, running: str
    ) -> None:
        """Clients of older versions have all of them, whatever they ask for."""
        shim = engine.containers.shims[running]

        async def client(version: str) -> None:
            connector = aiohttp.UnixConnector(server.path)
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.ws_connect(
                    f"http://d/v{version}/containers/web/attach/ws?stream=1&stdout=1"
                ),
            ):
                await asyncio.to_thread(server.run, shim.attached.wait())

        for version, wanted in (("1.41", (True, True, True)), ("1.42", (False, True, False))):
            asyncio.run(client(version))
            options = engine.containers.calls[-1][1]
            assert (options.stdin, options.stdout, options.stderr) == wanted

    def test_output_is_text_before_api_1_28(
        self, server: ApiServer, engine: FakeEngine, running: str
    ) -> None:
        """A character that comes in two pieces is whole; what is none is replaced."""
        shim = engine.containers.shims[running]

        async def client() -> str:
            connector = aiohttp.UnixConnector(server.path)
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.ws_connect("http://d/v1.27/containers/web/attach/ws?stream=1") as websocket,
            ):
                await asyncio.to_thread(server.run, shim.attached.wait())
                side = shim.connections[0]
                side.sendall(b"1\xc3")
                text = await websocket.receive_str()
                side.sendall(b"\xa4\xff2")
                side.close()
                while not text.endswith("2"):
                    text += await websocket.receive_str()
                return text

        assert asyncio.run(client()) == "1\u00e4\ufffd2"

    def test_a_client_that_goes(self, server: ApiServer, engine: FakeEngine, running: str) -> None:
        """The process's side sees the end of its input."""
        shim = engine.containers.shims[running]

        async def client() -> None:
            connector = aiohttp.UnixConnector(server.path)
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.ws_connect("http://d/containers/web/attach/ws?stdin=1") as websocket,
            ):
                await asyncio.to_thread(server.run, shim.attached.wait())
                await websocket.close()

        asyncio.run(client())
        side = shim.connections[0]
        side.settimeout(60)
        assert side.recv(10) == b""

    def test_refusals(self, server: ApiServer) -> None:
        """What is not there is told before the websocket is made."""
        answer = server.get("/containers/nope/attach/ws")
        assert (answer.status, answer.message) == (404, "No such container: nope")


class TestRelay:
    """The relay itself, between a transport and a local socket."""

    @staticmethod
    def relayed(scenario: Any) -> None:
        """Run a scenario with the outer ends of a relay: the client's and the process's."""

        async def main() -> None:
            client, outer = socket.socketpair()
            mine, process = socket.socketpair()
            for one in (client, outer, mine, process):
                one.setblocking(False)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, outer)
            # As the server does before it takes a connection over.
            transport.pause_reading()
            running = asyncio.ensure_future(relay(transport, mine))
            try:
                async with asyncio.timeout(10):
                    await scenario(loop, client, process, running)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                for one in (client, mine, process):
                    one.close()
                await asyncio.sleep(0)

        asyncio.run(main())

    def test_half_close_is_passed_on(self) -> None:
        """Input may end while output goes on."""

        async def scenario(
            loop: asyncio.AbstractEventLoop,
            client: socket.socket,
            process: socket.socket,
            running: asyncio.Future[None],
        ) -> None:
            await loop.sock_sendall(client, b"in")
            assert await loop.sock_recv(process, 10) == b"in"
            client.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(process, 10) == b""
            await loop.sock_sendall(process, b"out")
            assert await loop.sock_recv(client, 10) == b"out"
            process.close()
            assert await loop.sock_recv(client, 10) == b""
            await running

        self.relayed(scenario)

    def test_neither_side_is_buffered_without_bound(self) -> None:
        """Megabytes pass, though both sides read slowly."""
        data = bytes(range(256)) * 16384

        async def receive(loop: asyncio.AbstractEventLoop, one: socket.socket) -> bytes:
            received = bytearray()
            while len(received) < len(data):
                received += await loop.sock_recv(one, 50_000)
            return bytes(received)

        async def scenario(
            loop: asyncio.AbstractEventLoop,
            client: socket.socket,
            process: socket.socket,
            running: asyncio.Future[None],
        ) -> None:
            assert not running.done()
            sending = [
                asyncio.ensure_future(loop.sock_sendall(client, data)),
                asyncio.ensure_future(loop.sock_sendall(process, data)),
            ]
            # Nobody reads yet: what is sent must stop where buffers end.
            done, _ = await asyncio.wait(sending, timeout=0.3)
            assert done == set()
            assert await receive(loop, process) == data
            assert await receive(loop, client) == data
            await asyncio.gather(*sending)

        self.relayed(scenario)
