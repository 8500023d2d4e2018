"""Where the daemon is looked for."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from pannier.client import Address, parse_address, resolve_address
from pannier.errors import ConfigError, InvalidRequest, NotFound, PannierError

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
        ("127.0.0.1:99", "tcp://127.0.0.1:99"),
        ("https://a", "tcp://a:2376"),
        ("ssh://host", "ssh://host"),
        ("ssh://me@[::1]:22/run/p.sock", "ssh://me@[::1]:22/run/p.sock"),
    ],
)
def test_addresses_are_read(text: str, shown: str) -> None:
    """Every form that is offered."""
    assert str(parse_address(text)) == shown
    assert parse_address(text) == parse_address(shown)


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=x",
        "ssh://-l@host",
        "ssh://@host",
        "ssh://me:secret@host",
        "ssh://host?x=1",
        "ssh://",
        "unix://",
        "tcp://h:x",
        "tcp://h:0",
        "tcp://h:70000",
        "x",
        "",
    ],
)
def test_other_addresses_are_refused_with_a_way_out(text: str) -> None:
    """Nonsense is named as what it is, and so is what ssh would take for an option."""
    with pytest.raises(InvalidRequest) as caught:
        parse_address(text)
    assert caught.value.hint


def test_tls_is_what_the_environment_asks_for(tmp_path: Path) -> None:
    """Docker's variables name the files; a file that is not there is none."""
    (tmp_path / "ca.pem").touch()
    environ = {
        "DOCKER_HOST": "tcp://host",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(tmp_path),
    }
    found = resolve_address(None, None, environ)
    assert str(found) == "tcp://host:2376"
    assert found.tls is not None
    assert (found.tls.verify, found.tls.ca) == (True, f"{tmp_path}/ca.pem")
    assert (found.tls.certificate, found.tls.key) == ("", "")
    del environ["DOCKER_HOST"]
    assert str(resolve_address(None, None, environ)) == "tcp://localhost:2376"
    del environ["DOCKER_TLS_VERIFY"]
    assert resolve_address("tcp://host", None, environ).tls is None


def test_a_context_leads_to_its_address(tmp_path: Path) -> None:
    """By name, by variable or as the current one; an address that is named outright wins."""
    meta = tmp_path / "contexts/meta" / hashlib.sha256(b"far").hexdigest()
    meta.mkdir(parents=True)
    document = {"Name": "far", "Endpoints": {"docker": {"Host": "ssh://me@far"}}}
    (meta / "meta.json").write_text(json.dumps(document))
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    assert not resolve_address(None, None, environ).explicit
    assert str(resolve_address(None, None, environ, context="far")) == "ssh://me@far"
    assert str(resolve_address(None, None, environ | {"DOCKER_CONTEXT": "far"})) == "ssh://me@far"
    (tmp_path / "config.json").write_text('{"currentContext": "far"}')
    assert str(resolve_address(None, None, environ)) == "ssh://me@far"
    assert str(resolve_address(None, None, environ | {"DOCKER_HOST": "/d"})) == "unix:///d"
    with pytest.raises(NotFound, match='context "near" does not exist'):
        resolve_address(None, None, environ, context="near")


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
