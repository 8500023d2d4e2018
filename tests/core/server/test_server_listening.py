"""Where the server listens, and to whom: no TCP for those who cannot show a certificate."""

from __future__ import annotations

import pytest

from pannier.errors import ConfigError
from pannier.server.listening import parse_hosts


@pytest.mark.parametrize(
    "host",
    [
        "tcp://0.0.0.0:2376",
        "tcp://:2375",
        "tcp://127.0.0.1:2375",
        "tcp://[::1]:2375",
        "tcp://example.com",
        "tcp://localhost.example.com:1",
    ],
)
def test_tcp_without_certificates_is_refused(host: str) -> None:
    """On any address, until loopback is asked for in so many words."""
    with pytest.raises(ConfigError, match="root on this host"):
        parse_hosts([host], tls=False, insecure_loopback=False)


@pytest.mark.parametrize("host", ["tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://example.com:1"])
def test_insecure_loopback_opens_loopback_alone(host: str) -> None:
    """Any other address stays closed, a name among them: it may come to mean another one."""
    with pytest.raises(ConfigError, match="root on this host"):
        parse_hosts([host], tls=False, insecure_loopback=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "127.1.2.3"])
def test_loopback_in_the_clear(host: str) -> None:
    """With the setting, on the plain port where none is named."""
    [found] = parse_hosts([f"tcp://{host}"], tls=False, insecure_loopback=True)
    assert (found.tls, found.port) == (False, 2375)


def test_addresses_with_certificates() -> None:
    """TLS on the TLS port, also on loopback unless that is opened."""
    unix, every, loop = parse_hosts(
        ["unix:///run/x.sock", "tcp://0.0.0.0", "tcp://[::1]:99"],
        tls=True,
        insecure_loopback=False,
    )
    assert unix.path == "/run/x.sock"
    assert (every.host, every.port, every.tls) == ("0.0.0.0", 2376, True)
    assert (loop.host, loop.port, loop.tls) == ("::1", 99, True)


@pytest.mark.parametrize(
    "host", ["", "fd://", "tcp://", "unix://relative", "http://x", "tcp://1.2.3.4:x", "tcp://h:1/y"]
)
def test_malformed_addresses(host: str) -> None:
    """Are named, with the form that is right."""
    with pytest.raises(ConfigError, match="hosts"):
        parse_hosts([host], tls=True, insecure_loopback=True)
