"""Where the daemon is: an option, the environment, the configuration file, the default."""

from __future__ import annotations

import os

from pannier.errors import ConfigError, InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_CONFIG",
    "DEFAULT_SOCKET",
    "Address",
    "TlsFiles",
    "docker_folder",
    "parse_address",
    "resolve_address",
    "tls_from_folder",
]

DEFAULT_CONFIG = "/etc/pannier/pannier.toml"
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

    :param tls: what to speak TLS with to a TCP address; None for not at all.
    :raises InvalidRequest: for any other form.
    """
    if text.startswith("/"):
        return Address(path=text)
    scheme, separator, rest = text.partition("://")
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


def resolve_address(
    host: str | None,
    config: str | None,
    environ: Mapping[str, str] | None = None,
    *,
    context: str | None = None,
    tls: TlsFiles | None = None,
) -> Address:
    """Return the daemon's address.

    In this order: the option ``--host``; ``--context``; ``PANNIER_HOST``; ``DOCKER_HOST``;
    ``DOCKER_CONTEXT``; the current context of docker's settings; ``[engine] socket`` of the
    configuration file; the default socket.

    :param config: the configuration file that ``--config`` named, if any.
    :param tls: what ``--tls`` and its like say; None leaves it to the environment.
    :raises ConfigError: where a file was named and cannot be read, or is no TOML.
    """
    env = os.environ if environ is None else environ
    named = host or (not context and (env.get("PANNIER_HOST") or env.get("DOCKER_HOST")))
    if named:
        return parse_address(named, tls or tls_from_environment(env))
    folder = docker_folder(env)
    chosen = context or env.get("DOCKER_CONTEXT") or (not config and _current_context(folder))
    if chosen and chosen != "default":
        from pannier.client.contexts import Contexts  # noqa: PLC0415 - few have any

        return Contexts(folder).address(chosen)
    wanted = config or env.get("PANNIER_CONFIG")
    return Address(path=_configured(wanted) or DEFAULT_SOCKET, explicit=False)


def _current_context(folder: str) -> str:
    """Return the current context's name; empty where there is none, or no such file."""
    try:
        with open(f"{folder}/config.json", "rb") as file:  # noqa: PTH123 - as below
            text = file.read()
    except OSError:
        return ""
    if b'"currentContext"' not in text:
        return ""  # as nearly always: then nothing need be parsed
    import json  # noqa: PLC0415 - as above

    try:
        name = json.loads(text).get("currentContext")
    except (ValueError, AttributeError):
        return ""
    return name if isinstance(name, str) else ""


def _configured(wanted: str | None) -> str | None:
    """Return ``[engine] socket``, importing the TOML reader only where there is a file."""
    path = wanted or DEFAULT_CONFIG
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs 5 ms of every start
            import tomllib  # noqa: PLC0415 - costs 6 ms; most hosts have no file

            table = tomllib.load(file)
    except FileNotFoundError:
        if wanted is None:
            return None
        raise ConfigError(f"{path}: no such file", hint="pannier config init writes one") from None
    except PermissionError:
        # The file is root's; the default is as good a guess as any for others.
        if wanted is None:
            return None
        raise ConfigError(f"{path}: permission denied", hint="run as root") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", hint="pannier config check explains it") from error
    engine = table.get("engine")
    socket = engine.get("socket") if isinstance(engine, dict) else None
    if socket is None:
        return None
    if not isinstance(socket, str) or not socket:
        raise ConfigError(
            f"{path}: [engine] socket must be a path", hint="pannier config check explains it"
        )
    return socket.removeprefix("unix://")
