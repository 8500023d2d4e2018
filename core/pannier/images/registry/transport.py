"""HTTP to one registry server: authentication, redirects, retries with back-off.

The connections are urllib3's; proxies come from the environment (``HTTPS_PROXY``, ``NO_PROXY``).
Credentials go to the server that they belong to and never follow a redirect to another one.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3

from pannier import __version__
from pannier.errors import Forbidden
from pannier.images.registry.auth import ANONYMOUS, Authorizer, Credentials
from pannier.images.registry.cancelling import Cancellation
from pannier.images.registry.connections import interruptible, open_pool, watched, watcher
from pannier.images.registry.proxies import proxy_for
from pannier.images.registry.refusals import (
    LONGEST_PAUSE,
    RegistryError,
    cause_of,
    refusal,
    retry_after,
    unreachable,
)
from pannier.images.registry.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pannier.images.registry.settings import Endpoint, RegistryOptions

__all__ = ["Request", "Transport"]

_TRIES = 6
_FEW_TRIES = 3
_TOKENS = 5
_FIRST_PAUSE = 0.25
_REDIRECTS = 10
_SMALL_BODY = 4 << 20
_DRAINED = 1 << 16
_CONNECT_SECONDS = 15
_REDIRECTING = {301, 302, 303, 307, 308}
_PASSING = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a registry.

    :param path: below ``/v2/``, or a whole URL that the server gave.
    :param scope: what is asked of a token server for it.
    :param body: bytes, or a function that gives pieces from the beginning, each time anew.
    :param cancellation: ends it while it waits.
    :param attempts: how often it is tried, where it is repeatable.
    :param pinned: follow no redirect to another server, since the body is not its business.
    :param patience: seconds without a byte after which it fails; 0 for what is configured.
    """

    method: str
    path: str
    scope: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Callable[[], Iterable[bytes]] | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    pinned: bool = False
    attempts: int = _TRIES
    patience: float = 0.0

    @property
    def repeatable(self) -> bool:
        """Whether the server's state allows the request to be made again after a failure.

        An upload that broke off leaves its session half filled: its caller begins anew.
        """
        return not callable(self.body)


