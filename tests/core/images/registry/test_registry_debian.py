"""Against docker-registry, as Debian packages it: the real protocol, with all ways to log in."""

from __future__ import annotations

import http.server
import io
import json
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from pannier.config import RegistriesTable, RegistryTable
from pannier.errors import ConfigError, NotFound, PannierError
from pannier.images.reference import parse_reference
from pannier.images.registry.auth import ANONYMOUS, Credentials
from pannier.images.registry.listing import SearchQuery, check_access, search
from pannier.images.registry.pull import describe_at
from pannier.images.registry.refusals import AccessDenied, RegistryError
from pannier.images.registry.settings import RegistryOptions
from support.certificates import Authority, sign_token
from support.images import docker_archive, image
from support.registry import BCRYPT, PASSWORD, USER, debian_registry, needs

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.images import BuiltImage
    from support.registry_rig import Rig

JO = Credentials(USER, PASSWORD)
WRONG = Credentials(USER, "wrong")


def load(rig: Rig, built: BuiltImage, *names: str) -> None:
    """Load an image under some names."""
    archive = docker_archive([image(built.layers, tags=list(names))])
    list(rig.store.load(io.BytesIO(archive)))


def round_trip(
    host: str,
    make_rig: Callable[..., Rig],
    small: BuiltImage,
    credentials: Credentials,
    **more: object,
) -> None:
    """Push from one store and pull into another."""
    name = f"{host}/team/small:1"
    here = make_rig("here", **more)
    load(here, small, name)
    pushed = here.push(name, credentials)
    there = make_rig("there", **more)
    pulled = there.pull(name, credentials)
    assert (pulled.image.id, pulled.digest) == (small.id, pushed.digest)
    assert sorted(there.storage.streams.values()) == sorted(small.layers)


