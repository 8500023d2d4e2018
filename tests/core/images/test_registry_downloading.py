"""``docker import URL``: what comes from web servers, whole and broken."""

from __future__ import annotations

import contextlib
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

import pytest

from pannier.config import RegistryTable
from pannier.errors import Forbidden, InvalidRequest, NotFound
from pannier.images.registry.cancelling import Cancellation, Cancelled
from pannier.images.registry.downloading import download_url, downloaded
from pannier.images.registry.refusals import RegistryError
from pannier.images.registry.settings import RegistryOptions
from support.certificates import Authority
from support.registry import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pannier.images.registry.transfers import TransferEvent

CONTENT = bytes(range(256)) * 4096


class Web(BaseHTTPRequestHandler):
    """A web server of which each path is a way to answer."""

    stall: ClassVar[threading.Event]
    seen: ClassVar[list[str]]

    def do_GET(self) -> None:
        """Answer as the path says."""
        self.seen.append(self.headers["Accept-Encoding"])
        head, _, rest = self.path.lstrip("/").partition("/")
        if head == "to":
            self.send_response(302)
            self.send_header("Location", rest or self.path)
            self.end_headers()
            return
        if head.isdecimal():
            self.send_response(int(head))
            self.end_headers()
            self.wfile.write(b"the server's words")
            return
        self.send_response(200)
        if head != "unknown":
            self.send_header("Content-Length", str(len(CONTENT) + (head == "short")))
        self.end_headers()
        self.wfile.write(CONTENT)
        if head == "stalled":
            self.wfile.flush()
            self.stall.wait()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _served(folder: Path | None = None) -> Iterator[str]:
    """Give the address of a server; with a folder it speaks TLS."""
    Web.stall, Web.seen = threading.Event(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.daemon_threads = True
    scheme = "http"
    if folder is not None:
        scheme = "https"
        pair = Authority(folder).issue("server")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
    finally:
        Web.stall.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _fetch(
    url: str, events: list[TransferEvent] | None = None, options: RegistryOptions | None = None
) -> bytes:
    report = ([] if events is None else events).append
    with downloaded(options or RegistryOptions(), url, Cancellation(), report) as stream:
        return stream.read()


def test_what_is_told_meanwhile() -> None:
    """Where it comes from, then how far it has come, of how much where the server says that."""
    with _served() as web:
        for path, total in (("known", len(CONTENT)), ("unknown", 0)):
            events: list[TransferEvent] = []
            assert _fetch(f"{web}/{path}", events) == CONTENT
            assert events[0].status == f"Downloading from {web}/{path}"
            last = events[-1]
            assert (last.status, last.current, last.total) == ("Importing", len(CONTENT), total)
        # An archive that the server compressed for the way would be another one.
        assert set(Web.seen) == {"identity"}


def test_redirects() -> None:
    """They are followed, to other servers, too; not for ever, and to web servers only."""
    with _served() as web:
        assert _fetch(f"{web}/to/{web}/to/{web}/known") == CONTENT
        with pytest.raises(InvalidRequest, match='unsupported protocol scheme "file"'):
            _fetch(f"{web}/to/file:///etc/passwd")
        for nowhere in ("http://[::1", "http://host:99999/", "//host:port/"):
            with pytest.raises(RegistryError, match=r"redirects to '[^']+': "):
                _fetch(f"{web}/to/{nowhere}")
        with pytest.raises(RegistryError, match="stopped after 10 redirects"):
            _fetch(f"{web}/to")


def test_what_servers_refuse() -> None:
    """Their words are passed on, and the kind of their answer."""
    kinds = {"400": InvalidRequest, "403": Forbidden, "404": NotFound, "503": RegistryError}
    with _served() as web:
        for status, kind in kinds.items():
            with pytest.raises(kind, match=f"failed to GET {web}/{status} with .*server's words"):
                _fetch(f"{web}/{status}")
    with pytest.raises(RegistryError, match=r'Get "http://127.0.0.1:\d+/": .*refused'):
        _fetch(f"http://127.0.0.1:{free_port()}/")


def test_a_download_that_breaks_off() -> None:
    """It is an error, and not the end of the archive."""
    with _served() as web, pytest.raises(RegistryError, match="broke off"):
        _fetch(f"{web}/short")


def test_a_download_that_is_given_up() -> None:
    """It ends at once, though the server has more to say."""
    given_up = Cancellation()
    with (
        _served() as web,
        downloaded(RegistryOptions(), f"{web}/stalled", given_up, lambda _: None) as stream,
    ):
        assert stream.read(10) == CONTENT[:10]
        given_up.cancel()
        with pytest.raises(Cancelled):
            stream.read()


def test_certificates(tmp_path: Path) -> None:
    """Servers need one that is trusted; which that is for a host, registries' settings say."""
    with _served(tmp_path) as web:
        with pytest.raises(RegistryError, match="certificate verify failed") as caught:
            _fetch(f"{web}/known")
        assert "certs.d" in (caught.value.hint or "")
        host = web.partition("//")[2]
        trusting = RegistryOptions({host: RegistryTable(ca_file=tmp_path / "authority.crt")})
        assert _fetch(f"{web}/known", options=trusting) == CONTENT
        with pytest.raises(Forbidden, match="which is not encrypted"):
            _fetch(f"{web}/to/http://127.0.0.1:1/x", options=trusting)


def test_what_is_no_url() -> None:
    """Docker takes a name without a scheme for one of http."""
    assert download_url("example.com/x") == "http://example.com/x"
    for text, said in (
        ("ftp://x/y", "unsupported protocol scheme"),
        ("http://[::", "parse"),
        ("http://", "no Host in request URL"),
        ("http://x:99999/", "parse"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            download_url(text)
