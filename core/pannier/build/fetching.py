"""Files from the network, for ADD and for remote contexts. Everything here blocks."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import http.client
import posixpath
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.errors import InvalidRequest, PannierError
from pannier.images.registry.proxies import proxy_for

if TYPE_CHECKING:
    from typing import IO

__all__ = ["Fetched", "fetch", "is_url"]

_TIMEOUT: Final = 60.0
_CHUNK: Final = 1 << 18
_MEMORY: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a URL gave.

    :param name: the last part of the URL's path; empty where it ends with a slash.
    :param mtime: nanoseconds since the epoch, from Last-Modified; 0 where the server says none.
    """

    data: bytes
    name: str
    mtime: int
    content_type: str = ""


def is_url(text: str) -> bool:
    """Whether a source or context is to be fetched."""
    return text.startswith(("http://", "https://"))


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTP and HTTPS, never to a file of this host."""

    def redirect_request(  # noqa: PLR0917 - the library's signature
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not is_url(newurl.lower()):
            raise InvalidRequest(f"refusing the redirect from {req.full_url} to {newurl[:200]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Proxies(urllib.request.ProxyHandler):
    """Goes through the proxies that registries are reached through."""

    def __init__(self) -> None:
        super().__init__({})

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse | None:
        proxy = proxy_for(req.type, req.host)
        if proxy is None or req.has_proxy():
            return None  # the next handler's turn
        parts = urllib.parse.urlsplit(proxy)
        user, _, host = parts.netloc.rpartition("@")
        if user:
            pair = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
            # Not for whoever the server redirects to.
            req.add_unredirected_header("Proxy-Authorization", f"Basic {pair}")
        scheme = req.type
        req.set_proxy(host, parts.scheme)
        # A tunnel goes over HTTPS as before; a request that is forwarded, over the proxy's scheme.
        changed = scheme == "http" and parts.scheme != "http"
        return self.parent.open(req, timeout=req.timeout) if changed else None

    https_open = http_open


def fetch(url: str, checksum: str = "", *, limit: int = _MEMORY) -> Fetched:
    """Fetch a URL.

    :param checksum: ``sha256:…`` that the content must have.
    :param limit: bytes.
    :raises InvalidRequest: the URL or checksum is malformed, or the content is another.
    :raises PannierError: the server does not give it.
    """
    if checksum and not checksum.startswith("sha256:"):
        raise InvalidRequest(f"unsupported checksum {checksum[:50]!r}", hint="write sha256:…")
    opener = urllib.request.build_opener(_SameScheme, _Proxies)
    request = urllib.request.Request(url, headers={"User-Agent": "pannier"})  # noqa: S310 - checked by is_url
    try:
        with opener.open(request, timeout=_TIMEOUT) as answer:
            data = _read(answer, limit, url)
            modified = answer.headers.get("Last-Modified", "")
            content_type = answer.headers.get_content_type()
    except urllib.error.HTTPError as error:
        error.close()
        raise PannierError(f"cannot fetch {url}: status {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise PannierError(
            f"cannot fetch {url}: {error}", hint="can this host reach the server?"
        ) from None
    if checksum:
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if found != checksum:
            raise InvalidRequest(f"digest mismatch for {url}: expected {checksum}, got {found}")
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    name = posixpath.basename(path)
    return Fetched(data, name if name not in (".", "..") else "", _time(modified), content_type)


def _read(answer: IO[bytes], limit: int, url: str) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := answer.read(_CHUNK):
        size += len(piece)
        if size > limit:
            raise InvalidRequest(f"{url} gives more than {limit} bytes", hint="fetch it with RUN")
        pieces.append(piece)
    return b"".join(pieces)


def _time(text: str) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except (TypeError, ValueError, OverflowError):
        return 0
