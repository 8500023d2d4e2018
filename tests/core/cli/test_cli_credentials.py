"""Credentials: Docker's file, credential helpers, and what the daemon is sent."""

from __future__ import annotations

import base64
import contextlib
import json
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pannier.cli.credentials import (
    DOCKER_HUB,
    CredentialStore,
    auth_header,
    config_header,
    full_name,
    registry_of,
    server_key,
)
from pannier.errors import PannierError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's configuration folder, which is not there yet."""
    path = tmp_path / "docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(path))
    return path


def write(folder: Path, document: dict[str, Any]) -> None:
    """Write the configuration."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(document))


def sent(image: str) -> dict[str, str]:
    """Return what the header says."""
    fields: dict[str, str] = json.loads(
        base64.urlsafe_b64decode(auth_header(image)["X-Registry-Auth"])
    )
    return fields


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Install a credential helper named ``test``."""
    folder.mkdir(exist_ok=True)
    program = folder / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("image", "registry", "name"),
    [
        ("busybox", DOCKER_HUB, "docker.io/library/busybox"),
        ("jo/app:1", DOCKER_HUB, "docker.io/jo/app:1"),
        ("docker.io/busybox", DOCKER_HUB, "docker.io/library/busybox"),
        ("a.b/c", "a.b", "a.b/c"),
        ("localhost/c", "localhost", "localhost/c"),
        ("host:5000/c/d", "host:5000", "host:5000/c/d"),
    ],
)
def test_names(image: str, registry: str, name: str) -> None:
    """Which registry an image's name means, and how it is printed in full."""
    assert registry_of(image) == registry
    assert full_name(image) == name


def test_servers() -> None:
    """However they are written."""
    assert {server_key(one) for one in ("docker.io", "index.docker.io", DOCKER_HUB)} == {DOCKER_HUB}
    assert server_key("https://a.b:5000/v2/") == "a.b:5000"


def test_nothing_is_sent_where_nothing_is_known(folder: Path) -> None:
    """No file, no entry, an empty one."""
    assert sent("busybox") == {}
    write(folder, {"auths": {"other": {}, "a.b": {}}})
    assert sent("busybox") == {}
    assert sent("a.b/c") == {"serveraddress": "a.b"}


def test_what_is_stored_is_found(folder: Path) -> None:
    """By us and in Docker's form; other keys of the file stay; nobody else may read it."""
    write(folder, {"psFormat": "x", "auths": {"https://a.b/v1/": {"auth": "b2xkOm9sZA=="}}})
    assert CredentialStore().store("a.b", "jo", "se:cret")
    document = json.loads((folder / "config.json").read_text())
    assert document == {
        "psFormat": "x",
        "auths": {"a.b": {"auth": base64.b64encode(b"jo:se:cret").decode()}},
    }
    assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o600
    assert sent("a.b/c") == {"username": "jo", "password": "se:cret", "serveraddress": "a.b"}
    assert CredentialStore().erase("a.b")
    assert not CredentialStore().erase("a.b")
    assert sent("a.b/c") == {}


def test_an_identity_token(folder: Path) -> None:
    """Is kept in place of the password."""
    CredentialStore().store("a.b", "jo", "secret", "token")
    assert "secret" not in (folder / "config.json").read_text()
    assert sent("a.b/c")["identitytoken"] == "token"


def test_a_link_stays_a_link(folder: Path, tmp_path: Path) -> None:
    """The file that it leads to is replaced."""
    folder.mkdir()
    target = tmp_path / "elsewhere.json"
    target.write_text("{}")
    (folder / "config.json").symlink_to(target)
    CredentialStore().store("a.b", "jo", "secret")
    assert (folder / "config.json").is_symlink()
    assert "a.b" in target.read_text()


def test_a_broken_file(folder: Path) -> None:
    """Is named."""
    folder.mkdir()
    (folder / "config.json").write_text("{")
    with pytest.raises(PannierError, match=r"config\.json cannot be read"):
        auth_header("busybox")


