"""The server in network namespaces: who is answered, who is asked, and who is kept out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING, TypeVar

import pytest

from pannier.dns.message import NAME_ERROR, SERVER_FAILURE, A, Record, answer, code_of, parse_query
from pannier.dns.server import DNSServer
from pannier.dns.sockets import ADDRESS, adopt_sockets, open_sockets
from pannier.dns.upstream import Upstream, parse_upstreams
from pannier.errors import DriverError
from pannier.linux.namespaces import CLONE_NEWNET, in_network_namespace, unshare
from pannier.linux.netlink import NetlinkError
from support.dns import FakeZone, addresses_in, ask_tcp, ask_udp, query, serving
from support.isolation import in_new_network

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

pytestmark = pytest.mark.root

T = TypeVar("T")
INSIDE = Upstream("127.0.0.1")
HOST = Upstream("127.0.0.1", from_host=True)


class Inside:
    """A network namespace with nothing in it, and what is done there."""

    def __init__(self) -> None:
        self.netns = -1
        thread = threading.Thread(target=self._make)
        thread.start()
        thread.join()

    def _make(self) -> None:
        unshare(CLONE_NEWNET)
        self.netns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    async def do(self, work: Callable[[], T]) -> T:
        """Do something there, on a thread, while the event loop goes on."""

        def run() -> T:
            with in_network_namespace(self.netns):
                return work()

        return await asyncio.to_thread(run)


@contextlib.contextmanager
def served(zone: FakeZone) -> Iterator[Inside]:
    """Give a namespace that is served."""
    inside = Inside()
    server = DNSServer(open_sockets(inside.netns), zone)
    try:
        yield inside
    finally:
        server.close()
        os.close(inside.netns)


def zone(*servers: Upstream) -> FakeZone:
    """Return a zone with one name."""
    return FakeZone({"db": ["192.0.2.7"]}, servers=list(servers))


def run(test: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run a test in a network of its own, so that also what goes wrong stays there."""
    in_new_network(test)


def found(address: str) -> Callable[[bytes, bool], bytes]:
    """Return the replies of a server that knows one address for every name."""

    def reply(data: bytes, _: bool) -> bytes:
        return answer(parse_query(data), [Record.address(address, 9)])

    return reply


def test_names_are_answered_over_udp_and_tcp() -> None:
    """At port 53 of 127.0.0.11."""

    async def test() -> None:
        with served(zone()) as inside:
            for ask in (ask_udp, ask_tcp):
                response = await inside.do(lambda ask=ask: ask(query("db", A)))  # type: ignore[misc]
                assert addresses_in(response) == ["192.0.2.7"]

    run(test)


def test_several_questions_on_one_connection() -> None:
    """One after another, and a client that hangs up half way is no matter."""

    def converse() -> list[str]:
        received = []
        with socket.create_connection((ADDRESS, 53), 5) as client, client.makefile("rb") as stream:
            for _ in range(3):
                data = query("db", A)
                client.sendall(struct.pack(">H", len(data)))
                client.sendall(data)
                (length,) = struct.unpack(">H", stream.read(2))
                received += addresses_in(stream.read(length))
            client.sendall(b"\0\x40half")
        return received

    async def test() -> None:
        with served(zone()) as inside:
            assert await inside.do(converse) == ["192.0.2.7"] * 3
            assert addresses_in(await inside.do(lambda: ask_udp(query("db", A)))) == ["192.0.2.7"]

    run(test)


def test_port_53_is_left_to_the_container() -> None:
    """A name server of its own on every address, and both are reached."""

    def bind() -> bytes:
        with (
            socket.socket(type=socket.SOCK_DGRAM) as own,
            socket.create_server(("", 53)),
            socket.socket(type=socket.SOCK_DGRAM) as client,
        ):
            own.bind(("", 53))
            own.settimeout(60)
            client.sendto(b"own", ("127.0.0.1", 53))
            received = own.recv(10)
            assert addresses_in(ask_udp(query("db", A))) == ["192.0.2.7"]
            assert addresses_in(ask_tcp(query("db", A))) == ["192.0.2.7"]
            return received

    async def test() -> None:
        with served(zone()) as inside:
            assert await inside.do(bind) == b"own"

    run(test)


