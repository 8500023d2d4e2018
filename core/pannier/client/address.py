"""Where the daemon is: an option, the environment, the configuration file, the default."""

from __future__ import annotations

import os

from pannier.errors import ConfigError, InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_CONFIG", "DEFAULT_SOCKET", "Address", "parse_address", "resolve_address"]

DEFAULT_CONFIG = "/etc/pannier/pannier.toml"
DEFAULT_SOCKET = "/run/pannier/pannier.sock"
_TCP_PORT = 2375


class Address:
    """A daemon's address: a unix socket's path, or a host and a port.

    A plain class, since importing ``dataclasses`` costs more than all of this package.

    :param explicit: somebody named this address; where it is False the address is Pannier's own
        default, and the command line may start a daemon there.
    """

    __slots__ = ("explicit", "host", "path", "port")

    def __init__(
        self, *, path: str = "", host: str = "", port: int = 0, explicit: bool = True
    ) -> None:
        self.path = path
        self.host = host
        self.port = port
        self.explicit = explicit

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def parse_address(text: str) -> Address:
    """Read ``unix:///path``, ``/path`` or ``tcp://host[:port]``.

    :raises InvalidRequest: for any other form; TLS and ssh are named as not offered.
    """
    if text.startswith("/"):
        return Address(path=text)
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix" and rest.startswith("/"):
        return Address(path=rest)
    if separator and scheme in ("tcp", "http"):
        return _tcp(text, rest)
    if separator and scheme in ("https", "ssh"):
        raise InvalidRequest(
            f"cannot reach {text!r}: {scheme} is not offered",
            hint="use a unix socket, or forward one: ssh -L /tmp/p.sock:/run/pannier/pannier.sock",
        )
    raise InvalidRequest(
        f"{text!r} is not a daemon's address",
        hint="write unix:///path/to/socket or tcp://host:port",
    )


def _tcp(text: str, rest: str) -> Address:
    if os.environ.get("DOCKER_TLS_VERIFY"):
        raise InvalidRequest(
            f"cannot reach {text!r}: TLS is not offered", hint="unset DOCKER_TLS_VERIFY"
        )
    rest = rest.partition("/")[0]
    host, port = rest, str(_TCP_PORT)
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        port = tail[1:] if tail.startswith(":") else port
    elif ":" in rest:
        host, _, port = rest.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise InvalidRequest(f"{text!r} has no valid port", hint="write tcp://host:port")
    return Address(host=host or "localhost", port=int(port))


def resolve_address(
    host: str | None,
    config: str | None,
    environ: Mapping[str, str] | None = None,
) -> Address:
    """Return the daemon's address.

    In this order: the option ``--host``; ``PANNIER_HOST``; ``DOCKER_HOST``; ``[engine] socket``
    of the configuration file; the default socket.

    :param config: the configuration file that ``--config`` named, if any.
    :raises ConfigError: where a file was named and cannot be read, or is no TOML.
    """
    env = os.environ if environ is None else environ
    named = host or env.get("PANNIER_HOST") or env.get("DOCKER_HOST")
    if named:
        return parse_address(named)
    wanted = config or env.get("PANNIER_CONFIG")
    return Address(path=_configured(wanted) or DEFAULT_SOCKET, explicit=False)


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
