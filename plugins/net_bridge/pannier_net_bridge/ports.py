"""Published ports: reserved on the host by sockets that are really bound."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from pannier.drivers.network import PortBinding
from pannier.errors import Conflict, DriverError, InvalidRequest, UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from pannier.drivers.network import PortRequest

__all__ = [
    "EVERY_ADDRESS",
    "EVERY_ADDRESS6",
    "PROTOCOLS",
    "HostAddresses",
    "Reservation",
    "collide",
    "place",
    "reserve",
    "reserve_again",
]

EVERY_ADDRESS: Final = "0.0.0.0"
EVERY_ADDRESS6: Final = "::"
_LOOPBACK6: Final = "::1"
PROTOCOLS: Final = {
    "tcp": socket.IPPROTO_TCP,
    "udp": socket.IPPROTO_UDP,
    "sctp": socket.IPPROTO_SCTP,
}
_LAST_PORT: Final = 65535
_DYNAMIC_PORTS: Final = (49153, _LAST_PORT)
_ATTEMPTS: Final = 20
_MOMENTS: Final = (0.01, 0.04)
"""Seconds after which ports that are in use are tried again."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A published port and the socket that holds it; None where nothing has to or can hold it."""

    binding: PortBinding
    socket: socket.socket | None

    def close(self) -> None:
        """Let go of the port. Idempotent."""
        if self.socket is not None:
            self.socket.close()


@dataclass(frozen=True, slots=True)
class HostAddresses:
    """Which addresses of the host a network's ports can be published on.

    :param network: its name.
    :param bind: where ports go that ask for no address; empty for every one.
    :param six: whether the network has IPv6: without, nothing could take what comes by it.
    :param loopback6: whether connections to ::1 can be redirected.
    """

    network: str
    bind: str = ""
    six: bool = False
    loopback6: bool = False

    def meant(self, request: PortRequest) -> tuple[str, ...]:
        """Return the addresses that a request means: of both IP versions where it names none.

        :raises InvalidRequest: it names something that is no address.
        :raises UnsupportedOperation: it names one that the network cannot publish on.
        """
        asked = request.host_ip or self.bind
        if not asked:
            return (EVERY_ADDRESS, EVERY_ADDRESS6) if self.six else (EVERY_ADDRESS,)
        try:
            address = ip_address(asked)
        except ValueError as error:
            raise InvalidRequest(f'invalid host address "{asked}" of a published port') from error
        if isinstance(address, IPv6Address):
            self._check_six(address)
        return (str(address),)

    def _check_six(self, address: IPv6Address) -> None:
        if not self.six:
            raise UnsupportedOperation(
                f"a port cannot be published on the IPv6 address {address}: the network "
                f"{self.network} has no IPv6",
                hint="publish on an IPv4 address, or use a network created with --ipv6",
            )
        if str(address) == _LOOPBACK6 and not self.loopback6:
            raise UnsupportedOperation(
                "a port cannot be published on ::1 while the kernel passes bridged packets through "
                "ip6tables",
                hint="publish on 127.0.0.1, or set net.bridge.bridge-nf-call-ip6tables = 0",
            )


def place(address: object, port: object) -> str:
    """Return an address with a port as one writes it: 127.0.0.1:80, [::1]:80."""
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


def reserve(
    request: PortRequest,
    endpoint: str,
    host: HostAddresses,
    published: Callable[[PortBinding], bool],
    held: Collection[PortBinding] = (),
) -> list[Reservation]:
    """Reserve a port that is asked for, the first of a range that is free on all that is meant.

    The firewall redirects what comes for it. Where it does not (any more), a connection is refused:
    the sockets are bound and do not listen.

    :param endpoint: how the endpoint is called in messages.
    :param published: says of a port whether one of our endpoints publishes it.
    :param held: what sockets of the container's own hold already; it needs no further ones.
    :returns: one for each of the host's addresses that is meant; the port is the same.
    :raises Conflict: all of the ports asked for are in use.
    :raises InvalidRequest: the request is malformed, or the address is none of the host's.
    :raises UnsupportedOperation: the network cannot publish on the address.
    """
    _check(request)
    addresses = host.meant(request)
    first, last = request.host_ports
    # A port that the kernel chooses for one address may be in use on the other.
    ports = range(first, last + 1) if first else [0] * _ATTEMPTS
    where, reason = place(addresses[0], first), ""
    for attempt in _in_turn([_Attempt(request, addresses, one, published, held) for one in ports]):
        try:
            return attempt.bind_all()
        except OSError as error:
            where, reason = attempt.where, "address already in use"
            if attempt.allocated:
                reason = "port is already allocated"
            elif error.errno != errno.EADDRINUSE:
                raise _refused(error, where, request.protocol, endpoint) from error
    if last > first:
        where, reason = place(addresses[0], f"{first}-{last}"), "all ports are allocated"
    raise Conflict(
        f"driver failed programming external connectivity on endpoint {endpoint}: "
        f"Bind for {where} failed: {reason}",
        hint="stop what uses the port, or publish on another one",
    )


def _in_turn(attempts: Sequence[_Attempt]) -> Iterator[_Attempt]:
    """Yield attempts; in the end, those again after a moment that found a port in use.

    A program that the daemon has just started holds copies of the daemon's sockets until it is
    executed, among them those of ports that were given back meanwhile.
    """
    yield from attempts
    for moment in _MOMENTS:
        if not (again := [one for one in attempts if not one.allocated]):
            return
        time.sleep(moment)
        yield from again