def test_without_nf_tables_port_53_itself_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are answered all the same."""

    def refuse(*_: object) -> None:
        raise NetlinkError(errno.EOPNOTSUPP, "no such family")

    monkeypatch.setattr("pannier.dns.sockets.nft.commit", refuse)

    async def test() -> None:
        with served(zone()) as inside:
            for ask in (ask_udp, ask_tcp):
                response = await inside.do(lambda ask=ask: ask(query("db", A)))  # type: ignore[misc]
                assert addresses_in(response) == ["192.0.2.7"]

    run(test)


def test_sockets_are_made_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next port is taken where one is in use, and names the reason where all are."""
    monkeypatch.setattr("pannier.dns.sockets._PORTS", range(64053, 64055))

    async def test() -> None:
        inside = Inside()
        made = [open_sockets(inside.netns) for _ in range(2)]
        assert [one.udp.getsockname()[1] for one in made] == [64053, 64054]
        with pytest.raises(DriverError, match="all ports are taken"):
            open_sockets(inside.netns)
        made[0].close()
        again = open_sockets(inside.netns)
        server = DNSServer(again, zone())
        assert addresses_in(await inside.do(lambda: ask_udp(query("db", A)))) == ["192.0.2.7"]
        server.close()
        made[1].close()
        os.close(inside.netns)

    run(test)


def test_garbage_is_survived() -> None:
    """The next question is answered."""

    def throw() -> bytes:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            for size in (0, 1, 11, 12, 13, 600, 60000):
                client.sendto(b"\xc0" * size, (ADDRESS, 53))
        return ask_udp(query("db", A))

    async def test() -> None:
        with served(zone()) as inside:
            assert addresses_in(await inside.do(throw)) == ["192.0.2.7"]

    run(test)


@pytest.mark.parametrize("server", [INSIDE, HOST], ids=["inside", "host"])
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_other_names_are_asked_for_elsewhere(server: Upstream, tcp: bool) -> None:
    """Over the client's own protocol, from the namespace that the server is to be seen from."""
    ask = ask_tcp if tcp else ask_udp

    async def test() -> None:
        with served(zone(server)) as inside, contextlib.ExitStack() as stack:
            if not server.from_host:
                stack.enter_context(in_network_namespace(inside.netns))
            upstream = stack.enter_context(serving("127.0.0.1", found("203.0.113.5")))
            response = await inside.do(lambda: ask(query("example.org", A, id=99, size=1232)))
            assert addresses_in(response) == ["203.0.113.5"]
            assert response[:2] == b"\0\x63"
            ((asked, by_tcp),) = upstream.asked
            assert by_tcp is tcp
            assert parse_query(asked).size == 1232  # EDNS is passed on

    run(test)


def test_a_truncated_response_is_passed_on_and_asked_again_over_tcp() -> None:
    """By the client, which then gets all of it."""

    def reply(data: bytes, tcp: bool) -> bytes:
        response = bytearray(found("203.0.113.5")(data, tcp))
        if not tcp:
            response[2] |= 2
        return bytes(response)

    async def test() -> None:
        with served(zone(HOST)) as inside, serving("127.0.0.1", reply):
            short = await inside.do(lambda: ask_udp(query("example.org", A)))
            assert short[2] & 2
            whole = await inside.do(lambda: ask_tcp(query("example.org", A)))
            assert not whole[2] & 2

    run(test)


