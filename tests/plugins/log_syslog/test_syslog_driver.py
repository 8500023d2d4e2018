"""The driver ``syslog`` against servers: of each kind of socket, and one that goes away."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import DriverContext
from pannier.drivers.log import LogEntry, LogForm, LogSource
from pannier.drivers.logfile import STDERR, STDOUT
from pannier.errors import InvalidRequest
from pannier_log_syslog.driver import Syslog, SyslogConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTEXT = DriverContext(Path("/nowhere"), Path("/nowhere"))
SOURCE = LogSource("c0ffee" * 10 + "beef", "web", image_name="busybox", host="here")
ENTRIES = [LogEntry(10**18, STDOUT, b"one\n"), LogEntry(10**18, STDERR, b"two\n")]


def _driver(**config: str) -> Syslog:
    return Syslog(CONTEXT, SyslogConfig(**config))


@contextlib.contextmanager
def _listening(
    family: socket.AddressFamily, kind: socket.SocketKind, at: object
) -> Iterator[socket.socket]:
    with socket.socket(family, kind) as listener:
        listener.settimeout(60)
        listener.bind(at)  # type: ignore[arg-type]  # an address of either family
        if kind == socket.SOCK_STREAM:
            listener.listen()
        yield listener


def _messages(listener: socket.socket, count: int) -> list[bytes]:
    """Return what a server is sent: of a stream without the newlines between."""
    if listener.type == socket.SOCK_DGRAM:
        return [listener.recv(65536) for _ in range(count)]
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as file:
        return [file.readline().rstrip(b"\n") for _ in range(count)]


@pytest.mark.parametrize("scheme", ["udp", "tcp", "unix", "unixgram"])
def test_every_kind_of_server(scheme: str, tmp_path: Path) -> None:
    """Each line is a message of its own, with the tag that was asked for."""
    local = scheme.startswith("unix")
    family = socket.AF_UNIX if local else socket.AF_INET
    kind = socket.SOCK_STREAM if scheme in {"tcp", "unix"} else socket.SOCK_DGRAM
    with _listening(family, kind, str(tmp_path / "s") if local else ("127.0.0.1", 0)) as listener:
        name = listener.getsockname()
        address = f"{scheme}://{name if local else f'127.0.0.1:{name[1]}'}"
        options = {"syslog-address": address, "tag": "{{.ImageName}}/{{.Name}}"}
        driver = _driver(facility="local0", format="rfc3164")
        driver.check(options)
        sink = driver.open(SOURCE, options)
        with contextlib.closing(sink):
            sink.write(ENTRIES)
            first, second = _messages(listener, 2)
    assert first.startswith(b"<134>")
    assert second.startswith(b"<131>")
    assert b" here busybox/web[" in first
    assert (first[-6:], second[-6:]) == (b"]: one", b"]: two")


def test_a_server_that_closes_its_connection(tmp_path: Path) -> None:
    """Nothing is sent to where nobody reads any more; a new sink reaches the next server."""
    path = str(tmp_path / "s")
    driver = _driver(address=f"unix://{path}")
    with _listening(socket.AF_UNIX, socket.SOCK_STREAM, path) as listener:
        sink = driver.open(SOURCE, {})
        sink.write(ENTRIES)
        _messages(listener, 2)
        with pytest.raises(ConnectionResetError):
            sink.write(ENTRIES)
        sink.close()
    with pytest.raises(ConnectionRefusedError):
        driver.open(SOURCE, {})
    Path(path).unlink()
    with _listening(socket.AF_UNIX, socket.SOCK_STREAM, path) as listener:
        sink = driver.open(SOURCE, {})
        sink.write(ENTRIES)
        assert len(_messages(listener, 2)) == 2
        sink.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max-size": "1m"}, "unknown log opt 'max-size' for syslog log driver"),
        ({"syslog-address": "nowhere"}, "form proto://address"),
        ({"syslog-facility": "x"}, "invalid syslog facility"),
        ({"syslog-format": "rfc1"}, "Invalid syslog format: rfc1"),
        ({"tag": "{{.X}}"}, "invalid log opt tag"),
        ({"cache-max-size": "x"}, "cache-max-size"),
        ({"cache-disabled": "maybe"}, "cache-disabled"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], words: str) -> None:
    """When the container is made, not when it first writes."""
    with pytest.raises(InvalidRequest, match=words):
        _driver().check(options)


def test_a_wrong_table_is_refused() -> None:
    """Before any container is made."""
    with pytest.raises(InvalidRequest, match="invalid syslog facility"):
        SyslogConfig(facility="x")


def test_what_is_kept() -> None:
    """As much as Docker's cache; ``cache-disabled`` says that nobody may read it."""
    assert _driver().form({}) == LogForm(20 << 20, 5)
    options = {"cache-disabled": "true", "cache-max-size": "1m", "cache-max-file": "2"}
    assert _driver().form(options) == LogForm(1 << 20, 2, readable=False)
