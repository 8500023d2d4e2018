"""Published ports: reserved on the host by sockets that are really bound."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING, Final

from pannier.drivers.network import PortBinding
from pannier.errors import Conflict, DriverError, InvalidRequest, UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier.drivers.network import PortRequest

__all__ = ["EVERY_ADDRESS", "PROTOCOLS", "Reservation", "collide", "reserve"]

EVERY_ADDRESS: Final = "0.0.0.0"
PROTOCOLS: Final = {
    "tcp": socket.IPPROTO_TCP,
    "udp": socket.IPPROTO_UDP,
    "sctp": socket.IPPROTO_SCTP,
}
_LAST_PORT: Final = 65535
_DYNAMIC_PORTS: Final = (49153, _LAST_PORT)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A published port and the socket that holds it; None where nothing has to or can hold it."""

    binding: PortBinding
    socket: socket.socket | None

    def close(self) -> None:
        """Let go of the port. Idempotent."""
        if self.socket is not None:
            self.socket.close()


def reserve(
    request: PortRequest, endpoint: str, bind: str, published: Callable[[PortBinding], bool]
) -> Reservation:
    """Reserve a port that is asked for, the first free one of a range.

    A TCP socket also listens: two sockets may be bound to one port with SO_REUSEADDR until one of
    them does. Nobody ever connects to it, since the firewall redirects the packets before.

    :param endpoint: how the endpoint is called in messages.
    :param bind: the address to publish on where none is asked for; empty for all.
    :param published: says of a port whether one of our endpoints publishes it.
    :raises Conflict: all of the ports asked for are in use.
    :raises InvalidRequest: the request is malformed, or the address is none of the host's.
    """
    host_ip = _check(request, bind)
    first, last = request.host_ports
    reason = ""
    for port in range(first, last + 1):
        wish = PortBinding(request.container_port, request.protocol, host_ip, port)
        if port and published(wish):
            reason = "port is already allocated"
            continue
        try:
            return _bind(wish, published)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _refused(error, wish, endpoint) from error
            reason = "address already in use"
    if last > first:
        where, reason = f"{host_ip}:{first}-{last}", "all ports are allocated"
    else:
        where = f"{host_ip}:{first}"
    raise Conflict(
        f"driver failed programming external connectivity on endpoint {endpoint}: "
        f"Bind for {where} failed: {reason}",
        hint="stop what uses the port, or publish on another one",
    )


def _check(request: PortRequest, bind: str) -> str:
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
    host_ip = request.host_ip or bind or EVERY_ADDRESS
    if ":" in host_ip:
        raise UnsupportedOperation(
            f"publishing on the IPv6 address {host_ip} is not offered by the bridge driver",
            hint="publish on an IPv4 address",
        )
    try:
        return str(IPv4Address(host_ip))
    except AddressValueError as error:
        raise InvalidRequest(f'invalid host address "{host_ip}" of a published port') from error


def _bind(wish: PortBinding, published: Callable[[PortBinding], bool]) -> Reservation:
    kind = socket.SOCK_DGRAM if wish.protocol == "udp" else socket.SOCK_STREAM
    try:
        reserving = socket.socket(socket.AF_INET, kind, PROTOCOLS[wish.protocol])
    except OSError as error:
        if wish.protocol != "sctp" or error.errno not in (errno.EPROTONOSUPPORT, errno.EINVAL):
            raise
        # A kernel without SCTP sockets still forwards SCTP, and has no one to reserve against
        # but our own endpoints.
        return Reservation(wish if wish.host_port else _unheld(wish, published), None)
    with contextlib.ExitStack() as stack:
        stack.callback(reserving.close)
        if wish.protocol == "tcp":
            # Connections of a server that has just ended must not keep the port for a minute.
            reserving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserving.bind((wish.host_ip, wish.host_port))
        if wish.protocol != "udp":
            reserving.listen(1)
        port: int = reserving.getsockname()[1]
        stack.pop_all()
    binding = PortBinding(wish.container_port, wish.protocol, wish.host_ip, port)
    return Reservation(binding, reserving)


def _unheld(wish: PortBinding, published: Callable[[PortBinding], bool]) -> PortBinding:
    for port in range(*_DYNAMIC_PORTS):
        found = PortBinding(wish.container_port, wish.protocol, wish.host_ip, port)
        if not published(found):
            return found
    raise OSError(errno.EADDRINUSE, "no free port")


def _refused(error: OSError, wish: PortBinding, endpoint: str) -> InvalidRequest | DriverError:
    where = f"{wish.host_ip}:{wish.host_port}"
    message = (
        f"driver failed programming external connectivity on endpoint {endpoint}: "
        f"failed to bind host port {where}/{wish.protocol}: {(error.strerror or '').lower()}"
    )
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidRequest(message, hint="publish on an address that the host has")
    return DriverError(message, hint="publish on a port that the daemon may bind")


def collide(one: PortBinding, other: PortBinding) -> bool:
    """Whether two bindings cannot be had at once."""
    return (one.protocol, one.host_port) == (other.protocol, other.host_port) and (
        EVERY_ADDRESS in (one.host_ip, other.host_ip) or one.host_ip == other.host_ip
    )
