"""Every line to a syslog server; what was sent is kept as well, for ``logs``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pannier.drivers.log import LogCapability, LogDriver, LogForm, LogSink
from pannier.drivers.logoptions import check_tag, expand_tag, flag, refuse_unknown, rotation
from pannier.errors import InvalidRequest
from pannier_log_syslog.message import FORMATS, Form, facility
from pannier_log_syslog.transport import Address, Connection, parse_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from pannier.drivers.base import DriverContext
    from pannier.drivers.log import LogEntry, LogSource

__all__ = ["Syslog", "SyslogConfig"]

_CACHE = ("cache-disabled", "cache-max-size", "cache-max-file", "cache-compress")
_OPTIONS = (
    *("syslog-address", "syslog-facility", "syslog-format", "tag"),
    *("labels", "labels-regex", "env", "env-regex"),
    *_CACHE,
)


@dataclass(frozen=True)
class SyslogConfig:
    """The table ``[log.syslog]``: what holds for containers whose options do not say.

    :param address: ``udp://HOST[:PORT]``, ``tcp://HOST[:PORT]``, ``unix:///PATH`` or
        ``unixgram:///PATH``; empty for this host's own daemon.
    :param facility: a name, as ``local0``, or a number.
    :param format: empty, ``rfc3164``, ``rfc5424`` or ``rfc5424micro``.
    :param tag: a template.
    """

    address: str = ""
    facility: str = "daemon"
    format: str = ""
    tag: str = "{{.ID}}"

    def __post_init__(self) -> None:
        """Refuse what no container could be logged with."""
        _Settings.read({}, self)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What options and configuration come to."""

    address: Address
    facility: int
    format: str
    tag: str

    @classmethod
    def read(cls, options: Mapping[str, str], config: SyslogConfig) -> _Settings:
        """Read the options.

        :raises InvalidRequest: a value is wrong.
        """
        form = options.get("syslog-format", config.format)
        if form not in FORMATS:
            raise InvalidRequest(
                f"Invalid syslog format: {form}",
                hint=f"formats: {', '.join(name for name in FORMATS if name)}",
            )
        tag = options.get("tag", config.tag)
        check_tag(tag)
        return cls(
            parse_address(options.get("syslog-address", config.address)),
            facility(options.get("syslog-facility", config.facility)),
            form,
            tag,
        )


class Syslog(LogDriver):
    """Sends lines as Docker's driver of this name does.

    Files of the size that Docker's cache has hold what is to be sent and what was sent last.
    """

    id: ClassVar[str] = "syslog"
    config_type: ClassVar[type[SyslogConfig]] = SyslogConfig
    capabilities: ClassVar[AbstractSet[LogCapability]] = frozenset(LogCapability)

    @classmethod
    def probe(cls, context: DriverContext, config: SyslogConfig) -> None:
        """Work everywhere: a server need not be there before a container logs to it."""

    def __init__(self, context: DriverContext, config: SyslogConfig) -> None:  # noqa: ARG002 - the engine keeps the files
        self._config = config

    def check(self, options: Mapping[str, str]) -> None:
        """Check names and values; the server is not asked."""
        refuse_unknown(self.id, options, _OPTIONS)
        _Settings.read(options, self._config)
        self.form(options)

    def form(self, options: Mapping[str, str]) -> LogForm:
        """Return the limits of the cache, which ``cache-disabled`` keeps ``logs`` from reading."""
        form = rotation(options, "20m", 5, "cache-")
        return replace(form, readable=not flag(options, "cache-disabled"))

    def open(self, source: LogSource, options: Mapping[str, str]) -> LogSink:
        """Connect to the server."""
        settings = _Settings.read(options, self._config)
        form = Form(
            settings.format, settings.facility, source.host, expand_tag(settings.tag, source)
        )
        return _Sink(form, Connection(settings.address))


class _Sink(LogSink):
    def __init__(self, form: Form, connection: Connection) -> None:
        self._form = form
        self._connection = connection

    def write(self, entries: Sequence[LogEntry]) -> None:
        self._connection.send([self._form.message(entry) for entry in entries])

    def close(self) -> None:
        self._connection.close()
