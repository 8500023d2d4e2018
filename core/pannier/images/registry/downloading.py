"""Root filesystems from web servers: ``docker import URL``.

The way there is that to registries: the same proxies, certificate folders and time limits. How much
arrives is limited by the disk alone, for it is unpacked as it comes.
"""

from __future__ import annotations

import contextlib
import io
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3

from pannier import __version__
from pannier.errors import Forbidden, InvalidRequest, NotFound, PannierError
from pannier.images.registry.connections import interruptible, open_pool, watched
from pannier.images.registry.proxies import proxy_for
from pannier.images.registry.refusals import RegistryError, unreachable
from pannier.images.registry.transfers import TransferEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import WriteableBuffer

    from pannier.images.registry.cancelling import Cancellation
    from pannier.images.registry.settings import RegistryOptions

__all__ = ["download_url", "downloaded"]

_BUFFER = 1 << 18
_CONNECT_SECONDS = 15
_REDIRECTS = 10
_REDIRECTING = {301, 302, 303, 307, 308}
_SHOWN = 1000
"""Bytes of a refusal's text that are passed on."""


def download_url(source: str) -> str:
    """Return the URL that is meant: without a scheme one of ``http``, as Docker has it.

    :raises InvalidRequest: it is none that can be fetched.
    """
    url = source if "://" in source else f"http://{source}"
    try:
        _parts(url)
    except ValueError as error:
        raise InvalidRequest(f'parse "{url}": {error}') from error
    return url


def _parts(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise InvalidRequest(f'Get "{url}": unsupported protocol scheme "{parts.scheme}"')
    if not parts.hostname or parts.port == 0:
        raise InvalidRequest(f'Get "{url}": no Host in request URL')
    return parts


@contextlib.contextmanager
def downloaded(
    options: RegistryOptions,
    url: str,
    cancellation: Cancellation,
    report: Callable[[TransferEvent], None],
) -> Iterator[BinaryIO]:
    """Give the content of a URL, for reading once, while *report* is told how far it has come.

    :raises NotFound: the server says so.
    :raises Forbidden: it says so, or leads to where nothing is encrypted any more.
    :raises RegistryError: it cannot be reached, or refuses.
    """
    with contextlib.ExitStack() as stack:
        response = _opened(options, url, cancellation, stack)
        report(TransferEvent(f"Downloading from {url}"))
        stack.enter_context(interruptible(response, cancellation))
        body = _Body(response, url, cancellation, report)
        yield cast("BinaryIO", io.BufferedReader(body, _BUFFER))


def _opened(
    options: RegistryOptions,
    url: str,
    cancellation: Cancellation,
    stack: contextlib.ExitStack,
) -> urllib3.BaseHTTPResponse:
    """Follow redirects to a response whose body is to be read."""
    asked = url
    for _ in range(_REDIRECTS):
        parts = _parts(url)
        host = parts.netloc.rpartition("@")[2]
        context = None
        if parts.scheme == "https":
            context = options.tls_context(options.endpoint(host))
        patience = options.common.timeout
        timeout = urllib3.Timeout(connect=min(_CONNECT_SECONDS, patience), read=patience)
        pool = stack.enter_context(open_pool(proxy_for(parts.scheme, host), timeout, context))
        headers = {"User-Agent": f"pannier/{__version__}", "Accept-Encoding": "identity"}
        try:
            with watched(cancellation):
                response = pool.request(
                    "GET",
                    url,
                    headers=headers,
                    redirect=False,
                    preload_content=False,
                    retries=False,
                    decode_content=False,
                )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            cancellation.check()  # it may be what broke the connection
            raise unreachable(host, error, f'Get "{url}"') from error
        stack.callback(response.close)
        location = response.headers.get("Location")
        if response.status not in _REDIRECTING or not location:
            _check_status(response, url)
            return response
        url = _led(url, location)
    raise RegistryError(f'Get "{asked}": stopped after {_REDIRECTS} redirects')


def _led(source: str, location: str) -> str:
    try:
        target = urljoin(source, location)
        parts = _parts(target)
    except ValueError as error:
        raise RegistryError(f"{source} redirects to {location[:_SHOWN]!r}: {error}") from error
    if urlsplit(source).scheme == "https" and parts.scheme == "http":
        raise Forbidden(
            f"{source} redirects to {target}, which is not encrypted",
            hint="import that URL itself, if you trust the way there",
        )
    return target


def _check_status(response: urllib3.BaseHTTPResponse, url: str) -> None:
    status = response.status
    if status == HTTPStatus.OK:
        return
    text = ""
    with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
        text = response.read(_SHOWN).decode(errors="replace").strip()
    said = f"failed to GET {url} with status {status} {response.reason or ''}".rstrip()
    kinds: dict[int, type[PannierError]] = {
        HTTPStatus.BAD_REQUEST: InvalidRequest,
        HTTPStatus.FORBIDDEN: Forbidden,
        HTTPStatus.NOT_FOUND: NotFound,
    }
    raise kinds.get(status, RegistryError)(f"{said}: {text}" if text else said)


class _Body(io.RawIOBase):
    """A response's body, which tells how much of it has come."""

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        url: str,
        cancellation: Cancellation,
        report: Callable[[TransferEvent], None],
    ) -> None:
        self._response = response
        self._read: Callable[[int], bytes] = getattr(response, "read1", response.read)
        self._url = url
        self._cancellation = cancellation
        self._report = report
        length = response.headers.get("Content-Length", "")
        self._total = int(length) if length.isdecimal() else 0
        self._come = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        self._cancellation.check()
        try:
            data = self._read(len(view))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self._cancellation.check()
            raise RegistryError(f"the download of {self._url} broke off: {error}") from error
        if not data and self._come < self._total:
            self._cancellation.check()
            raise RegistryError(
                f"the download of {self._url} broke off: {self._come} of {self._total} bytes came"
            )
        view[: len(data)] = data
        self._come += len(data)
        if data:
            self._report(TransferEvent("Importing", "", self._come, self._total))
        return len(data)
