"""Asking other servers: what a zone does not know is passed on to them as it came."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import os
import secrets
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.dns.message import (
    NOT_IMPLEMENTED,
    REFUSED,
    SERVER_FAILURE,
    code_of,
    echoes,
)
from pannier.linux.namespaces import in_network_namespace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.dns.message import Query

__all__ = ["PATIENCE", "Upstream", "ask", "parse_upstreams"]

PATIENCE: Final = 2.0
"""Seconds that one server gets: clients ask again after five, and a second server may be there."""

_PORT: Final = 53
_MOST: Final = 3  # as resolv.conf(5)
_LARGEST: Final = 65535
_LENGTH: Final = struct.Struct(">H")
_NEXT: Final = {SERVER_FAILURE, NOT_IMPLEMENTED, REFUSED}
"""Response codes that say something of the server and nothing of the name."""

_SIOCGSKNS: Final = 0x894C
"""Gives the network namespace of a socket (linux/sockios.h)."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server to ask.

    :param from_host: asked from the host's network namespace: what only the host can reach, such
        as a resolver on its loopback. All others are asked from the container's, so that questions
        go the way, and through the rules, of all its other packets (a VPN's, for instance).
    """

    address: str
    from_host: bool = False


def parse_upstreams(servers: Iterable[str], *, of_host: bool, ipv6: bool) -> list[Upstream]:
    """Return servers to ask, at most three; what is no address is left out.

    :param of_host: they are the host's own, so that a loopback address means the host's loopback.
    :param ipv6: whether the container has an IPv6 address to ask from.
    """
    found = []
    for server in servers:
        plain, _, scope = server.partition("%")
        try:
            address = ipaddress.ip_address(plain)
        except ValueError:
            continue
        only_host = bool(scope) or address.is_loopback or (address.version == 6 and not ipv6)
        found.append(Upstream(server, from_host=of_host and only_host))
    return found[:_MOST]


async def ask(
    query: Query, data: bytes, servers: Iterable[Upstream], inside: socket.socket, *, tcp: bool
) -> bytes | None:
    """Return the first useful response of the servers, one after another; None where there is none.

    :param inside: a socket of the container's network namespace.
    :param tcp: whether the client asked over TCP, and so is to be asked.
    """
    last = None
    for server in servers:
        try:
            async with asyncio.timeout(PATIENCE):
                one = _over_tcp if tcp else _over_udp
                response = await one(query, data, server, inside)
        except (OSError, TimeoutError):
            continue
        if code_of(response) not in _NEXT:
            return response
        last = response
    return last


def _renamed(data: bytes, id: int) -> bytes:
    return _LENGTH.pack(id) + data[_LENGTH.size :]


async def _over_udp(query: Query, data: bytes, server: Upstream, inside: socket.socket) -> bytes:
    """Ask with a number and a port of our own: whoever cannot see them cannot forge an answer."""
    loop = asyncio.get_running_loop()
    id = secrets.randbits(16)
    with _socket(server, socket.SOCK_DGRAM, inside) as outside:
        await loop.sock_connect(outside, _place(server))
        await loop.sock_sendall(outside, _renamed(data, id))
        while True:
            response = await loop.sock_recv(outside, _LARGEST)
            if echoes(query, id, response):
                return _renamed(response, query.id)


async def _over_tcp(query: Query, data: bytes, server: Upstream, inside: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    id = secrets.randbits(16)
    with _socket(server, socket.SOCK_STREAM, inside) as outside:
        await loop.sock_connect(outside, _place(server))
        await loop.sock_sendall(outside, _LENGTH.pack(len(data)) + _renamed(data, id))
        (length,) = _LENGTH.unpack(await _exactly(outside, _LENGTH.size))
        response = await _exactly(outside, length)
    if not echoes(query, id, response):
        raise ConnectionError("the server answered another question")
    return _renamed(response, query.id)


async def _exactly(stream: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    received = bytearray()
    while len(received) < size:
        chunk = await loop.sock_recv(stream, size - len(received))
        if not chunk:
            raise ConnectionError("the server hung up")
        received += chunk
    return bytes(received)


def _place(server: Upstream) -> tuple[str, int] | tuple[str, int, int, int]:
    plain, _, scope = server.address.partition("%")
    if ":" not in plain:
        return plain, _PORT
    index = 0
    if scope:
        index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
    return plain, _PORT, 0, index


def _socket(server: Upstream, kind: socket.SocketKind, inside: socket.socket) -> socket.socket:
    """Return a socket of the family of the server's address, in the namespace to ask from."""
    family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
    with contextlib.ExitStack() as stack:
        if not server.from_host:
            # The namespace may have no process left and no name: its sockets know it.
            netns = fcntl.ioctl(inside, _SIOCGSKNS)
            stack.callback(os.close, netns)
            stack.enter_context(in_network_namespace(netns))
        return socket.socket(family, kind | socket.SOCK_NONBLOCK)