def test_a_silent_server_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that refuses, and one that is not there; what the last one says counts."""
    monkeypatch.setattr("pannier.dns.upstream.PATIENCE", 0.2)

    def refuse(data: bytes, _: bool) -> bytes:
        return answer(parse_query(data), [], code=5)

    def deny(data: bytes, _: bool) -> bytes:
        return answer(parse_query(data), [], code=NAME_ERROR)

    async def test() -> None:
        servers = [Upstream(f"127.0.0.{number}", from_host=True) for number in (2, 3, 4, 5)]
        with (
            served(zone(*servers)) as inside,
            serving("127.0.0.2", lambda _, __: None) as silent,
            serving("127.0.0.4", refuse) as refusing,
            serving("127.0.0.5", deny),
        ):
            response = await inside.do(lambda: ask_udp(query("example.org", A)))
            assert code_of(response) == NAME_ERROR
            assert len(silent.asked) == len(refusing.asked) == 1

    run(test)


def test_without_an_answer_the_client_is_told_so() -> None:
    """At once where nobody can be asked."""

    async def test() -> None:
        for servers in ([], [Upstream("127.0.0.9", from_host=True)]):
            with served(zone(*servers)) as inside:
                for ask in (ask_udp, ask_tcp):
                    response = await inside.do(lambda ask=ask: ask(query("x.org", A)))  # type: ignore[misc]
                    assert code_of(response) == SERVER_FAILURE

    run(test)


def test_forged_responses_are_not_believed() -> None:
    """A wrong number or another question; the right one that comes later is taken."""

    async def test() -> None:
        right = found("203.0.113.5")
        with served(zone(HOST)) as inside, serving("127.0.0.1", right) as upstream:
            real = upstream._udp

            class Noting:
                """Sends two forged responses before each right one."""

                def sendto(self, data: bytes, client: tuple[str, int]) -> int:
                    id = int.from_bytes(data[:2], "big")
                    real.sendto(bytes((data[0] ^ 1,)) + data[1:], client)
                    real.sendto(found("203.0.113.66")(query("other", A, id=id), False), client)
                    return real.sendto(data, client)

                def __getattr__(self, name: str) -> object:
                    return getattr(real, name)

            upstream._udp = Noting()  # type: ignore[assignment]
            response = await inside.do(lambda: ask_udp(query("example.org", A)))
            assert addresses_in(response) == ["203.0.113.5"]

    run(test)


def _ip(line: str) -> Callable[[], None]:
    def run() -> None:
        subprocess.run(["ip", *line.split()], check=True, capture_output=True, timeout=10)

    return run


def _let_in() -> None:
    for name in ("all", "eth0"):
        with open(f"/proc/sys/net/ipv4/conf/{name}/route_localnet", "w") as file:  # noqa: PTH123
            file.write("1")


def _knock(port: int, tries: int = 1) -> bool:
    """Say whether anything comes back; the socket is told at once of a closed port."""
    for _ in range(tries):
        with socket.socket(type=socket.SOCK_DGRAM) as client, contextlib.suppress(OSError):
            client.settimeout(0.5)
            client.connect((ADDRESS, port))
            client.send(query("db", A))
            client.recv(1000)
            return True
    return False


def _echo() -> threading.Thread:
    """Show that packets do come through: a server that is bound to no device."""
    server = socket.socket(type=socket.SOCK_DGRAM)
    server.bind((ADDRESS, 7))

    def work() -> None:
        with server:
            while True:
                data, client = server.recvfrom(1000)
                if not data:
                    return
                server.sendto(data, client)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _end_echo() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"", (ADDRESS, 7))


def test_nobody_outside_is_answered() -> None:
    """Not even a neighbour whose packets the container lets in: route_localnet."""

    async def test() -> None:
        with served(_Asked({"db": ["192.0.2.7"]})) as inside:
            neighbour = Inside()
            try:
                there = f"/proc/{os.getpid()}/fd/{neighbour.netns}"
                await inside.do(_ip(f"link add eth0 type veth peer name eth0 netns {there}"))
                for place, address in ((inside, "192.0.2.1"), (neighbour, "192.0.2.2")):
                    await place.do(_ip(f"address add {address}/24 dev eth0"))
                    await place.do(_ip("link set eth0 up"))
                await neighbour.do(_ip(f"route add {ADDRESS}/32 via 192.0.2.1"))
                await inside.do(_let_in)
                await neighbour.do(_let_in)
                thread = await inside.do(_echo)
                came_through = await neighbour.do(lambda: _knock(7, tries=40))
                await inside.do(_end_echo)
                thread.join()
                assert came_through
                for port in (53, 64053):
                    assert not await neighbour.do(lambda port=port: _knock(port))  # type: ignore[misc]
                # The rewriting of ports would hide an answer, so it must not even be looked for.
                assert noted == []
                assert await inside.do(lambda: _knock(53, tries=40))
                assert set(noted) == {"db"}
            finally:
                os.close(neighbour.netns)

    run(test)


def test_sockets_are_taken_over_from_their_keeper() -> None:
    """What was asked while nobody served is answered, and the keeper may be any process."""

    async def test() -> None:
        inside = Inside()
        sockets = open_sockets(inside.netns)
        keeper = await _keeper(inside, [sockets.udp.fileno(), sockets.tcp.fileno()])
        sockets.close()
        try:
            child = await _child_of(keeper.pid)
            asked = asyncio.create_task(inside.do(lambda: ask_udp(query("db", A))))
            await asyncio.sleep(0.1)  # the question is to come before the server does
            assert not asked.done()
            adopted = adopt_sockets(child)
            assert adopted is not None
            server = DNSServer(adopted, zone())
            assert addresses_in(await asked) == ["192.0.2.7"]
            response = await inside.do(lambda: ask_tcp(query("db", A)))
            assert addresses_in(response) == ["192.0.2.7"]
            server.close()
            # Where they cannot be had, new ones serve in their place.
            server = DNSServer(open_sockets(inside.netns), zone())
            assert addresses_in(await inside.do(lambda: ask_udp(query("db", A)))) == ["192.0.2.7"]
            server.close()
        finally:
            os.killpg(keeper.pid, signal.SIGKILL)  # with its child
            await keeper.wait()
            os.close(inside.netns)

    run(test)


class _Asked(FakeZone):
    """A zone that notes what it is asked."""

    def addresses(self, name: str) -> list[str] | None:
        noted.append(name)
        return super().addresses(name)


noted: list[str] = []


async def _keeper(inside: Inside, descriptors: list[int]) -> asyncio.subprocess.Process:
    """Start a process that has these descriptors, with a child in the namespace that has not."""
    closed = " ".join(f"{one}>&-" for one in descriptors)
    script = f"nsenter --net=/proc/self/fd/{inside.netns} cat <&3 {closed} & wait"
    reading, writing = os.pipe()
    try:
        return await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            f"exec 3<&{reading}; {script}",
            pass_fds=[*descriptors, inside.netns, reading, writing],
            start_new_session=True,
        )
    finally:
        os.close(reading)
        os.close(writing)


async def _child_of(pid: int) -> int:
    """Return a process's child once it has become ``cat``."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123, ASYNC230 - of /proc
                children = file.read().split()
            for child in children:
                with open(f"/proc/{child}/comm") as file:  # noqa: PTH123, ASYNC230 - of /proc
                    if file.read() == "cat\n":
                        return int(child)
        await asyncio.sleep(0.01)
    raise AssertionError("the keeper has no child")


def test_upstreams_are_read_from_addresses() -> None:
    """The host's loopback, and what only the host can reach, is asked from the host."""
    of_host = parse_upstreams(
        ["127.0.0.53", "nonsense", "192.0.2.1", "fe80::1%eth0", "2001:db8::1"],
        of_host=True,
        ipv6=True,
    )
    assert of_host == [
        Upstream("127.0.0.53", from_host=True),
        Upstream("192.0.2.1"),
        Upstream("fe80::1%eth0", from_host=True),
    ]
    assert parse_upstreams(["127.0.0.1"], of_host=False, ipv6=False) == [Upstream("127.0.0.1")]
    assert parse_upstreams(["fd00::1"], of_host=True, ipv6=False) == [
        Upstream("fd00::1", from_host=True)
    ]