class Transport:
    """Requests to one server. Safe to use from several threads.

    :param any_server: also one that does not know the distribution API, as an index for searches.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        options: RegistryOptions,
        credentials: Credentials = ANONYMOUS,
        *,
        any_server: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._any_server = any_server
        self._options = options
        self._credentials = credentials
        self._finding = threading.Lock()
        self._authorizing = threading.Lock()
        self._opening = threading.Lock()
        self._root: SplitResult | None = None
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._authorizer: Authorizer | None = None

    def close(self) -> None:
        """Close the connections."""
        with self._opening:
            for pool in self._pools.values():
                pool.clear()

    @contextlib.contextmanager
    def request(
        self, request: Request, expected: Iterable[int] = (200,)
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Make a request and give its response, its body unread.

        A passing failure (no connection, 429, 5xx) is tried again, with back-off, where the
        request may be repeated.

        :raises RegistryError: the server's answer is not among *expected*, or there is none.
        :raises NotFound: it is 404.
        :raises AccessDenied: it is 401 or 403.
        """
        response = self._persist(request, lambda: self._authorized(request))
        with interruptible(response, request.cancellation):
            try:
                if response.status not in set(expected):
                    raise refusal(self.endpoint.host, request.method, request.path, response)
                yield response
            finally:
                _finish(response, bodiless=request.method == "HEAD")

    def _persist(
        self, request: Request, send: Callable[[], urllib3.BaseHTTPResponse]
    ) -> urllib3.BaseHTTPResponse:
        pause = _FIRST_PAUSE
        for attempt in range(1, request.attempts + 1):
            request.cancellation.check()
            last = attempt == request.attempts or not request.repeatable
            try:
                with watched(request.cancellation):
                    response = send()
            except (urllib3.exceptions.HTTPError, OSError) as error:
                request.cancellation.check()  # it may be what broke the connection
                if last or isinstance(cause_of(error), ssl.SSLCertVerificationError):
                    raise unreachable(self.endpoint.host, error) from error
                request.cancellation.pause(pause)
            else:
                if response.status not in _PASSING or last:
                    return response
                wait = retry_after(response.headers.get("Retry-After"), pause)
                response.close()
                request.cancellation.pause(wait)
            pause = min(pause * 2, LONGEST_PAUSE)
        raise AssertionError("the last attempt returns or raises")

    def _authorized(self, request: Request) -> urllib3.BaseHTTPResponse:
        url = self.url(request.path, request.cancellation)
        authorizer = self._authorizer
        assert authorizer is not None  # url() has made it
        if not self._is_own(url):
            # A place for an upload, say, at a storage service: what is ours to know is in the URL.
            return self._send(request, url, None)
        for attempt in range(1, _TOKENS + 1):
            with self._authorizing:
                authorization = authorizer.header(request.scope)
            response = self._send(request, url, authorization)
            challenge = response.headers.get("WWW-Authenticate", "")
            if response.status != HTTPStatus.UNAUTHORIZED or not challenge or attempt == _TOKENS:
                return response
            with self._authorizing:
                # Another thread may have renewed the token meanwhile.
                if authorizer.header(request.scope) == authorization and not authorizer.learn(
                    challenge, request.scope
                ):
                    return response
            response.close()
        raise AssertionError("the last attempt returns")

    def _is_own(self, url: str) -> bool:
        assert self._root is not None
        parts = urlsplit(url)
        return (parts.scheme, parts.netloc) == (self._root.scheme, self._root.netloc)

    def _send(
        self, request: Request, url: str, authorization: str | None
    ) -> urllib3.BaseHTTPResponse:
        origin = urlsplit(url)
        for _ in range(_REDIRECTS):
            parts = urlsplit(url)
            sent = {"User-Agent": f"pannier/{__version__}", **request.headers}
            if authorization and (parts.scheme, parts.netloc) == (origin.scheme, origin.netloc):
                sent["Authorization"] = authorization
            response = self._pool(parts.scheme, parts.netloc).request(
                request.method,
                url,
                headers=sent,
                body=request.body() if callable(request.body) else request.body,
                redirect=False,
                preload_content=False,
                retries=False,
                decode_content=False,
                timeout=self._timeout(request.patience),
            )
            location = response.headers.get("Location")
            if response.status not in _REDIRECTING or not location:
                return response
            _finish(response)
            target = urljoin(url, location)
            self._check_redirect(url, target, pinned=request.pinned)
            url = target
        raise RegistryError(f"{self.endpoint.host} redirects without end ({request.method} {url})")

    def _check_redirect(self, source: str, target: str, *, pinned: bool) -> None:
        old, new = urlsplit(source), urlsplit(target)
        if pinned and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            raise Forbidden(
                f"{old.netloc} redirects to {new.netloc}, where the credentials were not sent"
            )
        plain = new.scheme == "http" and old.scheme == "http"
        safe = new.scheme == "https" or (
            plain
            and (
                self.endpoint.settings.insecure
                # A registry elsewhere has no business with this machine's own services.
                or (is_loopback(old.netloc) and is_loopback(new.netloc))
            )
        )
        if not safe:
            raise Forbidden(
                f"{old.netloc} redirects to {new.scheme}://{new.netloc}, which is not encrypted"
            )

    # Where the server is, and how it is spoken to.

    def url(self, path: str, cancellation: Cancellation) -> str:
        """Return the whole URL of a path below ``/v2/``; finds out which scheme is spoken."""
        with self._finding:
            if self._root is None:
                with watched(cancellation):
                    self._root = urlsplit(self._find_root(cancellation))
        root = self._root.geturl()
        if "://" not in path:
            return urljoin(root, path if path.startswith("/") else f"{root}{path}")
        parts = urlsplit(path)
        if parts.netloc == self._root.netloc and parts.scheme == "http":
            # Behind a proxy that ends TLS, a registry may not know that it is spoken to over it.
            return parts._replace(scheme=self._root.scheme).geturl()
        return path

    def _find_root(self, cancellation: Cancellation) -> str:
        host, schemes = self.endpoint.host, self.endpoint.schemes
        failures: list[RegistryError] = []
        for scheme in schemes:
            root = f"{scheme}://{host}{self.endpoint.base}/v2/"
            authorizer = Authorizer(self._credentials, self._fetch, scheme == "https")
            tries = _FEW_TRIES if scheme == schemes[-1] else 1
            ping = Request("GET", root, cancellation=cancellation, attempts=tries)
            try:
                response = self._persist(ping, partial(self._send, ping, root, None))
            except RegistryError as error:
                failures.append(error)
                continue
            challenge = response.headers.get("WWW-Authenticate", "")
            status = response.status
            _finish(response)
            if status == HTTPStatus.BAD_REQUEST and failures:
                break  # it speaks TLS, but not with us: the first failure says why
            if status == HTTPStatus.UNAUTHORIZED:
                authorizer.learn(challenge, "")
            elif status == HTTPStatus.NOT_FOUND and not self._any_server:
                raise RegistryError(
                    f"{host} is no registry: it answers 404 to {urlsplit(root).path}",
                    http_status=status,
                )
            self._authorizer = authorizer
            return root
        raise failures[0]

    def _fetch(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        authorization = headers.pop("Authorization", None)
        request = Request(
            method,
            url,
            headers=headers,
            body=body,
            cancellation=watcher(),
            pinned=body is not None,
            attempts=_FEW_TRIES,
        )
        response = self._persist(request, lambda: self._send(request, url, authorization))
        try:
            with interruptible(response, request.cancellation):
                return response.status, response.read(_SMALL_BODY)
        finally:
            response.close()

    def _pool(self, scheme: str, host: str) -> urllib3.PoolManager:
        key = f"{scheme}://{host}"
        with self._opening:
            if key not in self._pools:
                self._pools[key] = self._open(scheme, host)
            return self._pools[key]

    def _open(self, scheme: str, host: str) -> urllib3.PoolManager:
        context = None
        if scheme == "https":
            own = host == self.endpoint.host
            endpoint = self.endpoint if own else self._options.endpoint(host)
            context = self._options.tls_context(endpoint)
            if endpoint.settings.insecure:
                # The configuration says so; a line in the log for each request helps nobody.
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        return open_pool(proxy_for(scheme, host), self._timeout(), context)

    def _timeout(self, patience: float = 0.0) -> urllib3.Timeout:
        read = patience or self._options.common.timeout
        return urllib3.Timeout(connect=min(_CONNECT_SECONDS, read), read=read)


def _finish(response: urllib3.BaseHTTPResponse, *, bodiless: bool = False) -> None:
    """Let go of a response; its connection serves again if its end was, or is soon, reached."""
    length = response.headers.get("Content-Length", "")
    short = bodiless or (length.isdecimal() and int(length) <= _DRAINED)
    with (
        interruptible(response, watcher()),
        contextlib.suppress(urllib3.exceptions.HTTPError, OSError),
    ):
        if short and not response.closed:
            response.read()
    response.close()
