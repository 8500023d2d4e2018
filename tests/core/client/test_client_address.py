"""Where the daemon is looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.client import Address, parse_address, resolve_address
from pannier.errors import ConfigError, InvalidRequest, PannierError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unix:///run/x.sock", "unix:///run/x.sock"),
        ("/run/x.sock", "unix:///run/x.sock"),
        ("tcp://127.0.0.1:99", "tcp://127.0.0.1:99"),
        ("tcp://example", "tcp://example:2375"),
        ("tcp://[::1]:99/", "tcp://[::1]:99"),
        ("http://a:1", "tcp://a:1"),
    ],
)
def test_addresses_are_read(text: str, shown: str) -> None:
    """Every form that is offered."""
    assert str(parse_address(text)) == shown
    assert parse_address(text) == parse_address(shown)


@pytest.mark.parametrize(
    "text",
    ["ssh://host", "https://host", "unix://", "tcp://h:x", "tcp://h:0", "tcp://h:70000", "x", ""],
)
def test_other_addresses_are_refused_with_a_way_out(text: str) -> None:
    """TLS and ssh, and nonsense, are named as what they are."""
    with pytest.raises(InvalidRequest) as caught:
        parse_address(text)
    assert caught.value.hint


def test_tls_is_not_silently_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who asked for verification must not be connected without."""
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    with pytest.raises(InvalidRequest, match="TLS"):
        parse_address("tcp://host:2376")


def test_the_order_of_who_decides(tmp_path: Path) -> None:
    """Option, PANNIER_HOST, DOCKER_HOST, configuration file, default."""
    config = tmp_path / "c.toml"
    config.write_text('[engine]\nsocket = "/from/config"\n')
    environ = {"PANNIER_HOST": "/p", "DOCKER_HOST": "/d", "PANNIER_CONFIG": str(config)}
    found = [str(resolve_address("/o", None, environ))]
    for name in ("PANNIER_HOST", "DOCKER_HOST", "PANNIER_CONFIG"):
        found.append(str(resolve_address(None, None, environ)))
        del environ[name]
    assert found == ["unix:///o", "unix:///p", "unix:///d", "unix:///from/config"]
    assert not resolve_address(None, str(config), {}).explicit
    assert resolve_address("/o", None, {}).explicit


@pytest.mark.parametrize(
    "text", ["[engine\n", "[engine]\nsocket = 5\n", '[engine]\nsocket = ""\n', "\xff"]
)
def test_a_wrong_configuration_file_is_named(tmp_path: Path, text: str) -> None:
    """The file and the key are in the message."""
    config = tmp_path / "c.toml"
    config.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"c\.toml"):
        resolve_address(None, str(config), {})


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """A file that was asked for and is not there is an error, not a default."""
    with pytest.raises(PannierError, match="no such file"):
        resolve_address(None, str(tmp_path / "none"), {})


def test_a_file_without_the_key_gives_the_default(tmp_path: Path) -> None:
    """Other tables are none of the client's business."""
    config = tmp_path / "c.toml"
    config.write_text("[network.bridge]\nmtu = 1400\n")
    assert resolve_address(None, str(config), {}) == Address(path="/run/pannier/pannier.sock")
