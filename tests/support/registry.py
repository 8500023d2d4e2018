"""Registries for tests: one of our own with faults that can be switched on, and Debian's.

:class:`FaultyRegistry` speaks the distribution specification over plain HTTP on loopback, in this
process, notes every request, and misbehaves as a test asks for. :func:`debian_registry` runs the
``docker-registry`` that Debian packages.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from support.images import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from support.certificates import Pair
    from support.images import BuiltImage

__all__ = ["BCRYPT", "Faults", "FaultyRegistry", "Stall", "debian_registry", "free_port", "needs"]

USER, PASSWORD = "jo", "open sesame"
BCRYPT = "$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW"
"""``jo``'s password, hashed as htpasswd would (its program may be missing)."""

_MEDIA = "application/vnd.oci.image."
_START_SECONDS = 120.0


def needs(program: str, package: str) -> None:
    """Skip a test where a program is missing."""
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}: apt-get install {package}")


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Stall(threading.Event):
    """Holds a registry up until it is set.

    :ivar begun: is set once a request waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Say so, and wait."""
        self.begun.set()
        return super().wait(timeout)


@dataclass
class Faults:
    """What a registry does wrong.

    :ivar statuses: answers to give before any right one, in their order, to what *on* matches.
    :ivar on: which requests the faults are about: a pattern for ``METHOD path``.
    :ivar cut_every: bytes of a body after which the connection is closed; 0 for never.
    :ivar cuts: how often it is cut; then bodies are whole.
    :ivar flip: change a byte of the content.
    :ivar stretch: bytes more (or fewer) that a body is announced and sent to have.
    :ivar endless: send for ever, without an announced length.
    :ivar ignore_range: send blobs from their beginning, whatever was asked for.
    :ivar redirect: another server's URL to send the client to.
    :ivar stall: wait for this before a body's second half, or before an upload's body is read.
    :ivar refuse_whole: take no blob in one request.
    :ivar chunk: the least size of a chunk to announce.
    :ivar kinds: what the media types of manifests that it takes begin with; empty for all.
    :ivar refusal: the status of its answer to others.
    :ivar hang: answer what *on* matches only once this is set.
    """

    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    on: str = r"GET .*/blobs/"
    cut_every: int = 0
    cuts: int = 1 << 30
    flip: bool = False
    stretch: int = 0
    endless: bool = False
    ignore_range: bool = False
    redirect: str = ""
    stall: threading.Event | None = None
    refuse_whole: bool = False
    chunk: int = 0
    kinds: str = ""
    refusal: int = 400
    hang: threading.Event | None = None


