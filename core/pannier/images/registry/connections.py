"""Connections that end at once when what is asked over them is given up, and proxies on their way.

A read that waits, a server that takes nothing more, a handshake, even a connection that is not
made yet: shutting the socket down from another thread ends each of them. Only looking a name up
cannot be ended; the resolver's own limits (resolv.conf(5), ``timeout``) end that.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from pannier.errors import ConfigError
from pannier.images.registry.cancelling import Cancellation

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

__all__ = ["interruptible", "open_pool", "watched", "watcher"]

_AT_ONCE = 8

_watcher: ContextVar[Cancellation | None] = ContextVar("watcher", default=None)


@contextlib.contextmanager
def watched(cancellation: Cancellation) -> Iterator[None]:
    """Have what this thread asks within a block end when *cancellation* is set."""
    token = _watcher.set(cancellation)
    try:
        yield
    finally:
        _watcher.reset(token)


def watcher() -> Cancellation:
    """Return what ends the requests of this thread; a new one, that never does, outside of them."""
    return _watcher.get() or Cancellation()


@contextlib.contextmanager
def interruptible(response: urllib3.BaseHTTPResponse, cancellation: Cancellation) -> Iterator[None]:
    """Have a read of a response's body end when *cancellation* is set, within a block."""

    def interrupt() -> None:
        shutdown = getattr(response, "shutdown", None)  # urllib3 2.3 and later
        if shutdown is not None:
            with contextlib.suppress(Exception):  # it may have ended by itself
                shutdown()

    with cancellation.calling(interrupt):
        yield


class _Connection(HTTPConnection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = threading.Lock()
        # A second descriptor of the socket: TLS takes the first one's object over.
        self._handle: socket.socket | None = None

    def connect(self) -> None:
        with self._breakable():
            super().connect()

    def request(self, *args: Any, **kwargs: Any) -> None:
        with self._breakable():
            super().request(*args, **kwargs)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # urllib3's is, too
        with self._breakable():
            return super().getresponse()

    def close(self) -> None:
        super().close()
        self._hold(None)

    @contextlib.contextmanager
    def _breakable(self) -> Iterator[None]:
        cancellation = watcher()
        with cancellation.calling(self._break):
            cancellation.check()
            yield

    def _break(self) -> None:
        # Under the lock, since the descriptor's number may be another file's once it is closed.
        with self._guard, contextlib.suppress(OSError):
            if self._handle is not None:
                self._handle.shutdown(socket.SHUT_RDWR)

    def _hold(self, handle: socket.socket | None) -> None:
        with self._guard:
            old, self._handle = self._handle, handle
            if old is not None:
                old.close()

    def _new_conn(self) -> socket.socket:
        # As urllib3's own, but for a socket that is known before it is connected.
        host = self.host.strip("[]")
        try:
            found = socket.getaddrinfo(host, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        deadline = time.monotonic() + float(self.timeout or 0)
        problem = OSError("the name has no address")
        for family, _, protocol, _, address in found:
            try:
                return self._connected(family, protocol, address, deadline)
            except OSError as error:
                problem = error
            watcher().check()
        if isinstance(problem, TimeoutError):
            raise ConnectTimeoutError(
                self, f"connecting to {self.host} took longer than {self.timeout} s"
            ) from problem
        raise NewConnectionError(
            self, f"Failed to establish a new connection: {problem}"
        ) from problem

    def _connected(
        self, family: int, protocol: int, address: Any, deadline: float
    ) -> socket.socket:
        with contextlib.ExitStack() as stack:
            made = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, protocol))
            for option in self.socket_options or ():
                made.setsockopt(*option)
            self._hold(made.dup())
            stack.callback(self._hold, None)
            watcher().check()  # what was given up before had nothing to break
            made.settimeout(max(deadline - time.monotonic(), 0.001))
            made.connect(address)
            stack.pop_all()
            return made


class _PlainConnection(_Connection):
    pass


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


def open_pool(
    proxy: str | None, timeout: urllib3.Timeout, context: ssl.SSLContext | None
) -> urllib3.PoolManager:
    """Return the connections to one server.

    :param proxy: the URL of the proxy on the way, perhaps with a user and a password.
    :param context: how TLS is spoken; None for a server that speaks plain HTTP.
    :raises ConfigError: the proxy is of a kind that is not spoken to.
    """
    made = urllib3.PoolManager(timeout=timeout, ssl_context=context, maxsize=_AT_ONCE)
    if proxy is not None:
        parts = urlsplit(proxy)
        headers = None
        if parts.username:
            user, password = unquote(parts.username), unquote(parts.password or "")
            headers = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(
                f"the proxy {parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()} "
                "cannot be used",
                hint="HTTP_PROXY and HTTPS_PROXY are like http://proxy.example.com:3128",
            )
        made = urllib3.ProxyManager(
            parts.geturl(),
            timeout=timeout,
            ssl_context=context,
            proxy_headers=headers,
            maxsize=_AT_ONCE,
        )
    made.pool_classes_by_scheme = {"http": _PlainPool, "https": _TLSPool}
    return made
