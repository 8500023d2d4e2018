"""Lines as syslog messages, and where they are sent."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.log import LogEntry
from pannier.drivers.logfile import STDERR, STDOUT
from pannier.errors import InvalidRequest
from pannier_log_syslog.message import Form, facility
from pannier_log_syslog.transport import Address, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator

MOMENT = 1_717_236_305_123_456_789  # 2024-06-01 10:05:05.123456789 UTC
PID = os.getpid()


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this process's local time be two hours ahead of UTC."""
    monkeypatch.setenv("TZ", "XXX-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("", f"<30>Jun  1 12:05:05 web[{PID}]: "),
        ("rfc3164", f"<30>Jun  1 12:05:05 here web[{PID}]: "),
        ("rfc5424", f"<30>1 2024-06-01T10:05:05Z here web {PID} web - "),
        ("rfc5424micro", f"<30>1 2024-06-01T10:05:05.123456Z here web {PID} web - "),
    ],
)
def test_formats(name: str, head: str) -> None:
    """Each has the line's own time: of the host in RFC 3164, UTC in RFC 5424."""
    form = Form(name, facility("daemon"), "here", "web")
    assert form.message(LogEntry(MOMENT, STDOUT, b"hello\n")) == head.encode() + b"hello"


def test_what_was_written_as_an_error() -> None:
    """It has the severity 3, and the facility that was asked for."""
    form = Form("", facility("local3"), "here", "web")
    assert form.message(LogEntry(MOMENT, STDERR, b"oh\n")).startswith(b"<155>")


def test_headers_cannot_be_forged() -> None:
    """A tag with blanks stays one field of RFC 5424, of 48 characters; a NUL ends no message."""
    form = Form("rfc5424", 3, "my host", "a b\n" + "c" * 60)
    message = form.message(LogEntry(MOMENT, STDOUT, b"x\0y\n"))
    tag = re.escape(b"a_b_" + b"c" * 44)
    assert re.fullmatch(rb"<30>1 \S+ my_host %b \d+ %b - x#000y" % (tag, tag), message)


def test_facilities() -> None:
    """By name or number."""
    names = ["kern", "user", "daemon", "cron", "ftp", "local0", "local7", "5", "23"]
    assert [facility(name) for name in names] == [0, 1, 3, 9, 11, 16, 23, 5, 23]
    for wrong in ("", "nonsense", "24", "-1", "²"):
        with pytest.raises(InvalidRequest, match="invalid syslog facility"):
            facility(wrong)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", Address()),
        ("udp://logs.example", Address("udp", "logs.example", 514)),
        ("tcp://[::1]:1514", Address("tcp", "::1", 1514)),
        ("unix:///dev/log", Address("unix", path="/dev/log")),
        ("unixgram:///run/log", Address("unixgram", path="/run/log")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    """As Docker has them."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("logs.example:514", "should be in form proto://address"),
        ("http://logs", "should be in form proto://address"),
        ("tcp+tls://logs:6514", "tcp[+]tls is not offered"),
        ("udp://", "no HOST"),
        ("udp://a:99999", "99999|range"),
        ("udp://a/b", "no HOST"),
        ("unix://run/log", "no absolute path"),
    ],
)
def test_addresses_that_are_refused(text: str, words: str) -> None:
    """With what was wrong."""
    with pytest.raises(InvalidRequest, match=words):
        parse_address(text)