def _check(request: PortRequest) -> None:
    if request.protocol not in PROTOCOLS:
        raise InvalidRequest(
            f'invalid protocol "{request.protocol}" of the published port {request.container_port}',
            hint="use tcp, udp or sctp",
        )
    first, last = request.host_ports
    if not (0 < request.container_port <= _LAST_PORT and 0 <= first <= last <= _LAST_PORT):
        raise InvalidRequest(
            f"invalid published port {first}-{last}:{request.container_port}",
            hint=f"ports are between 1 and {_LAST_PORT}",
        )


@dataclass(slots=True)
class _Attempt:
    """An attempt to have one port on several addresses.

    :param where: what was tried last, for messages.
    :param allocated: whether it is one of our endpoints that has the port.
    """

    request: PortRequest
    addresses: Sequence[str]
    port: int
    published: Callable[[PortBinding], bool]
    held: Collection[PortBinding] = ()
    where: str = ""
    allocated: bool = False

    def bind_all(self) -> list[Reservation]:
        """Return what holds the port on each address; all or none.

        :raises OSError: one of them could not be had.
        """
        with contextlib.ExitStack() as stack:
            found: list[Reservation] = []
            for address in self.addresses:
                port = found[0].binding.host_port if found else self.port
                found.append(self._bind(address, port))
                stack.callback(found[-1].close)
            stack.pop_all()
        return found

    def _bind(self, address: str, port: int) -> Reservation:
        self.where = place(address, port)
        protocol = self.request.protocol
        wish = PortBinding(self.request.container_port, protocol, address, port)
        if port and self.published(wish):
            self.allocated = True
            raise OSError(errno.EADDRINUSE, "port is already allocated")
        if any(collide(one, wish) for one in self.held):
            return Reservation(wish, None)
        try:
            reserving = _socket(address, protocol)
        except OSError as error:
            if protocol != "sctp" or error.errno not in (errno.EPROTONOSUPPORT, errno.EINVAL):
                raise
            # A kernel without SCTP sockets still forwards SCTP, and has no one to reserve against
            # but our own endpoints.
            return Reservation(wish if port else _unheld(wish, self.published), None)
        reserving = _bound(reserving, address, port)
        chosen: int = reserving.getsockname()[1]
        binding = PortBinding(self.request.container_port, protocol, address, chosen)
        return Reservation(binding, reserving)


def reserve_again(ports: Iterable[PortBinding]) -> list[Reservation]:
    """Reserve ports whose sockets may have gone with the last daemon; those that have not, hold."""
    found = []
    for port in ports:
        with contextlib.suppress(OSError):
            reserving = _bound(_socket(port.host_ip, port.protocol), port.host_ip, port.host_port)
            found.append(Reservation(port, reserving))
    return found


def _bound(reserving: socket.socket, address: str, port: int) -> socket.socket:
    """Bind a socket, and have the port be its alone; return it, or another one in its place.

    :raises OSError: the port is in use; the socket is closed.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(reserving.close)
        reserving.bind((address, port))
        if reserving.type == socket.SOCK_STREAM and reserving.proto == socket.IPPROTO_TCP:
            if not port:
                # Only a port that was asked for by its number outlives the shutdown below. For the
                # moment both sockets have it.
                other = _socket(address, "tcp")
                stack.callback(other.close)
                other.bind(reserving.getsockname()[:2])
                reserving.close()
                reserving = other
            # With SO_REUSEADDR others may bind the port until somebody listens on it; from then on
            # the kernel compares each socket with each, of which this one allows no reuse.
            reserving.listen(1)
            reserving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            reserving.shutdown(socket.SHUT_RD)
        stack.pop_all()
    return reserving


def _socket(address: str, protocol: str) -> socket.socket:
    six = ":" in address
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    made = socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind, PROTOCOLS[protocol])
    if six:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if protocol == "tcp":
        # Connections of a server that has just ended must not keep the port for a minute.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def _unheld(wish: PortBinding, published: Callable[[PortBinding], bool]) -> PortBinding:
    for port in range(*_DYNAMIC_PORTS):
        found = PortBinding(wish.container_port, wish.protocol, wish.host_ip, port)
        if not published(found):
            return found
    raise OSError(errno.EADDRINUSE, "no free port")


def _refused(
    error: OSError, where: str, protocol: str, endpoint: str
) -> InvalidRequest | DriverError:
    message = (
        f"driver failed programming external connectivity on endpoint {endpoint}: "
        f"failed to bind host port {where}/{protocol}: {(error.strerror or '').lower()}"
    )
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidRequest(message, hint="publish on an address that the host has")
    return DriverError(message, hint="publish on a port that the daemon may bind")


def collide(one: PortBinding, other: PortBinding) -> bool:
    """Whether two bindings cannot be had at once."""
    if (one.protocol, one.host_port) != (other.protocol, other.host_port):
        return False
    every = EVERY_ADDRESS6 if ":" in one.host_ip else EVERY_ADDRESS
    same_version = (":" in one.host_ip) == (":" in other.host_ip)
    return same_version and (every in (one.host_ip, other.host_ip) or one.host_ip == other.host_ip)