@dataclass
class Seen:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def line(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"


class FaultyRegistry:
    """A registry in this process.

    :param pair: the certificate to speak TLS with; None for plain HTTP.
    :param inside: a context in which this thread is in the network namespace to listen in.
    :ivar auth: ``""``, ``basic`` or ``bearer``.
    :ivar token_uses: how many requests a bearer token is good for.
    :ivar announced_seconds: what the token server says of a token's life.
    :ivar hanging: set once a request is left without an answer.
    """

    def __init__(
        self,
        pair: Pair | None = None,
        inside: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.repositories: dict[str, set[str]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.faults = Faults()
        self.seen: list[Seen] = []
        self.auth = ""
        self.token_uses = 1 << 30
        self.announced_seconds = 300
        self.tokens: dict[str, tuple[int, str]] = {}
        self.mounted: list[str] = []
        self.lock = threading.Lock()
        self.hanging = threading.Event()
        registry = self

        class Handler(_Handler):
            owner = registry

        with inside():
            self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    @property
    def host(self) -> str:
        """Address and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def lines(self, pattern: str = "") -> list[str]:
        """Return the requests so far, ``METHOD path``, that a pattern is found in."""
        return [seen.line for seen in self.seen if re.search(pattern, seen.line)]

    # Content.

    def put_blob(self, data: bytes, repository: str = "a/b") -> dict[str, Any]:
        """Store a blob; return the start of its descriptor."""
        self.blobs[digest(data)] = data
        self.repositories.setdefault(repository, set()).add(digest(data))
        return {"digest": digest(data), "size": len(data)}

    def put(
        self,
        built: BuiltImage,
        tag: str = "1",
        repository: str = "a/b",
        compress: Callable[[bytes], bytes] | None = None,
        suffix: str = "+gzip",
    ) -> str:
        """Store an image; return its manifest's digest."""
        pack = compress or (lambda data: gzip.compress(data, 1, mtime=0))
        layers = [
            {
                "mediaType": f"{_MEDIA}layer.v1.tar{suffix}",
                **self.put_blob(pack(data), repository),
            }
            for data in built.layers
        ]
        config = {"mediaType": f"{_MEDIA}config.v1+json", **self.put_blob(built.config, repository)}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}manifest.v1+json",
            "config": config,
            "layers": layers,
        }
        return self.put_manifest(manifest, tag, repository)

    def put_manifest(
        self, document: Mapping[str, Any], tag: str = "1", repository: str = "a/b"
    ) -> str:
        """Store a manifest or index under a tag and its digest."""
        raw = json.dumps(document).encode()
        kind = str(document.get("mediaType", "application/json"))
        for name in (tag, digest(raw)):
            self.manifests[repository, name] = raw, kind
        return digest(raw)

    def put_index(
        self, entries: Sequence[Mapping[str, Any]], tag: str = "1", repository: str = "a/b"
    ) -> str:
        """Store an index."""
        return self.put_manifest(
            {
                "schemaVersion": 2,
                "mediaType": f"{_MEDIA}index.v1+json",
                "manifests": list(entries),
            },
            tag,
            repository,
        )

    def entry(self, name: str, repository: str = "a/b", **more: Any) -> dict[str, Any]:
        """Return an index's entry for a stored manifest."""
        raw, kind = self.manifests[repository, name]
        return {"mediaType": kind, "digest": digest(raw), "size": len(raw), **more}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultyRegistry

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def handle(self) -> None:
        # A client that went away, as tests have it do, is no event.
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle()

    def _dispatch(self) -> None:
        owner = self.owner
        self.body_read = False
        with owner.lock:
            owner.seen.append(Seen(self.command, self.path, dict(self.headers.items())))
            fault = re.search(owner.faults.on, f"{self.command} {self.path}") is not None
            status = owner.faults.statuses.pop(0) if fault and owner.faults.statuses else None
            hang = owner.faults.hang if fault else None
        if hang is not None:
            owner.hanging.set()
            hang.wait(30)
        if status is not None:
            self._read_body()
            self._answer(status[0], b"", status[1])
        elif self.path.startswith("/token"):
            self._token()
        elif self.path.startswith("/v1/search"):
            self._answer(404, b"")
        elif self._allowed():
            if fault and owner.faults.redirect:
                self._answer(307, b"", {"Location": owner.faults.redirect + self.path})
            else:
                self._serve(fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _dispatch  # noqa: N815 - http.server's names

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._read_body()
        words = code.lower().replace("_", " ")
        body = json.dumps({"errors": [{"code": code, "message": words}]}).encode()
        self._answer(status, body)

    def _read_body(self) -> bytes:
        if self.body_read:
            return b""
        self.body_read = True
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    # Who may.

    def _allowed(self) -> bool:
        owner = self.owner
        given = self.headers.get("Authorization", "")
        if owner.auth == "basic":
            pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if given != f"Basic {pair}":
                self._challenge('Basic realm="test"')
                return False
        if owner.auth == "bearer":
            with owner.lock:
                uses, scopes = owner.tokens.get(given.removeprefix("Bearer "), (0, ""))
                owner.tokens[given.removeprefix("Bearer ")] = uses - 1, scopes
            needed = self._scope()
            if uses <= 0 or (needed and needed not in scopes):
                self._challenge(
                    f'Bearer realm="http://{owner.host}/token",service="test",scope="{needed}"'
                )
                return False
        return True

    def _scope(self) -> str:
        match = re.match(r"/v2/(.+)/(manifests|blobs|tags)/", self.path)
        return f"repository:{match[1]}:" if match else ""

    def _challenge(self, header: str) -> None:
        self._read_body()
        body = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
        self._answer(401, body, {"WWW-Authenticate": header})

    def _token(self) -> None:
        owner = self.owner
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        fields = parse_qs(urlsplit(self.path).query)
        if self.command == "POST":
            fields = parse_qs(self._read_body().decode())
            allowed = fields.get("refresh_token") == ["refresh"]
        else:
            allowed = self.headers.get("Authorization", "") in {"", f"Basic {pair}"}
        if not allowed:
            self._error(401, "UNAUTHORIZED")
            return
        with owner.lock:
            token = f"token-{len(owner.tokens)}"
            owner.tokens[token] = owner.token_uses, " ".join(fields.get("scope", []))
        answer = {"token": token, "expires_in": owner.announced_seconds}
        self._answer(200, json.dumps(answer).encode())

    # What is there.

    def _serve(self, fault: bool) -> None:
        path, _, query = self.path.partition("?")
        if path == "/v2/":
            self._answer(200, b"{}")
        elif path == "/v2/_catalog":
            names = sorted({repository for repository, _ in self.owner.manifests})
            self._answer(200, json.dumps({"repositories": names}).encode())
        elif match := re.fullmatch(r"/v2/(.+)/tags/list", path):
            self._tags(match[1], parse_qs(query))
        elif match := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path):
            self._manifest(match[1], match[2])
        elif match := re.fullmatch(r"/v2/(.+)/blobs/uploads/(.*)", path):
            if fault and self.owner.faults.stall is not None:
                self.owner.faults.stall.wait(30)
            self._upload(match[1], match[2], parse_qs(query))
        elif match := re.fullmatch(r"/v2/(.+)/blobs/([^/]+)", path):
            self._blob(match[1], match[2], fault)
        else:
            self._error(404, "UNKNOWN")

    def _tags(self, repository: str, query: dict[str, list[str]]) -> None:
        tags = sorted(
            name for found, name in self.owner.manifests if found == repository and ":" not in name
        )
        if not tags:
            self._error(404, "NAME_UNKNOWN")
            return
        # One a page, so that readers have to follow the links.
        last = query.get("last", [""])[0]
        left = [tag for tag in tags if tag > last]
        headers = {}
        if len(left) > 1:
            headers["Link"] = f'</v2/{repository}/tags/list?n=1&last={left[0]}>; rel="next"'
        body = json.dumps({"name": repository, "tags": left[:1]}).encode()
        self._answer(200, body, headers)

    def _manifest(self, repository: str, name: str) -> None:
        if self.command == "PUT":
            raw = self._read_body()
            kind = self.headers["Content-Type"]
            if not kind.startswith(self.owner.faults.kinds):
                self._error(self.owner.faults.refusal, "MANIFEST_INVALID")
                return
            for one in (name, digest(raw)):
                self.owner.manifests[repository, one] = raw, kind
            self._answer(201, b"", {"Location": self.path})
            return
        found = self.owner.manifests.get((repository, name))
        if found is None:
            self._error(404, "MANIFEST_UNKNOWN")
            return
        self._answer(200, found[0], {"Content-Type": found[1]})

    def _blob(self, repository: str, name: str, fault: bool) -> None:
        owner, faults = self.owner, self.owner.faults
        data = owner.blobs.get(name)
        if data is None or name not in owner.repositories.get(repository, set()):
            self._error(404, "BLOB_UNKNOWN")
            return
        if not fault or self.command == "HEAD":
            self._answer(200, data)
            return
        if faults.flip:
            data = bytes([data[0] ^ 1]) + data[1:] if len(data) < 20 else _flipped(data)
        if faults.stretch:
            data = (data + bytes(max(faults.stretch, 0)))[: len(data) + faults.stretch]
        if faults.endless:
            self._send_for_ever()
            return
        begin = 0
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and not faults.ignore_range:
            begin = int(match[1])
        headers = {"Content-Length": str(len(data) - begin)}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self._send(206 if begin else 200, data[begin:], headers)

    def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        faults = self.owner.faults
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with self.owner.lock:
            cut = 0 < faults.cut_every < len(data) and faults.cuts > 0
            faults.cuts -= cut
        if cut:
            self.wfile.write(data[: faults.cut_every])
            self.close_connection = True
            return
        half = len(data) // 2 if faults.stall is not None else 0
        self.wfile.write(data[:half])
        self.wfile.flush()
        if faults.stall is not None:
            faults.stall.wait(30)
        self.wfile.write(data[half:])

    def _send_for_ever(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        piece = bytes(1 << 16)
        while True:  # until the client hangs up
            self.wfile.write(piece)

    # Uploads.

    def _upload(self, repository: str, session: str, query: dict[str, list[str]]) -> None:
        owner, faults = self.owner, self.owner.faults
        if self.command == "POST":
            self._read_body()
            self._begin(repository, query)
            return
        data = owner.uploads.get(session)
        if data is None:
            self._error(404, "BLOB_UPLOAD_UNKNOWN")
            return
        if self.command == "DELETE":
            del owner.uploads[session]
            self._answer(204, b"")
            return
        body = self._read_body()
        if self.command == "PUT" and body and faults.refuse_whole:
            self._error(413, "SIZE_INVALID")
            return
        expected = re.match(r"(\d+)-", self.headers.get("Content-Range", ""))
        if expected and int(expected[1]) != len(data):
            self._error(416, "RANGE_INVALID")
            return
        self._continue(repository, session, data, body, query)

    def _continue(
        self,
        repository: str,
        session: str,
        data: bytearray,
        body: bytes,
        query: dict[str, list[str]],
    ) -> None:
        owner = self.owner
        data += body
        location = f"/v2/{repository}/blobs/uploads/{session}"
        if self.command == "PATCH":
            self._answer(202, b"", {"Location": location, "Range": f"0-{len(data) - 1}"})
            return
        name = query["digest"][0]
        if digest(bytes(data)) != name:
            self._error(400, "DIGEST_INVALID")
            return
        owner.put_blob(bytes(data), repository)
        del owner.uploads[session]
        self._answer(201, b"", {"Location": f"/v2/{repository}/blobs/{name}"})

    def _begin(self, repository: str, query: dict[str, list[str]]) -> None:
        owner = self.owner
        name = query.get("mount", [""])[0]
        source = query.get("from", [""])[0]
        if name and name in owner.repositories.get(source, set()):
            owner.repositories.setdefault(repository, set()).add(name)
            owner.mounted.append(source)
            self._answer(201, b"", {"Location": f"/v2/{repository}/blobs/{name}"})
            return
        session = hashlib.sha256(f"{len(owner.seen)}{time.monotonic_ns()}".encode()).hexdigest()[
            :16
        ]
        owner.uploads[session] = bytearray()
        headers = {"Location": f"/v2/{repository}/blobs/uploads/{session}?state=x"}
        if owner.faults.chunk:
            headers["OCI-Chunk-Min-Length"] = str(owner.faults.chunk)
        self._answer(202, b"", headers)


def _flipped(data: bytes) -> bytes:
    """Change one of the last bytes: a gzip stream then still begins well."""
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@contextlib.contextmanager
def debian_registry(
    folder: Path,
    *,
    port: int = 0,
    auth: str = "",
    http_lines: str = "",
    inside: Sequence[str] = (),
    entered: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Iterator[str]:
    """Run docker-registry on loopback; give ``127.0.0.1:PORT``.

    :param port: 0 for a free one.
    :param auth: the ``auth`` section of its configuration, indented by two.
    :param http_lines: further lines of the ``http`` section, likewise.
    :param inside: words that put the command into a network namespace.
    :param entered: has this thread in it, as a context.
    """
    needs("docker-registry", "docker-registry")
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: warn}}\nstorage:\n"
        f"  filesystem: {{rootdirectory: {folder / 'data'}}}\n"
        f"http:\n  addr: 127.0.0.1:{port}\n  secret: none\n{http_lines}\n"
        + (f"auth:\n{auth}\n" if auth else "")
    )
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [*inside, "docker-registry", "serve", str(config)], stdout=log, stderr=log
    )
    log.close()
    try:
        with entered():
            _await_port(port, process, folder / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"docker-registry did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.02)  # nothing else says when a socket begins to listen
