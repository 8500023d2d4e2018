"""The driver against the kit, with a server of the tests' own behind it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from pannier.testing.log import LogConformance
from pannier_log_syslog.driver import Syslog, SyslogConfig
from support.syslog import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pannier.drivers.base import DriverContext

pytest_plugins = "pannier.testing.plugin"
pytestmark = pytest.mark.root


class SyslogTests(LogConformance):
    """What is the same for each kind of socket."""

    kind = socket.SOCK_STREAM
    wrong_options = (
        {"syslog-facility": "x"},
        {"syslog-format": "rfc1"},
        {"syslog-address": "nowhere"},
        {"tag": "{{.Nothing}}"},
    )

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Server]:
        """Run a server for the test."""
        server = Server(tmp_path / "log", self.kind)
        yield server
        server.close()

    @pytest.fixture
    def options(self, server: Server) -> Mapping[str, str]:
        """Have containers log to it."""
        return {"syslog-address": server.address, "tag": "{{.Name}}"}

    @pytest.fixture
    def arrived(self, server: Server) -> Callable[[], list[bytes]]:
        """Look at what it has read."""
        return server.lines

    @pytest.fixture
    def outage(self, server: Server) -> Callable[[], AbstractContextManager[None]]:
        """Take it down for a while."""
        return server.outage

    @pytest.fixture
    def open_driver(self) -> Callable[[DriverContext], Syslog]:
        """Return a function that opens the driver."""
        return lambda context: Syslog(context, SyslogConfig())


class TestSyslogStream(SyslogTests):
    """The contract, as the driver ``syslog`` holds it on a stream."""


class TestSyslogDatagrams(SyslogTests):
    """And with a datagram for each line."""

    kind = socket.SOCK_DGRAM
