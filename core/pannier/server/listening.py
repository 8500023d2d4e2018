"""Where the server listens: unix sockets, and TCP for those who can show a certificate."""

from __future__ import annotations

import contextlib
import grp
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pannier.certificates import load_authorities, load_identity
from pannier.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Listener", "TlsFiles", "open_listeners", "parse_hosts", "unix_socket"]

_BACKLOG: Final = 512
_PLAIN_PORT: Final = 2375
_TLS_PORT: Final = 2376


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What TLS needs, all of it: who signs the clients' certificates, and the server's own."""

    ca: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return what the server speaks TLS with; every client must show a certificate.

        :raises ConfigError: a file cannot be read or used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            load_identity(context, self.certificate, self.key)
            load_authorities(context, self.ca)
        except ConfigError as error:
            raise ConfigError(
                f"the TLS files of [engine] cannot be used: {error}", hint=error.hint
            ) from error
        return context


@dataclass(frozen=True, slots=True)
class Listener:
    """An address to listen at.

    :param path: of a unix socket; empty for TCP.
    :param tls: whether clients must speak TLS.
    """

    text: str
    path: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False


def parse_hosts(
    hosts: Sequence[str], *, tls: bool, insecure_loopback: bool
) -> tuple[Listener, ...]:
    """Read ``[engine] hosts``.

    Whoever reaches the API is root on this host: TCP is served to those who show a certificate,
    and to this host's own users where that was asked for in so many words.

    :param tls: whether there are certificates.
    :param insecure_loopback: serve addresses of the loopback interface without TLS.
    :raises ConfigError: an address is malformed, or would let anybody in.
    """
    return tuple(_parse(text, tls=tls, insecure=insecure_loopback) for text in hosts)


def _parse(text: str, *, tls: bool, insecure: bool) -> Listener:
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix" and rest.startswith("/"):
        return Listener(text, path=rest)
    if not separator or scheme != "tcp" or not rest:
        raise ConfigError(
            f"[engine] hosts: {text!r} is no address to listen at",
            hint="write unix:///path/to/socket or tcp://ADDRESS:PORT",
        )
    host, port = _host_and_port(text, rest)
    plain = insecure and _is_loopback(host)
    if not plain and not tls:
        raise ConfigError(
            f"[engine] hosts: {text} without certificates would make everybody who reaches it "
            f"root on this host",
            hint="set tls_ca, tls_cert and tls_key in [engine]; for an address of the loopback "
            "interface insecure_loopback = true does, if every user of this host may be root",
        )
    return Listener(
        text, host=host, port=port or (_PLAIN_PORT if plain else _TLS_PORT), tls=not plain
    )


def _host_and_port(text: str, rest: str) -> tuple[str, int]:
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        host, port = rest, "0"
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdecimal() and int(port) < 1 << 16) or "/" in rest:
        raise ConfigError(
            f"[engine] hosts: {text!r} has no valid port", hint="write tcp://ADDRESS:PORT"
        )
    return "127.0.0.1" if host == "localhost" else host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may come to mean another address


@contextlib.contextmanager
def open_listeners(
    listeners: Sequence[Listener], group: str
) -> Iterator[list[tuple[Listener, socket.socket]]]:
    """Open the sockets of all listeners, and close them again afterwards.

    :param group: who may use unix sockets besides root, where that group exists.
    :raises ConfigError: an address cannot be had.
    """
    with contextlib.ExitStack() as stack:
        opened = []
        for listener in listeners:
            made = unix_socket(Path(listener.path), group) if listener.path else _tcp(listener)
            stack.callback(made.close)
            opened.append((listener, made))
        yield opened


def _tcp(listener: Listener) -> socket.socket:
    try:
        [found, *_] = socket.getaddrinfo(
            listener.host or None,
            listener.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
        family, address = found[0], found[4]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"[engine] hosts: cannot listen at {listener.text}: {error.strerror or error}",
            hint="is the address this host's, and the port free?",
        ) from error
    return listening


def unix_socket(path: Path, group: str) -> socket.socket:
    """Make a listening socket with its final mode and owner before it gets its name.

    What a killed daemon left at *path* is replaced: the caller holds the lock that makes it the
    only daemon.

    :raises ConfigError: it cannot be made there.
    """
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*"):
        stale.unlink(missing_ok=True)  # of a daemon that was killed at this very point
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listening.bind(str(staged))
        except OSError as error:
            raise ConfigError(
                f"the socket {path} cannot be made: {error.strerror or error}",
                hint="a socket's path has at most about 90 characters; see [engine] socket",
            ) from error
        staged.chmod(0o660)
        with contextlib.suppress(KeyError):
            os.chown(staged, 0, grp.getgrnam(group).gr_gid)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        staged.rename(path)
    except BaseException:
        listening.close()
        staged.unlink(missing_ok=True)
        raise
    return listening
