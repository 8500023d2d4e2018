"""DNS for tests: queries, a reader of answers, a zone, and a server to be asked."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from ipaddress import IPv4Address, IPv6Address

    from pannier.dns.upstream import Upstream

__all__ = [
    "FakeUpstream",
    "FakeZone",
    "addresses_in",
    "ask_tcp",
    "ask_udp",
    "names_in",
    "query",
    "serving",
]


def query(
    name: str, type: int, *, id: int = 1, flags: int = 0x0100, kind: int = 1, size: int = 0
) -> bytes:
    """Return a query; with *size* it speaks EDNS."""
    encoded = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    options = b"\0" + struct.pack(">HHIH", 41, size, 0, 0) if size else b""
    header = struct.pack(">HHHHHH", id, flags, 1, 0, 0, 1 if size else 0)
    return header + encoded + b"\0" + struct.pack(">HH", type, kind) + options


def _records(response: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and data of each answer."""
    _, _, questions, answers, _, _ = struct.unpack_from(">HHHHHH", response)
    offset = 12
    for _ in range(questions):
        while response[offset]:
            offset += response[offset] + 1
        offset += 5
    for _ in range(answers):
        assert response[offset : offset + 2] == b"\xc0\x0c"
        type, kind, ttl, length = struct.unpack_from(">HHIH", response, offset + 2)
        assert kind == 1
        assert ttl <= 60
        yield type, response[offset + 12 : offset + 12 + length]
        offset += 12 + length


def addresses_in(response: bytes) -> list[str]:
    """Return the addresses in a response, in their order."""
    families = {1: socket.AF_INET, 28: socket.AF_INET6}
    return [
        socket.inet_ntop(families[type], data)
        for type, data in _records(response)
        if type in families
    ]


def names_in(response: bytes) -> list[str]:
    """Return the names of PTR records in a response."""
    found = []
    for type, data in _records(response):
        if type == 12:
            labels, offset = [], 0
            while length := data[offset]:
                labels.append(data[offset + 1 : offset + 1 + length].decode())
                offset += 1 + length
            found.append(".".join(labels))
    return found


def ask_udp(data: bytes, server: str = "127.0.0.11", *, timeout: float = 5.0) -> bytes:
    """Send a query and return the response."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(timeout)
        client.connect((server, 53))
        client.send(data)
        return client.recv(65535)


def ask_tcp(data: bytes, server: str = "127.0.0.11", *, timeout: float = 5.0) -> bytes:
    """Send a query over TCP and return the response."""
    with socket.create_connection((server, 53), timeout) as client:
        client.sendall(struct.pack(">H", len(data)) + data)
        with client.makefile("rb") as stream:
            (length,) = struct.unpack(">H", stream.read(2))
            return stream.read(length)


@dataclass
class FakeZone:
    """A zone of fixed names.

    :param subnet: whose addresses nobody else knows.
    """

    names: dict[str, list[str]]
    subnet: str = "192.0.2.0/24"
    servers: list[Upstream] = field(default_factory=list)

    def addresses(self, name: str) -> list[str] | None:
        return self.names.get(name)

    def name_of(self, address: str) -> str | None:
        for name, addresses in self.names.items():
            if address in addresses:
                return f"{name}.lan"
        return None

    def owns(self, address: IPv4Address | IPv6Address) -> bool:
        return address in ipaddress.ip_network(self.subnet)

    def upstreams(self) -> list[Upstream]:
        return self.servers


class FakeUpstream:
    """A name server on a thread, in the network namespace of whoever makes it.

    :param reply: returns the response to a query, or None for silence; it is told whether the
        query came over TCP.
    """

    def __init__(self, address: str, reply: Callable[[bytes, bool], bytes | None]) -> None:
        self.asked: list[tuple[bytes, bool]] = []
        self._reply = reply
        self._udp = socket.socket(type=socket.SOCK_DGRAM)
        self._udp.bind((address, 53))
        self._tcp = socket.create_server((address, 53))
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._datagrams, self._streams)
        ]
        for thread in self._threads:
            thread.start()

    def _answer(self, data: bytes, *, tcp: bool) -> bytes | None:
        self.asked.append((data, tcp))
        return self._reply(data, tcp)

    def _datagrams(self) -> None:
        while True:
            data, client = self._udp.recvfrom(65535)
            if not data:
                return
            response = self._answer(data, tcp=False)
            if response is not None:
                self._udp.sendto(response, client)

    def _streams(self) -> None:
        while True:
            client, _ = self._tcp.accept()
            with client, client.makefile("rb") as stream:
                head = stream.read(2)
                if not head:
                    return
                data = stream.read(struct.unpack(">H", head)[0])
                response = self._answer(data, tcp=True)
                if response is not None:
                    client.sendall(struct.pack(">H", len(response)) + response)

    def close(self) -> None:
        """End both threads: each ends at an empty message."""
        with socket.socket(type=socket.SOCK_DGRAM) as stop:
            stop.sendto(b"", self._udp.getsockname())
        socket.create_connection(self._tcp.getsockname()).close()
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()


@contextlib.contextmanager
def serving(address: str, reply: Callable[[bytes, bool], bytes | None]) -> Iterator[FakeUpstream]:
    """Give a :class:`FakeUpstream`, and close it. To be entered in the namespace to serve."""
    upstream = FakeUpstream(address, reply)
    try:
        yield upstream
    finally:
        upstream.close()
