"""The TOML configuration file: load, validate, write.

``[engine]`` and ``[drivers]`` are the core's own; every other table is a kind of driver, with
one sub-table for each driver (``[storage.overlay]``), checked against the dataclass that the driver
itself brings. What is wrong is named with file, line where it can be found, key, what was expected,
and the nearest valid name.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Union

from pannier.errors import ConfigError, InvalidRequest

__all__ = [
    "DEFAULT_PATH",
    "KINDS",
    "Config",
    "DriversTable",
    "EngineTable",
    "Origin",
    "RegistriesTable",
    "RegistryTable",
    "find",
    "load",
    "parse",
    "read_table",
    "render",
]

DEFAULT_PATH = Path("/etc/pannier/pannier.toml")
VARIABLE = "PANNIER_CONFIG"
KINDS = ("storage", "network", "resources", "runtime", "log")

T = TypeVar("T")

_DAY = 86400


@dataclass(frozen=True)
class EngineTable:
    """The table ``[engine]``.

    :param root: what survives a reboot: images, layers, volumes, the database.
    :param state: what does not: sockets, pids, namespaces.
    :param socket: where the daemon listens, and the command line looks for it.
    :param hosts: where it listens besides: ``unix:///PATH`` or ``tcp://ADDRESS:PORT``. Whoever
        may speak to it is root on this host, so TCP is served with TLS, to clients that show a
        certificate.
    :param tls_ca: a PEM file with the authority that signs the clients' certificates.
    :param tls_cert: a PEM file with the daemon's own certificate.
    :param tls_key: a PEM file with its key, without a passphrase.
    :param insecure_loopback: serve TCP addresses of the loopback interface without TLS; every
        user of this host is root then.
    :param experimental: tell clients that experimental features are on, without which older ones
        refuse options that are none here (``--platform``).
    :param group: who may use the socket besides root, where that group exists.
    :param userns_remap: ``uid:gid:size`` of the ids that containers' ids are mapped to, a user's
        name to look up in /etc/subuid and /etc/subgid, or empty for the host's own ids.
    """

    root: Path = Path("/var/lib/pannier")
    state: Path = Path("/run/pannier")
    socket: Path = Path("/run/pannier/pannier.sock")
    group: str = "pannier"
    userns_remap: str = ""
    hosts: tuple[str, ...] = ()
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure_loopback: bool = False
    experimental: bool = False


@dataclass(frozen=True)
class DriversTable:
    """The table ``[drivers]``: a driver's id for each kind, or ``auto``.

    :param patience: seconds that a driver may take to be opened, and for a short step; one that
        takes longer counts as failed. Copying data is not limited. To be imported and probed it has
        :data:`pannier.bounded.LOADING`.
    """

    storage: str = "auto"
    resources: str = "auto"
    runtime: str = "auto"
    network: str = "auto"
    log: str = "auto"
    patience: float = 300.0

    def __post_init__(self) -> None:
        """Refuse a limit that nothing could keep."""
        if not 0 < self.patience <= _DAY:
            raise ValueError(f"patience must be positive, and at most {_DAY} (a day)")


@dataclass(frozen=True)
class RegistriesTable:
    """The table ``[registries]``: what holds for all of them.

    :param parallel: how many layers of an image are transferred at once.
    :param certificates: folders with ``HOST[:PORT]/*.crt``, as Docker's certs.d; the first that
        has a host's folder counts.
    :param timeout: seconds without a byte after which a connection counts as broken.
    """

    parallel: int = 3
    certificates: tuple[Path, ...] = (Path("/etc/pannier/certs.d"), Path("/etc/docker/certs.d"))
    timeout: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what would never get on."""
        if self.parallel < 1 or self.timeout <= 0:
            raise ValueError("parallel and timeout must be positive")


@dataclass(frozen=True)
class RegistryTable:
    """The table ``[registry."HOST"]``: how one registry is reached.

    :param mirrors: URLs that are tried before the registry itself, for pulls only.
    :param insecure: accept plain HTTP and unverified certificates.
    :param ca_file: a certificate authority to trust besides the system's.
    :param client_certificate: a PEM file to identify with; *client_key* goes with it.
    """

    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None


@dataclass(frozen=True)
class Origin:
    """Where a table came from, for error messages."""

    path: Path | None = None
    text: str = ""

    def place(self, table: str, key: str) -> str:
        """Return ``file:line`` of a key, as far as it can be found."""
        if self.path is None:
            return "the configuration"
        line = _line_of(self.text, table, key)
        return f"{self.path}:{line}" if line else str(self.path)


@dataclass(frozen=True)
class Config:
    """A whole configuration.

    :param tables: the drivers' tables, by kind and id, not yet checked.
    """

    engine: EngineTable = EngineTable()
    drivers: DriversTable = DriversTable()
    registries: RegistriesTable = RegistriesTable()
    registry: Mapping[str, RegistryTable] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    origin: Origin = Origin()

    def driver_config(self, kind: str, id: str, config_type: type[T]) -> T:
        """Return the configuration of one driver, as an instance of its dataclass.

        :raises ConfigError: a wrong key, type or value.
        """
        raw = self.tables.get(kind, {}).get(id, {})
        return read_table(config_type, raw, f"{kind}.{id}", self.origin)


def find(explicit: str | None = None) -> Path | None:
    """Return the file to read: the given one, ``$PANNIER_CONFIG``, or the default where it exists.

    :raises ConfigError: a file was named that is not there.
    """
    named = explicit or os.environ.get(VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file():
            raise ConfigError(
                f"the configuration file {path} does not exist",
                hint=f"write one with: pannier --config {path} config init",
            )
        return path
    return DEFAULT_PATH if DEFAULT_PATH.is_file() else None


def load(explicit: str | None = None) -> Config:
    """Read the configuration file, or return the defaults where there is none.

    :raises ConfigError: it cannot be read, or something in it is wrong.
    """
    path = find(explicit)
    if path is None:
        return Config()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error}") from error
    return parse(text, path)


def parse(text: str, path: Path | None = None) -> Config:
    """Return the configuration that *text* holds.

    :param path: where it was read, for error messages.
    :raises ConfigError: as :func:`load`.
    """
    origin = Origin(path, text)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path or 'the configuration'} is no valid TOML: {error}") from error
    known = ("engine", "drivers", "registries", "registry", *KINDS)
    for name, value in document.items():
        if name not in known:
            raise ConfigError(
                f"{origin.place(name, '')}: there is no table [{name}]", hint=_nearest(name, known)
            )
        if not isinstance(value, dict):
            raise ConfigError(f"{origin.place('', name)}: {name} must be a table, as [{name}]")
    for kind in (*KINDS, "registry"):
        for id, table in document.get(kind, {}).items():
            if not isinstance(table, dict):
                raise ConfigError(
                    f"{origin.place(kind, id)}: {kind}.{id} must be a table",
                    hint=f"options belong to one of them: write [{kind}.NAME] above them",
                )
    return Config(
        engine=read_table(EngineTable, document.get("engine", {}), "engine", origin),
        drivers=read_table(DriversTable, document.get("drivers", {}), "drivers", origin),
        registries=read_table(
            RegistriesTable, document.get("registries", {}), "registries", origin
        ),
        registry={
            host: read_table(RegistryTable, table, f"registry.{host}", origin)
            for host, table in document.get("registry", {}).items()
        },
        tables={kind: document.get(kind, {}) for kind in KINDS},
        origin=origin,
    )


def read_table(kind: type[T], raw: Mapping[str, Any], table: str, origin: Origin) -> T:
    """Check a table against a dataclass and return the instance.

    :param table: its name in the file, such as ``storage.overlay``.
    :raises ConfigError: a wrong key, type or value.
    """
    hints = typing.get_type_hints(kind)
    names = [item.name for item in dataclasses.fields(typing.cast("Any", kind))]
    values = {}
    for key, value in raw.items():
        place = origin.place(table, key)
        if key not in names:
            raise ConfigError(f"{place}: [{table}] has no key {key!r}", hint=_nearest(key, names))
        try:
            values[key] = _convert(hints[key], value)
        except TypeError:
            raise ConfigError(
                f"{place}: {key} in [{table}] must be {_expected(hints[key])}, not {value!r}"
            ) from None
    try:
        return kind(**values)
    except (ValueError, InvalidRequest) as error:  # from its __post_init__
        raise ConfigError(f"{origin.place(table, '')}: [{table}]: {error}") from error


def _convert(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = next(item for item in typing.get_args(hint) if item is not type(None))
        return _convert(inner, value)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(typing.get_args(hint)[0], item) for item in value)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, dict):
            return {key: _convert(typing.get_args(hint)[1], item) for key, item in value.items()}
        raise TypeError
    if hint is Path and isinstance(value, str) and value.startswith("/"):
        return Path(value)
    if hint is float and type(value) is int:
        return float(value)
    # bool is an int to isinstance, but not to a reader of the file.
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise TypeError


def _expected(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _expected(next(item for item in typing.get_args(hint) if item is not type(None)))
    if origin is tuple:
        return f"a list, each {_expected(typing.get_args(hint)[0])}"
    if origin is not None:
        return "a table"
    return {
        str: "a string",
        int: "a whole number",
        bool: "true or false",
        float: "a number",
        Path: "an absolute path in quotes",
    }.get(hint, str(hint))


def _nearest(name: str, known: typing.Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"valid names are: {', '.join(known)}"


def _line_of(text: str, table: str, key: str) -> int:
    """Return the line (from 1) of *key* in *table*, or of the table's header; 0 if not found."""
    current = ""
    header_line = 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)
        if header:
            current = header[1].replace('"', "").replace(" ", "")
            if current == table:
                header_line = number
                if not key:
                    return number
            continue
        assignment = re.match(r"\s*([\w\".-]+)\s*=", line)
        if assignment and key:
            full = f"{current}.{assignment[1]}".strip(".").replace('"', "")
            if full == f"{table}.{key}".strip("."):
                return number
    return header_line


def render(config: Config) -> str:
    """Return the configuration as TOML text, the core's tables whole, drivers' tables as set."""
    import tomli_w  # noqa: PLC0415 - only `config show` and `config init` write

    document: dict[str, Any] = {
        "engine": _plain(dataclasses.asdict(config.engine)),
        "drivers": _plain(dataclasses.asdict(config.drivers)),
        "registries": _plain(dataclasses.asdict(config.registries)),
    }
    if config.registry:
        document["registry"] = {
            host: _plain(dataclasses.asdict(table)) for host, table in config.registry.items()
        }
    document.update({kind: _plain(table) for kind, table in config.tables.items() if table})
    return tomli_w.dumps(document)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
