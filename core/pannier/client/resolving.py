"""Where the daemon is: an option, the environment, a context, the configuration, the default."""

from __future__ import annotations

import os

from pannier.client.address import (
    DEFAULT_SOCKET,
    Address,
    docker_folder,
    parse_address,
    tls_from_environment,
)
from pannier.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.client.address import TlsFiles

__all__ = ["DEFAULT_CONFIG", "resolve_address"]

DEFAULT_CONFIG = "/etc/pannier/pannier.toml"


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
    ``DOCKER_CONTEXT``; the current context of docker's settings; docker's port for TLS on this
    host where TLS is asked for; ``[engine] socket`` of the configuration file; the default socket.

    :param config: the configuration file that ``--config`` named, if any.
    :param tls: what ``--tls`` and its like say; None leaves it to the environment.
    :raises ConfigError: where a file was named and cannot be read, or is no TOML.
    """
    env = os.environ if environ is None else environ
    tls = tls or tls_from_environment(env)
    named = host or (not context and (env.get("PANNIER_HOST") or env.get("DOCKER_HOST")))
    if named:
        return parse_address(named, tls)
    folder = docker_folder(env)
    chosen = context or env.get("DOCKER_CONTEXT") or (not config and _current_context(folder))
    if chosen and chosen != "default":
        from pannier.client.contexts import Contexts  # noqa: PLC0415 - few have any

        return Contexts(folder).address(chosen)
    if tls is not None:
        # Never by another way than the one that was asked for.
        return parse_address("tcp://localhost", tls)
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