def test_a_helper(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for its servers, and gives a password or a token."""
    script = 'echo "{\\"Username\\": \\"jo\\", \\"Secret\\": \\"of $(cat) by $1\\"}"'
    helper(tmp_path / "bin", monkeypatch, script)
    write(folder, {"credHelpers": {"a.b": "test"}})
    assert sent("a.b/c")["password"] == "of a.b by get"
    assert sent("c.d/e") == {}
    write(folder, {"credsStore": "test"})
    assert sent("busybox")["password"] == f"of {DOCKER_HUB} by get"
    helper(tmp_path / "bin", monkeypatch, 'echo \'{"Username": "<token>", "Secret": "t"}\'')
    assert sent("a.b/c") == {"identitytoken": "t", "serveraddress": "a.b"}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo broken; exit 1", "failed: broken"),
        ("echo nonsense", "gave no credentials"),
    ],
)
def test_a_helper_that_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    """Its words are passed on; that it knows nothing is no failure."""
    write(folder, {"credsStore": "test"})
    helper(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(PannierError, match=words):
        auth_header("a.b/c")
    helper(tmp_path / "bin", monkeypatch, "echo credentials not found in native keychain; exit 1")
    assert sent("a.b/c") == {}


@pytest.mark.parametrize("name", ["missing", "../../bin/sh"])
def test_a_helper_that_is_none(folder: Path, name: str) -> None:
    """Not installed, or no name at all."""
    write(folder, {"credsStore": name})
    with pytest.raises(PannierError, match=r"not installed|is no name"):
        auth_header("a.b/c")


_SERVERS = st.sampled_from(
    ["registry.test", "https://registry.test/v1/", DOCKER_HUB, "", "://", "/"]
)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("am86eA=="),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_SERVERS | st.text(max_size=4), inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["auth", "username", "password", "identitytoken", "registrytoken"]),
            inner,
        )
    ),
    max_leaves=8,
)
_FILES = st.binary(max_size=40) | st.dictionaries(
    st.sampled_from(["auths", "credHelpers", "credsStore", "proxies", "HttpHeaders"]), _ANYTHING
).map(lambda document: json.dumps(document).encode())


@contextlib.contextmanager
def _configuration(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", folder)
        patch.setenv("PATH", folder)  # no helper is there
        path = Path(folder, "config.json")
        path.write_bytes(data)
        yield path


@given(_FILES, _SERVERS.map(server_key))
@example(b'{"credsStore": "no\\u0000name"}', "x")
def test_any_file_is_read_or_refused(data: bytes, server: str) -> None:
    """What a user, or another program, wrote into it; never another error than ours."""
    with _configuration(data), contextlib.suppress(PannierError):
        store = CredentialStore()
        for name in (server, *store.servers()):
            with contextlib.suppress(PannierError):
                found = store.get(name)
                assert all(isinstance(value, str) for value in found.values())
        for image in ("x", "registry.test/x"):
            with contextlib.suppress(PannierError):
                auth_header(image)
        with contextlib.suppress(PannierError):
            config_header()


@given(_FILES, st.text(max_size=8), st.text(max_size=8))
def test_any_file_can_be_logged_in_to(data: bytes, username: str, password: str) -> None:
    """The rest of it stays; what was stored is found, and gone once it is erased."""
    with _configuration(data) as path, contextlib.suppress(PannierError):
        store = CredentialStore()
        others = {key: value for key, value in _read(path).items() if key != "auths"}
        store.store("registry.test", username.replace(":", ""), password)
        assert {key: value for key, value in _read(path).items() if key != "auths"} == others
        again = CredentialStore()
        found = again.get("registry.test")
        assert found.get("username", "") == username.replace(":", "")
        assert again.erase("registry.test")
        assert CredentialStore().get("registry.test") == {}


def _read(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_bytes())
    return document if isinstance(document, dict) else {}
