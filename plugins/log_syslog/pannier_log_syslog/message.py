"""A line as a syslog message: RFC 3164, RFC 5424, and what local daemons read.

The forms are those of Docker's driver of this name, so that a server's rules need no change.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pannier.drivers.logfile import STDERR
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pannier.drivers.log import LogEntry

__all__ = ["FORMATS", "Form", "facility"]

FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
"""Without one, as rfc3164 without the host's name: local daemons fill that in."""

_FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron"),
    *("authpriv", "ftp", "", "", "", ""),
    *(f"local{number}" for number in range(8)),
)
"""By number, RFC 5424, section 6.2.1."""

_ERROR, _INFORMATIONAL = 3, 6
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LONGEST_NAME = 48
"""Of an application, in RFC 5424's characters."""


def facility(name: str) -> int:
    """Return a facility's number; *name* as ``local0``, or the number itself.

    :raises InvalidRequest: there is none such.
    """
    if name in _FACILITIES and name:
        return _FACILITIES.index(name)
    if name.isascii() and name.isdecimal() and int(name) < len(_FACILITIES):
        return int(name)
    raise InvalidRequest(
        f"invalid syslog facility: {name!r}", hint="for instance daemon, user or local0"
    )


@dataclass(frozen=True, slots=True)
class Form:
    """How one container's lines become messages.

    :param name: one of :data:`FORMATS`.
    :param facility: its number.
    :param host: the host's name.
    """

    name: str
    facility: int
    host: str
    tag: str

    def message(self, entry: LogEntry) -> bytes:
        """Return the message of a line: without a newline, and without a NUL, which may end one."""
        severity = _ERROR if entry.stream == STDERR else _INFORMATIONAL
        text = entry.data.rstrip(b"\n").replace(b"\0", b"#000")
        return self._head(self.facility * 8 + severity, entry.time) + text

    def _head(self, priority: int, time: int) -> bytes:
        seconds, rest = divmod(time, 1_000_000_000)
        tag, pid = self.tag, os.getpid()
        if self.name.startswith("rfc5424"):
            moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
            micro = "microseconds" if self.name == "rfc5424micro" else "seconds"
            stamp = moment.replace(tzinfo=None).isoformat(timespec=micro)
            name = _printable(tag)[:_LONGEST_NAME] or "-"
            return (
                f"<{priority}>1 {stamp}Z {_printable(self.host) or '-'} {name} {pid} {name} - "
            ).encode()
        # RFC 3164 has the host's local time, and no year.
        local = datetime.fromtimestamp(seconds).astimezone()
        stamp = f"{_MONTHS[local.month - 1]} {local.day:2} {local:%H:%M:%S}"
        host = f"{self.host} " if self.name else ""
        return f"<{priority}>{stamp} {host}{tag}[{pid}]: ".encode()


def _printable(text: str) -> str:
    """Return a header field: printable ASCII without a space."""
    return "".join(char if "!" <= char <= "~" else "_" for char in text)
