"""Log drivers on a real daemon: chosen, listed, read, and delivered over its end and return."""

from __future__ import annotations

import json
import os
import re
import socket
from typing import TYPE_CHECKING

import pytest

from support.daemon import Daemon

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root


class Server:
    """A syslog server on a unix socket, in this process."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(60)
        self.address = f"unixgram://{path}"

    def lines(self, count: int) -> list[str]:
        """Return the next messages, without what comes before the tag."""
        found = [self._socket.recv(65536).decode() for _ in range(count)]
        return [re.sub(r"^<\d+>\w{3} [ \d]\d [\d:]{8} ", "", text) for text in found]

    def texts(self, count: int) -> list[str]:
        """Return what the containers wrote in the next messages."""
        return [line.partition(": ")[2] for line in self.lines(count)]

    def close(self) -> None:
        """Go away."""
        self._socket.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Give a server that listens."""
    found = Server(tmp_path / "syslog")
    yield found
    found.close()


def _run(daemon: Daemon, server: Server, *more: str) -> subprocess.CompletedProcess[str]:
    options = ["--log-opt", f"syslog-address={server.address}", "--log-opt", "tag={{.Name}}"]
    return daemon.cli("run", "--network", "none", "--log-driver", "syslog", *options, *more)


def test_lines_reach_the_server_and_logs(daemon: Daemon, server: Server) -> None:
    """Of a ``--rm`` container, too; what was sent can be read here as well."""
    _run(daemon, server, "--rm", "--name", "brief", "busybox", "echo", "in time")
    [line] = server.lines(1)
    assert re.fullmatch(r"brief\[\d+\]: in time", line)
    _run(daemon, server, "--name", "kept", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert set(server.texts(2)) == {"out", "err"}
    assert sorted(daemon.cli("logs", "kept").stdout.split()) == ["out"]
    config = daemon.inspect("kept")["HostConfig"]["LogConfig"]
    assert config["Type"] == "syslog"
    assert config["Config"] == {"syslog-address": server.address, "tag": "{{.Name}}"}
    daemon.cli("rm", "kept")


def test_over_a_killed_daemon(daemon: Daemon, server: Server, tmp_path: Path) -> None:
    """What a container writes while no daemon runs is delivered by the next one.

    Once; but the line that was being noted when the daemon was killed may come again.
    """
    # One for each step: of one for all, a read could see the end of the writing before.
    gates = [tmp_path / f"gate{number}" for number in range(4)]
    for gate in gates:
        os.mkfifo(gate)
    wait = "r() { read x </t/gate$1; }"
    script = f"{wait}; echo 0; r 0; echo 1; r 1; echo 2; printf 3; r 2; echo 4; r 3"
    mount = ("-v", f"{tmp_path}:/t")
    _run(daemon, server, "-d", "--name", "goes-on", *mount, "busybox", "sh", "-c", script)
    assert server.texts(1) == ["0"]
    gates[0].write_text("on\n")
    assert server.texts(1) == ["1"]
    daemon.kill()
    gates[1].write_text("on\n")
    with gates[2].open("w") as go:  # opens when the container has come to read there
        daemon.start()
        first = server.texts(1)
        assert (server.texts(1) if first == ["1"] else first) == ["2"]
        go.write("on\n")
    assert server.texts(1) == ["34"]
    daemon.cli("rm", "-f", "goes-on")


def test_a_server_that_is_away(daemon: Daemon, server: Server, tmp_path: Path) -> None:
    """The container runs, can be read, and its lines come when the server does."""
    server.close()
    (tmp_path / "syslog").unlink()
    _run(daemon, server, "-d", "--name", "waiting", "busybox", "echo", "at last")
    daemon.cli("wait", "waiting")
    assert daemon.cli("logs", "waiting").stdout == "at last\n"
    again = Server(tmp_path / "syslog")
    assert again.texts(1) == ["at last"]
    again.close()
    daemon.cli("rm", "waiting")


def test_logs_of_what_may_not_be_read(daemon: Daemon, server: Server) -> None:
    """Docker's words, also for a driver that keeps nothing."""
    _run(daemon, server, "--name", "closed", "--log-opt", "cache-disabled=true", "busybox", "true")
    daemon.cli("run", "--name", "silent", "--network", "none", "--log-driver", "none", "busybox")
    for name in ("closed", "silent"):
        refused = daemon.cli("logs", name, check=False)
        assert "configured logging driver does not support reading" in refused.stderr
        assert refused.returncode == 1
    daemon.cli("rm", "closed", "silent")


def test_wrong_options_make_no_container(daemon: Daemon) -> None:
    """The refusal is docker's, and comes before anything is made."""
    for arguments, words in (
        (["--log-driver", "stone"], "logger: no log driver named 'stone' is registered"),
        (["--log-opt", "bogus=1"], "unknown log opt 'bogus' for json-file log driver"),
        (["--log-driver", "local", "--log-opt", "max-size=x"], "invalid size"),
        (["--log-driver", "syslog", "--log-opt", "syslog-facility=x"], "invalid syslog facility"),
    ):
        refused = daemon.cli("create", *arguments, "busybox", check=False)
        assert words in refused.stderr
        assert refused.returncode == 1
    assert daemon.cli("ps", "-aq").stdout == ""


def test_the_default_driver_is_configured() -> None:
    """``[drivers] log``, with the driver's own table, is what ``info`` and containers say."""
    daemon = Daemon(drivers='log = "local"', log__local='max_size = "1k"\nmax_file = 2')
    try:
        daemon.start()
        info = json.loads(daemon.cli("info", "--format", "json").stdout)
        assert info["LoggingDriver"] == "local"
        assert set(info["Plugins"]["Log"]) == {"json-file", "local", "none", "syslog"}
        rows = daemon.cli("--config", str(daemon.config), "drivers").stdout.splitlines()
        assert ["*", "log", "local"] in [row.split()[:3] for row in rows]
        daemon.cli("run", "--name", "web", "--network", "none", "--rootfs", "/", "true")
        assert daemon.inspect("web")["HostConfig"]["LogConfig"] == {"Type": "local", "Config": {}}
    finally:
        daemon.close()
