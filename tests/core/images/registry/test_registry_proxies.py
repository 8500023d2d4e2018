"""Proxies on the way to a registry, named by the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pannier.config import RegistriesTable, RegistryTable
from pannier.errors import ConfigError
from pannier.images.registry.auth import Credentials
from pannier.images.registry.proxies import proxy_for
from pannier.images.registry.refusals import RegistryError
from pannier.images.registry.settings import RegistryOptions
from support.certificates import Authority
from support.proxy import Proxy
from support.registry import PASSWORD, USER, FaultyRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.images import BuiltImage
    from support.registry_rig import Rig

PROXY = "http://127.0.0.1:1"
NAMES = [f"{scheme}_proxy" for scheme in ("http", "https", "no", "all")]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with an environment that names none."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[FaultyRegistry, RegistryOptions]]:
    """Return a registry behind TLS at ``registry.test``, and the settings to trust it."""
    authority = Authority(tmp_path / "ca")
    running = FaultyRegistry(authority.issue("registry.test"))
    table = RegistryTable(ca_file=authority.pair.certificate)
    yield running, RegistryOptions({"registry.test": table}, RegistriesTable(timeout=20))
    running.close()


def test_a_tunnel(
    secure: tuple[FaultyRegistry, RegistryOptions],
    make_rig: Callable[..., Rig],
    small: BuiltImage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To a registry behind TLS, which sees neither the proxy nor what it is paid with."""
    registry, options = secure
    registry.put(small)
    registry.auth = "basic"
    rig = make_rig("store", options)
    with Proxy({"registry.test:443": registry.host}, user="me:a b") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:a%20b@{proxy.host}")
        rig.pull("registry.test/a/b:1", Credentials(USER, PASSWORD))
        assert set(proxy.seen) == {"CONNECT registry.test:443"}
    assert rig.store.get("registry.test/a/b:1").id == small.id
    assert not any("Proxy-Authorization" in seen.headers for seen in registry.seen)


def test_forwarded_requests(
    registry: FaultyRegistry,
    make_rig: Callable[..., Rig],
    small: BuiltImage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To a registry that speaks plain HTTP, up and down."""
    registry.put(small)
    table = RegistryTable(insecure=True)
    rig = make_rig("store", RegistryOptions({"old.test:5000": table}, RegistriesTable(timeout=20)))
    with Proxy({"old.test:5000": registry.host}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.host)
        monkeypatch.setenv("HTTPS_PROXY", proxy.host)
        rig.pull("old.test:5000/a/b:1")
        rig.store.tag("old.test:5000/a/b:1", "old.test:5000/t/x:1")
        rig.push("old.test:5000/t/x:1")
        assert "GET http://old.test:5000/v2/a/b/manifests/1" in proxy.seen
        assert "PUT http://old.test:5000/v2/t/x/manifests/1" in proxy.seen
    assert registry.manifests["t/x", "1"] == registry.manifests["a/b", "1"]


def test_a_proxy_that_refuses_is_quoted(
    secure: tuple[FaultyRegistry, RegistryOptions],
    make_rig: Callable[..., Rig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not the registry that cannot be reached."""
    rig = make_rig("store", secure[1])
    with Proxy({}, user="me:secret") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:wrong@{proxy.host}")
        with pytest.raises(RegistryError, match="407") as caught:
            rig.pull("registry.test/a/b:1")
    assert "wrong" not in str(caught.value)


def test_an_exception_goes_straight(
    secure: tuple[FaultyRegistry, RegistryOptions],
    make_rig: Callable[..., Rig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And so fails here, where nobody but the proxy knows the name."""
    registry, options = secure
    rig = make_rig("store", options)
    with Proxy({"registry.test:443": registry.host}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.host)
        monkeypatch.setenv("NO_PROXY", "example.com,.test")
        with pytest.raises(RegistryError, match=r"registry\.test cannot be reached"):
            rig.pull("registry.test/a/b:1")
        assert proxy.seen == []


def test_a_kind_that_is_not_spoken(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is named, without its password."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:secret@proxy.test:1080")
    with pytest.raises(ConfigError, match=r"socks5://proxy\.test:1080 cannot be used"):
        rig.pull("registry.test/a/b:1")


@pytest.mark.parametrize(
    ("exceptions", "host", "used"),
    [
        ("", "a.test", True),
        ("", "127.0.0.1:5000", False),
        ("", "localhost:5000", False),
        ("", "[::1]:5000", False),
        ("*", "a.test", False),
        ("a.test", "a.test", False),
        ("A.Test", "a.test:5000", False),
        ("a.test", "b.a.test", False),
        ("a.test", "ba.test", True),
        (".a.test", "b.a.test", False),
        (".a.test", "a.test", True),
        ("*.a.test", "b.a.test", False),
        ("a.test:5000", "a.test:5000", False),
        ("a.test:5000", "a.test", True),
        ("a.test:443", "a.test", False),
        ("10.0.0.0/8", "10.1.2.3:5000", False),
        ("10.0.0.0/8", "11.1.2.3:5000", True),
        ("10.1.2.3", "10.1.2.3", False),
        ("10.1.2.3:5000", "10.1.2.3:5000", False),
        ("fd00::/8", "[fd00::1]:5000", False),
        ("[fd00::1]:5000", "[fd00::1]:5000", False),
        ("x, a.test ,y", "a.test", False),
        (",:5000, ,", "a.test:5000", True),
    ],
)
def test_exceptions(
    exceptions: str, host: str, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, what is below them, addresses, networks and ports; loopback always."""
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", exceptions)
    assert proxy_for("https", host) == (PROXY if used else None)
    assert proxy_for("http", host) is None


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"http_proxy": "p:1"}, "http://p:1"),
        ({"HTTP_PROXY": "https://p:1", "http_proxy": "http://q"}, "https://p:1"),
        ({"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
        ({"ALL_PROXY": "http://p:1"}, None),
    ],
)
def test_variables(
    variables: dict[str, str], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upper case before lower; a scheme of its own, or HTTP."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for("http", "a.test") == found
