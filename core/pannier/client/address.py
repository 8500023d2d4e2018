"""Addresses of daemons, as they are written, and the files to speak TLS with."""

from __future__ import annotations

import os

from pannier.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_SOCKET",
    "Address",
    "TlsFiles",
    "docker_folder",
    "parse_address",
    "tls_from_environment",
    "tls_from_folder",
]

DEFAULT_SOCKET = "/run/pannier/pannier.sock"
_TCP_PORT = 2375
_TLS_PORT = 2376


class Address:
    """A daemon's address: a unix socket's path, a host and a port, or a host to reach by ssh.

    A plain class, since importing ``dataclasses`` costs more than all of this package.

    :param explicit: somebody named this address; where it is False the address is Pannier's own
        default, and the command line may start a daemon there.
    :param tls: the files to speak TLS with; None for none.
    :param user: with *ssh* the user on the other host; empty for ssh's own choice.
    """

    __slots__ = ("explicit", "host", "path", "port", "ssh", "tls", "user")

    def __init__(
        self,
        *,
        path: str = "",
        host: str = "",
        port: int = 0,
        explicit: bool = True,
        tls: TlsFiles | None = None,
        ssh: bool = False,
        user: str = "",
    ) -> None:
        self.tls = tls
        self.ssh = ssh
        self.user = user
        self.path = path
        self.host = host
        self.port = port
        self.explicit = explicit

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.ssh:
            user = f"{self.user}@" if self.user else ""
            port = f":{self.port}" if self.port else ""
            return f"ssh://{user}{host}{port}{self.path}"
        if self.path:
            return f"unix://{self.path}"
        return f"tcp://{host}:{self.port}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class TlsFiles:
    """What to speak TLS with.

    :param ca: a PEM file with the authority that signed the daemon's certificate; empty for the
        system's authorities.
    :param certificate: a PEM file to identify with, with *key*; empty for none.
    :param verify: check who the daemon is.
    """

    __slots__ = ("ca", "certificate", "key", "verify")

    def __init__(
        self, ca: str = "", certificate: str = "", key: str = "", *, verify: bool = True
    ) -> None:
        self.ca = ca
        self.certificate = certificate
        self.key = key
        self.verify = verify


def tls_from_folder(folder: str, *, verify: bool) -> TlsFiles:
    """Return those of ``ca.pem``, ``cert.pem`` and ``key.pem`` that a folder has."""
    paths = [f"{folder}/{name}.pem" for name in ("ca", "cert", "key")]
    ca, certificate, key = (path if os.path.exists(path) else "" for path in paths)  # noqa: PTH110 - pathlib costs 5 ms of every start
    return TlsFiles(ca, certificate, key, verify=verify)


def tls_from_environment(environ: Mapping[str, str]) -> TlsFiles | None:
    """Return what DOCKER_TLS_VERIFY, DOCKER_TLS and DOCKER_CERT_PATH ask for."""
    if not (environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_TLS")):
        return None
    folder = environ.get("DOCKER_CERT_PATH") or docker_folder(environ)
    return tls_from_folder(folder, verify=bool(environ.get("DOCKER_TLS_VERIFY")))


def docker_folder(environ: Mapping[str, str]) -> str:
    """Return the folder of the user's settings that docker's clients share."""
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - as above
    return environ.get("DOCKER_CONFIG") or f"{home}/.docker"


def parse_address(text: str, tls: TlsFiles | None = None) -> Address:
    """Read ``unix:///path``, ``/path``, ``tcp://host[:port]`` or ``ssh://[user@]host[:port]``.

    Without a scheme, ``host:port`` is TCP, as with docker.

    :param tls: what to speak TLS with to a TCP address; None for not at all.
    :raises InvalidRequest: for any other form.
    """
    if text.startswith("/"):
        return Address(path=text)
    scheme, separator, rest = text.partition("://")
    if not separator and ":" in text:
        scheme, separator, rest = "tcp", "://", text
    if separator and scheme == "unix" and rest.startswith("/"):
        return Address(path=rest)
    if separator and scheme in ("tcp", "http", "https"):
        if scheme == "https" and tls is None:
            tls = TlsFiles()
        return _tcp(text, rest, tls)
    if separator and scheme == "ssh" and rest:
        return _ssh(text, rest)
    raise InvalidRequest(
        f"{text!r} is not a daemon's address",
        hint="write unix:///path/to/socket, tcp://host:port or ssh://user@host",
    )


def _tcp(text: str, rest: str, tls: TlsFiles | None) -> Address:
    host, port = _host_and_port(text, rest.partition("/")[0])
    default = _TCP_PORT if tls is None else _TLS_PORT
    return Address(host=host or "localhost", port=port or default, tls=tls)


def _ssh(text: str, rest: str) -> Address:
    place, slash, path = rest.partition("/")
    user, at, place = place.rpartition("@")
    if ":" in user:
        raise InvalidRequest("an ssh address has no password in it", hint="ssh has keys, and asks")
    if "?" in rest or "#" in rest:
        raise InvalidRequest(f"{text!r} has more than a host", hint="write ssh://user@host")
    host, port = _host_and_port(text, place)
    # ssh would take a leading dash for an option, whatever stands before it.
    if not host or host.startswith("-") or user.startswith("-") or (at and not user):
        raise InvalidRequest(f"{text!r} names no host", hint="write ssh://user@host")
    return Address(ssh=True, host=host, port=port, user=user, path=slash + path)


def _host_and_port(text: str, rest: str) -> tuple[str, int]:
    host, port = rest, "0"
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        port = tail[1:] if tail.startswith(":") else port
    elif ":" in rest:
        host, _, port = rest.rpartition(":")
    explicit = rest.endswith(f":{port}")
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16) or (
        explicit and int(port) == 0
    ):
        raise InvalidRequest(f"{text!r} has no valid port", hint="write tcp://host:port")
    return host, int(port)
