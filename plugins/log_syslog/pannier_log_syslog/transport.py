"""The way to a syslog server: UDP, TCP, or a unix socket of either kind."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Address", "Connection", "parse_address"]

_PORT = 514
_PATIENCE = 10.0
_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")
_SCHEMES = ("udp", "tcp", "unix", "unixgram")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens.

    :param scheme: ``udp``, ``tcp``, ``unix``, ``unixgram``, or empty for this host's own.
    :param host: a name or an address; with *port* for ``udp`` and ``tcp``.
    """

    scheme: str = ""
    host: str = ""
    port: int = 0
    path: str = ""


def parse_address(text: str) -> Address:
    """Return what a ``syslog-address`` means; empty means this host's own daemon.

    :raises InvalidRequest: it is malformed, or of a kind that is not offered.
    """
    if not text:
        return Address()
    parts = urlsplit(text)
    if parts.scheme == "tcp+tls":
        raise InvalidRequest(
            "syslog-address: tcp+tls is not offered",
            hint="let a relay on this host (rsyslog, syslog-ng) speak TLS, and log to it",
        )
    if "://" not in text or parts.scheme not in _SCHEMES:
        raise InvalidRequest(
            f"syslog-address should be in form proto://address, got {text}",
            hint=f"proto is one of {', '.join(_SCHEMES)}",
        )
    if parts.scheme.startswith("unix"):
        if not parts.path.startswith("/") or parts.netloc:
            raise InvalidRequest(f"syslog-address {text} has no absolute path")
        return Address(parts.scheme, path=parts.path)
    try:
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(f"syslog-address {text}: {error}") from error
    if not parts.hostname or parts.path:
        raise InvalidRequest(f"syslog-address {text} is no HOST[:PORT]")
    return Address(parts.scheme, parts.hostname, _PORT if port is None else port)


class Connection:
    """A connection to a server.

    :raises OSError: it cannot be reached.
    """

    def __init__(self, address: Address) -> None:
        self._socket = _connect(address)
        self._framed = self._socket.type == socket.SOCK_STREAM

    def send(self, messages: Sequence[bytes]) -> None:
        """Send messages, in order: a datagram each, or each ended by a newline (RFC 6587, 3.4.2).

        :raises OSError: the server has gone, or takes nothing for ten seconds.
        """
        if not self._framed:
            for message in messages:
                self._socket.send(message)
            return
        self._check_open()
        self._socket.sendall(b"".join([message + b"\n" for message in messages]))

    def _check_open(self) -> None:
        """Find out that the server has closed before something is sent that nobody would read."""
        self._socket.setblocking(False)
        try:
            if not self._socket.recv(512):
                raise ConnectionResetError("the server has closed the connection")
        except BlockingIOError:
            pass
        finally:
            self._socket.settimeout(_PATIENCE)

    def close(self) -> None:
        """Close it. Idempotent."""
        self._socket.close()


def _connect(address: Address) -> socket.socket:
    if address.scheme == "tcp":
        return socket.create_connection((address.host, address.port), _PATIENCE)
    if address.scheme == "udp":
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, target = found[0]
        return _connected(socket.socket(family, kind, protocol), target)
    if address.scheme == "unix":
        return _unix(address.path, socket.SOCK_STREAM)
    if address.scheme == "unixgram":
        return _unix(address.path, socket.SOCK_DGRAM)
    for path in _LOCAL:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with contextlib.suppress(OSError):
                return _unix(path, kind)
    raise ConnectionRefusedError(f"no syslog daemon listens here ({', '.join(_LOCAL)})")


def _unix(path: str, kind: socket.SocketKind) -> socket.socket:
    return _connected(socket.socket(socket.AF_UNIX, kind), path)


def _connected(made: socket.socket, target: object) -> socket.socket:
    try:
        made.settimeout(_PATIENCE)
        made.connect(target)  # type: ignore[arg-type]  # whatever its family's addresses are
    except BaseException:
        made.close()
        raise
    return made