class TestAnonymous:
    """Without authentication."""

    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[str]:
        """Run a registry."""
        with debian_registry(tmp_path / "registry") as host:
            yield host

    def test_round_trip(self, host: str, make_rig: Callable[..., Rig], small: BuiltImage) -> None:
        """What is pulled is what was pushed; a second push and a mount send nothing."""
        round_trip(host, make_rig, small, ANONYMOUS)
        rig = make_rig("here")
        rig.events.clear()
        rig.push(f"{host}/team/small:1")
        assert rig.statuses().count("Layer already exists") == 2
        rig.store.tag(f"{host}/team/small:1", f"{host}/other/small:2")
        rig.events.clear()
        rig.push(f"{host}/other/small:2")
        assert rig.statuses().count("Mounted from team/small") == 2

    def test_in_chunks(
        self,
        host: str,
        make_rig: Callable[..., Rig],
        small: BuiltImage,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """As to registries that take no blob whole."""
        monkeypatch.setattr("pannier.images.registry.uploading._CHUNK", 70_000)
        monkeypatch.setattr(
            "pannier.images.registry.uploading.Uploader._upload",
            _chunked,
        )
        round_trip(host, make_rig, small, ANONYMOUS)

    def test_tags_search_and_description(self, host: str, rig: Rig, small: BuiltImage) -> None:
        """What there is, without fetching it."""
        for name in ("team/small:1", "team/small:2", "misc/thing:1"):
            load(rig, small, f"{host}/{name}")
            rig.push(f"{host}/{name}")
        assert rig.puller.tags(rig.request(f"{host}/team/small")) == ["1", "2"]
        found = search(rig.options, SearchQuery(f"{host}/small"))
        assert [one.name for one in found] == [f"{host}/team/small"]
        both = search(rig.options, SearchQuery(f"{host}/", limit=1))
        assert len(both) == 1
        assert search(rig.options, SearchQuery(f"{host}/small", stars=1)) == []
        described = describe_at(rig.options, rig.request(f"{host}/team/small:1"))
        assert described.descriptor.digest == rig.pull(f"{host}/team/small:1").digest
        assert [str(one) for one in described.platforms] == ["linux/amd64"]
        with pytest.raises(NotFound, match="manifest unknown"):
            rig.pull(f"{host}/team/small:3")

    def test_with_skopeo(self, host: str, rig: Rig, small: BuiltImage, tmp_path: Path) -> None:
        """In both directions, every format that it pushes."""
        needs("skopeo", "skopeo")
        load(rig, small, f"{host}/team/small:1")
        rig.push(f"{host}/team/small:1")
        archive = tmp_path / "small.tar"
        skopeo(
            "copy",
            "--src-tls-verify=false",
            f"docker://{host}/team/small:1",
            f"docker-archive:{archive}:x:1",
        )
        list(rig.store.load(io.BytesIO(archive.read_bytes())))
        assert rig.store.get("x:1").id == small.id
        for form in ("oci", "v2s2"):
            target = f"docker://{host}/team/{form}:1"
            skopeo(
                "copy",
                "--dest-tls-verify=false",
                "--format",
                form,
                f"docker-archive:{archive}",
                target,
            )
            pulled = rig.pull(f"{host}/team/{form}:1").image
            assert [layer.diff_id for layer in pulled.layers] == [
                layer.diff_id for layer in rig.store.get("x:1").layers
            ]


def _chunked(self: object, blob: object, shown: str, *, whole: bool) -> None:
    """Upload in chunks, though the registry would take the whole."""
    del whole
    upload = self._repository.begin_upload()  # type: ignore[attr-defined]  # an Uploader
    self._in_chunks(upload, blob, shown)  # type: ignore[attr-defined]  # as above


def skopeo(*arguments: str) -> None:
    """Run skopeo."""
    subprocess.run(["skopeo", "--insecure-policy", *arguments], check=True, capture_output=True)


class TestBasic:
    """A file of names and hashed passwords."""

    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[str]:
        """Run a registry that knows one user."""
        users = tmp_path / "users"
        users.write_text(f"{USER}:{BCRYPT}\n")
        auth = f"  htpasswd: {{realm: tests, path: {users}}}"
        with debian_registry(tmp_path / "registry", auth=auth) as host:
            yield host

    def test_round_trip(self, host: str, make_rig: Callable[..., Rig], small: BuiltImage) -> None:
        """With the right password."""
        round_trip(host, make_rig, small, JO)

    def test_refused(self, host: str, rig: Rig, small: BuiltImage) -> None:
        """Without, and with a wrong one."""
        load(rig, small, f"{host}/team/small:1")
        for credentials in (ANONYMOUS, WRONG):
            with pytest.raises(NotFound, match="pull access denied"):
                rig.pull(f"{host}/team/small:1", credentials)
            with pytest.raises(AccessDenied, match="authentication required"):
                rig.push(f"{host}/team/small:1", credentials)

    def test_log_in(self, host: str, rig: Rig) -> None:
        """What ``login`` asks."""
        check_access(rig.options, host, JO)
        with pytest.raises(AccessDenied):
            check_access(rig.options, host, WRONG)


class TestToken:
    """A token server, whose tokens live for seconds."""

    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[str]:
        """Run a registry and the token server that it trusts."""
        signer = Authority(tmp_path / "certificates").pair
        self.given: list[list[str]] = []
        given = self.given

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                scopes = query.get("scope", [])
                given.append(scopes)
                token = sign_token(signer, query["service"][0], scopes, 3)
                body = json.dumps({"token": token, "expires_in": 3}).encode()
                right = self.headers.get("Authorization", JO.basic) == JO.basic
                self.send_response(200 if right else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        realm = f"http://127.0.0.1:{server.server_address[1]}/token"
        auth = (
            f"  token: {{realm: '{realm}', service: tests, issuer: tests, "
            f"rootcertbundle: {signer.certificate}}}"
        )
        try:
            with debian_registry(tmp_path / "registry", auth=auth) as host:
                yield host
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    @pytest.mark.parametrize("credentials", [ANONYMOUS, JO])
    def test_round_trip(
        self, host: str, make_rig: Callable[..., Rig], small: BuiltImage, credentials: Credentials
    ) -> None:
        """Tokens are for the repository, and for no more than is done there."""
        round_trip(host, make_rig, small, credentials)
        scopes = [scope for scopes in self.given for scope in scopes]
        assert "repository:team/small:pull,push" in scopes
        assert "repository:team/small:pull" in scopes

    def test_a_mount_asks_for_both(
        self, host: str, make_rig: Callable[..., Rig], small: BuiltImage
    ) -> None:
        """To read there and to write here."""
        round_trip(host, make_rig, small, JO)
        rig = make_rig("here")
        rig.store.tag(f"{host}/team/small:1", f"{host}/other/small:2")
        rig.events.clear()
        rig.push(f"{host}/other/small:2", JO)
        assert rig.statuses().count("Mounted from team/small") == 2
        both = ["repository:other/small:pull,push", "repository:team/small:pull"]
        assert both in self.given

    def test_refused(self, host: str, rig: Rig) -> None:
        """By the token server."""
        with pytest.raises(NotFound, match="incorrect username or password"):
            rig.pull(f"{host}/team/small:1", WRONG)


class TestTls:
    """Certificates of an authority that nobody else knows."""

    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        """Make it."""
        return Authority(tmp_path / "certificates")

    def run(
        self, tmp_path: Path, authority: Authority, *, clients: bool = False
    ) -> contextlib.AbstractContextManager[str]:
        """Run a registry, which may demand that clients identify themselves."""
        pair = authority.issue("registry")
        lines = f"  tls:\n    certificate: {pair.certificate}\n    key: {pair.key}\n"
        if clients:
            lines += f"    clientcas: [{authority.pair.certificate}]\n"
        return debian_registry(tmp_path / "registry", http_lines=lines)

    def test_certs_d(
        self, tmp_path: Path, authority: Authority, make_rig: Callable[..., Rig], small: BuiltImage
    ) -> None:
        """Docker's folders: ``*.crt`` of authorities, pairs of ``*.cert`` and ``*.key``."""
        with self.run(tmp_path, authority, clients=True) as host:
            folder = tmp_path / "certs.d" / host
            folder.mkdir(parents=True)
            shutil.copy(authority.pair.certificate, folder / "ca.crt")
            client = authority.issue("client")
            options = RegistryOptions(common=RegistriesTable(certificates=(tmp_path / "certs.d",)))
            with pytest.raises(RegistryError, match="cannot be reached"):
                make_rig("no-client", options=options).pull(f"{host}/a/b:1")
            shutil.copy(client.certificate, folder / "client.cert")
            shutil.copy(client.key, folder / "client.key")
            round_trip(host, make_rig, small, ANONYMOUS, options=options)

    def test_settings(
        self, tmp_path: Path, authority: Authority, make_rig: Callable[..., Rig], small: BuiltImage
    ) -> None:
        """The same from the configuration file."""
        client = authority.issue("client")
        with self.run(tmp_path, authority, clients=True) as host:
            table = RegistryTable(
                ca_file=authority.pair.certificate,
                client_certificate=client.certificate,
                client_key=client.key,
            )
            round_trip(host, make_rig, small, ANONYMOUS, options=RegistryOptions({host: table}))

    def test_unknown_authorities_are_not_trusted(
        self, tmp_path: Path, authority: Authority, make_rig: Callable[..., Rig], small: BuiltImage
    ) -> None:
        """Unless the registry is said to be insecure; a hint names the folder."""
        with self.run(tmp_path, authority) as host:
            with pytest.raises(RegistryError, match="CERTIFICATE_VERIFY_FAILED") as caught:
                make_rig().pull(f"{host}/a/b:1")
            assert "certs.d" in (caught.value.hint or "")
            options = RegistryOptions({host: RegistryTable(insecure=True)})
            round_trip(host, make_rig, small, ANONYMOUS, options=options)

    def test_a_certificate_that_is_none(self, tmp_path: Path, make_rig: Callable[..., Rig]) -> None:
        """An error of the configuration."""
        broken = tmp_path / "broken.crt"
        broken.write_text("nothing")
        options = RegistryOptions({"127.0.0.1:1": RegistryTable(ca_file=broken)})
        with pytest.raises(ConfigError, match="cannot be used"):
            make_rig(options=options).pull("127.0.0.1:1/a/b:1")


def test_plain_http_is_for_this_machine_alone(rig: Rig) -> None:
    """Elsewhere it must be allowed by name."""
    endpoint = rig.options.endpoints(parse_reference("registry.example/a").domain)[-1]
    assert endpoint.schemes == ("https",)
    options = RegistryOptions({"registry.example": RegistryTable(insecure=True)})
    assert options.endpoints("registry.example")[-1].schemes == ("https", "http")
    for host in ("localhost:5000", "127.1.2.3", "[::1]:5000"):
        assert rig.options.endpoints(host)[-1].schemes == ("https", "http")
    assert rig.options.endpoints("localhost.example")[-1].schemes == ("https",)


@pytest.mark.parametrize("url", ["ftp://x", "mirror", "http://elsewhere.example", "https://x?y"])
def test_mirrors_are_checked(url: str) -> None:
    """URLs, and encrypted ones across a network."""
    options = RegistryOptions({"docker.io": RegistryTable(mirrors=(url,))})
    with pytest.raises((ConfigError, PannierError), match="mirror"):
        options.endpoints("docker.io")
