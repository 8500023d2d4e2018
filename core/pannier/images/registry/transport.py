"""HTTP to one registry server: authentication, redirects, retries with back-off.

The connections are urllib3's; proxies come from the environment (``HTTPS_PROXY``, ``NO_PROXY``).
Credentials go to the server that they belong to and never follow a redirect to another one.
"""

from __future__ import annotations

import contextlib
import email.utils
import ssl
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from pannier import __version__
from pannier.errors import Forbidden, NotFound, PannierError
from pannier.images.registry.auth import Authorizer, Credentials
from pannier.images.registry.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pannier.images.registry.settings import Endpoint, RegistryOptions

__all__ = ["Cancelled", "RegistryError", "Transport"]

_TRIES = 6
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 30.0
_REDIRECTS = 10
_SMALL_BODY = 4 << 20
_REDIRECTING = {301, 302, 303, 307, 308}
_PASSING = {408, 429, 500, 502, 503, 504}


class RegistryError(PannierError):
    """A registry answered with an error, or could not be reached.

    :param http_status: what it answered; 0 where it did not.
    """

    def __init__(self, message: str, *, http_status: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.http_status = http_status


class Cancelled(PannierError):
    """The transfer's client has gone."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A request; *path* as :meth:`Transport.request` takes it."""

    method: str
    path: str
    scope: str
    headers: Mapping[str, str]
    body: bytes | Iterable[bytes] | None

    @property
    def repeatable(self) -> bool:
        """Whether the body can be sent again."""
        return self.body is None or isinstance(self.body, bytes)


class Transport:
    """Requests to one server.

    :param cancelled: set it to end whatever is waiting.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        options: RegistryOptions,
        credentials: Credentials,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._options = options
        self._credentials = credentials
        self._cancelled = cancelled or threading.Event()
        self._lock = threading.Lock()
        self._root = ""
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._authorizer: Authorizer | None = None

    def close(self) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            pool.clear()

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        expected: Iterable[int] = (200,),
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Make a request and give its response, its body unread.

        A passing failure (no connection, 429, 5xx) is tried again, with back-off, where the body
        can be sent again (bytes or none).

        :param path: below ``/v2/``, or a whole URL that the server gave.
        :raises RegistryError: the server's answer is not among *expected*, or there is none.
        :raises NotFound: it is 404.
        :raises Forbidden: it is 401 or 403.
        """
        response = self._persist(_Request(method, path, scope, headers or {}, body))
        try:
            if response.status not in set(expected):
                raise _refusal(self.endpoint.host, method, path, response)
            yield response
        finally:
            # A body that was not read to its end makes the connection useless for the next one.
            response.release_conn() if response.closed else response.close()

    def _persist(self, request: _Request) -> urllib3.BaseHTTPResponse:
        pause = _FIRST_PAUSE
        for attempt in range(1, _TRIES + 1):
            self.check_cancelled()
            last = attempt == _TRIES or not request.repeatable
            try:
                response = self._authorized(request)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if last or isinstance(_cause(error), ssl.SSLCertVerificationError):
                    raise _unreachable(self.endpoint.host, error) from error
                self.pause(pause)
            else:
                if response.status not in _PASSING or last:
                    return response
                wait = _retry_after(response.headers.get("Retry-After"), pause)
                response.close()
                self.pause(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)
        raise AssertionError("the last attempt returns or raises")

    def _authorized(self, request: _Request) -> urllib3.BaseHTTPResponse:
        url = self.url(request.path)
        authorizer = self._authorizer
        assert authorizer is not None  # url() has made it
        for _ in range(2):
            with self._lock:
                authorization = authorizer.header(request.scope)
            response = self._send(request, url, authorization)
            challenge = response.headers.get("WWW-Authenticate", "")
            if response.status != HTTPStatus.UNAUTHORIZED or not challenge:
                return response
            with self._lock:
                # Another thread may have renewed the token meanwhile.
                if authorizer.header(request.scope) == authorization and not authorizer.learn(
                    challenge, request.scope
                ):
                    return response
            response.close()
        return response

    def _send(
        self, request: _Request, url: str, authorization: str | None
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
                body=request.body,
                redirect=False,
                preload_content=False,
                retries=False,
                decode_content=False,
            )
            location = response.headers.get("Location")
            if response.status not in _REDIRECTING or not location:
                return response
            response.close()
            target = urljoin(url, location)
            self._check_redirect(url, target)
            url = target
        raise RegistryError(f"{self.endpoint.host} redirects without end ({request.method} {url})")

    def _check_redirect(self, source: str, target: str) -> None:
        old, new = urlsplit(source), urlsplit(target)
        safe = new.scheme == "https" or (
            new.scheme == "http"
            and (
                is_loopback(new.netloc)
                or (old.scheme == "http" and self.endpoint.settings.insecure)
            )
        )
        if not safe:
            raise Forbidden(
                f"{old.netloc} redirects to {new.scheme}://{new.netloc}, which is not encrypted"
            )

    def url(self, path: str) -> str:
        """Return the whole URL of a path below ``/v2/``; finds out which scheme is spoken."""
        with self._lock:
            if not self._root:
                self._root = self._find_root()
        if "://" in path:
            return path
        return (
            urljoin(self._root, path.lstrip("/"))
            if not path.startswith("/v2/")
            else (self._root.removesuffix("/v2/") + path)
        )

    def _find_root(self) -> str:
        host, schemes = self.endpoint.host, self.endpoint.schemes
        failures: list[BaseException] = []
        for scheme in schemes:
            root = f"{scheme}://{host}{self.endpoint.base}/v2/"
            authorizer = Authorizer(self._credentials, self._fetch, scheme == "https")
            try:
                response = self._persist_ping(root, patient=scheme == schemes[-1])
            except (urllib3.exceptions.HTTPError, OSError) as error:
                failures.append(error)
                continue
            challenge = response.headers.get("WWW-Authenticate", "")
            status = response.status
            response.close()
            if status == HTTPStatus.UNAUTHORIZED:
                authorizer.learn(challenge, "")
            elif status == HTTPStatus.NOT_FOUND:
                raise RegistryError(
                    f"{host} is no registry: it answers 404 to {urlsplit(root).path}",
                    http_status=status,
                )
            self._authorizer = authorizer
            return root
        raise _unreachable(host, failures[0]) from failures[0]

    def _persist_ping(self, root: str, *, patient: bool) -> urllib3.BaseHTTPResponse:
        pause = _FIRST_PAUSE
        for _ in range(2 if patient else 0):
            with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
                response = self._send(_Request("GET", root, "", {}, None), root, None)
                if response.status not in _PASSING:
                    return response
                response.close()
            self.pause(pause)
            pause *= 2
        return self._send(_Request("GET", root, "", {}, None), root, None)

    def _fetch(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        response = self._send(_Request(method, url, "", headers, body), url, None)
        try:
            return response.status, response.read(_SMALL_BODY)
        finally:
            response.close()

    def _pool(self, scheme: str, host: str) -> urllib3.PoolManager:
        key = f"{scheme}://{host}"
        if key not in self._pools:
            own = host == self.endpoint.host
            timeout = urllib3.Timeout(connect=15, read=self._options.common.timeout)
            context = None
            if scheme == "https":
                context = self._options.tls_context(self.endpoint) if own else None
            proxy = None if proxy_bypass(host) else getproxies().get(scheme)
            self._pools[key] = (
                urllib3.ProxyManager(proxy, timeout=timeout, ssl_context=context, maxsize=8)
                if proxy
                else urllib3.PoolManager(timeout=timeout, ssl_context=context, maxsize=8)
            )
        return self._pools[key]

    def pause(self, seconds: float) -> None:
        """Wait before another try.

        :raises Cancelled: the client has gone meanwhile.
        """
        self._cancelled.wait(seconds)
        self.check_cancelled()

    def check_cancelled(self) -> None:
        """Raise Cancelled when the client has gone."""
        if self._cancelled.is_set():
            raise Cancelled("the transfer was cancelled")


def _retry_after(value: str | None, default: float) -> float:
    """Return the seconds that a Retry-After header (RFC 9110, 10.2.3) asks to wait, bounded."""
    if value is None:
        return default
    if value.strip().isdecimal():
        return min(float(value), _LONGEST_PAUSE)
    with contextlib.suppress(ValueError, TypeError):
        moment = email.utils.parsedate_to_datetime(value).timestamp()
        return min(max(moment - time.time(), 0.0), _LONGEST_PAUSE)
    return default


def _cause(error: BaseException) -> BaseException:
    while True:
        inner = getattr(error, "reason", None) or error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _unreachable(host: str, error: BaseException) -> RegistryError:
    cause = _cause(error)
    hint = "is the name right, and the network up? see also HTTPS_PROXY"
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint = f"put the authority's certificate into /etc/pannier/certs.d/{host}/ca.crt"
    return RegistryError(f"the registry {host} cannot be reached: {cause}", hint=hint)


def _refusal(host: str, method: str, path: str, response: urllib3.BaseHTTPResponse) -> PannierError:
    """Return the error for an answer that was not expected, with the registry's own words."""
    text = _messages(response)
    if response.status == HTTPStatus.NOT_FOUND:
        return NotFound(text or f"{host} has no {path}")
    if response.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Forbidden(
            f"{host} denied access: {text or response.status}",
            hint=f"log in first: pannier login {host}",
        )
    return RegistryError(
        f"{host} answered {response.status} to {method} {path}{f': {text}' if text else ''}",
        http_status=response.status,
    )


def _messages(response: urllib3.BaseHTTPResponse) -> str:
    """Return the texts of a distribution-specification error document."""
    import json  # noqa: PLC0415 - only errors need it

    with contextlib.suppress(Exception):
        document = json.loads(response.read(1 << 16))
        return "; ".join(
            str(item.get("message") or item.get("code")) for item in document["errors"]
        )
    return ""
