"""Ways to a registry: through a proxy, and how long a client that has gone is waited for."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from support.daemon import Daemon, leftovers
from support.images import busybox_image
from support.proxy import Proxy
from support.registry import FaultyRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SOON = 20.0
"""Seconds, in which something ends that would take three times as long by itself."""


@pytest.fixture
def silent(daemon: Daemon) -> Iterator[socket.socket]:
    """Return a server on the daemon's loopback that takes connections and says nothing."""
    with daemon.inside():
        server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(_SOON)
    with server:
        yield server


class TestSilence:
    """A registry that does not answer."""

    @pytest.mark.parametrize(
        "words",
        [
            ("pull", "{host}/a/b:1"),
            ("push", "{host}/a/b:1"),
            ("search", "{host}/a"),
            ("login", "-u", "jo", "-p", "secret", "{host}"),
        ],
    )
    def test_it_holds_nothing_once_the_client_has_gone(
        self, daemon: Daemon, silent: socket.socket, words: tuple[str, ...]
    ) -> None:
        """The daemon hangs up at once, long before it would lose its patience."""
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        if words[0] == "push":
            daemon.cli("tag", "busybox", f"{host}/a/b:1")
        client = daemon.client(*(word.format(host=host) for word in words))
        try:
            connection, _ = silent.accept()
            with connection:
                connection.settimeout(_SOON)
                assert connection.recv(1)
                client.kill()
                while connection.recv(1 << 16):
                    pass
        finally:
            client.kill()
            client.communicate()
            if words[0] == "push":
                daemon.cli("rmi", f"{host}/a/b:1")


def test_a_daemon_goes_through_its_proxy(
    busybox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a registry, and to what a build adds; what is excepted is asked for directly."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    monkeypatch.setenv("NO_PROXY", "direct.test")
    daemon = Daemon(**{'registry."old.test:5000"': "insecure = true"})
    registry = FaultyRegistry()
    targets = {"old.test:5000": registry.host, "files.test:80": registry.host}
    try:
        daemon.start()
        daemon.cli("load", "-i", str(busybox))
        with daemon.inside():
            proxy = Proxy(targets, port=3128)
        with proxy:
            registry.put(busybox_image(), "1", "team/box")
            daemon.cli("pull", "old.test:5000/team/box:1")
            assert "GET http://old.test:5000/v2/team/box/manifests/1" in proxy.seen
            (tmp_path / "Dockerfile").write_text("FROM scratch\nADD http://files.test/v2/ /got\n")
            daemon.cli("build", "-t", "added", str(tmp_path))
            assert "GET http://files.test/v2/" in proxy.seen
            (tmp_path / "Dockerfile").write_text("FROM scratch\nADD http://direct.test/x /got\n")
            failed = daemon.cli("build", str(tmp_path), check=False)
            assert "cannot fetch http://direct.test/x" in failed.stderr
            assert not any("direct.test" in line for line in proxy.seen)
        assert "HTTP Proxy: http://127.0.0.1:3128" in daemon.cli("info").stdout
    finally:
        registry.close()
        daemon.close()
    assert leftovers(daemon) == []
