"""The client: requests to the daemon over one kept connection."""

from __future__ import annotations

import json
import os
import select
import socket

from pannier.client.errors import APIError, ConnectionFailed, ProtocolError
from pannier.client.wire import CHUNK, Connection, Response, Stream, encode_head, send_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from pannier.client.address import Address

__all__ = ["API_VERSION", "MINIMUM_VERSION", "Client", "Deferred", "quote", "read_pieces"]

API_VERSION = "1.51"
MINIMUM_VERSION = "1.24"
_CONNECT_TIMEOUT = 10.0
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def quote(text: str, safe: bytes = b"") -> str:
    """Percent-encode for a path or a query; urllib.parse costs 8 ms of every start."""
    return "".join(
        chr(byte) if byte in _SAFE or byte in safe else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def _query(query: Mapping[str, Any] | None) -> str:
    pairs = []
    for name, value in (query or {}).items():
        if value is None:
            continue
        if isinstance(value, (list, tuple)):
            pairs += [f"{quote(name)}={quote(str(one))}" for one in value]
            continue
        text = ("1" if value else "0") if isinstance(value, bool) else value
        if isinstance(value, dict):
            text = json.dumps(value)
        pairs.append(f"{quote(name)}={quote(str(text))}")
    return "?" + "&".join(pairs) if pairs else ""


def _number(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError:
        return (0,)


class Client:
    """Speaks the Docker Engine API to one daemon.

    The newest version that this client knows is tried first; a daemon that finds it too new is
    asked which it speaks, and the request is sent again. Against Pannier's own daemon that costs
    no round trip at all.

    :param on_refused: called once when nobody answers at the address; True means try again (it
        has started a daemon).
    """

    def __init__(self, address: Address, *, on_refused: Callable[[], bool] | None = None) -> None:
        self.address = address
        self.version = os.environ.get("DOCKER_API_VERSION") or API_VERSION
        self._on_refused = on_refused
        self._settled = not address.explicit or "DOCKER_API_VERSION" in os.environ
        self._idle: Connection | None = None
        self.timeout: float | None = None

    def disable_start(self) -> None:
        """Start no daemon, whatever was agreed: a completion must not."""
        self._on_refused = None

    # -- connections -------------------------------------------------------------------------

    def _dial(self) -> socket.socket:
        address = self.address
        if address.ssh or address.tls is not None:
            from pannier.client.tunnel import dial  # noqa: PLC0415 - costs 20 ms; few need it

            return dial(address, self.timeout)
        if address.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(self.timeout)
                sock.connect(address.path)
            except BaseException:
                sock.close()
                raise
            return sock
        sock = socket.create_connection((address.host, address.port), _CONNECT_TIMEOUT)
        sock.settimeout(self.timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def connect(self) -> Connection:
        """Return a new connection.

        :raises ConnectionFailed: where nobody answers, and nobody could be started.
        """
        try:
            return Connection(self._dial())
        except (FileNotFoundError, ConnectionRefusedError) as error:
            start, self._on_refused = self._on_refused, None
            if start is not None and start():
                return self.connect()
            raise ConnectionFailed(
                f"cannot connect to the daemon at {self.address}: {error.strerror}",
                hint="is it running? Start one with: pannier daemon",
            ) from error
        except PermissionError as error:
            raise ConnectionFailed(
                f"cannot connect to the daemon at {self.address}: permission denied",
                hint="run as root, or join the group that owns the socket",
            ) from error
        except OSError as error:
            raise ConnectionFailed(
                f"cannot connect to the daemon at {self.address}: {error}",
                hint="check the address given by --host, PANNIER_HOST or DOCKER_HOST",
            ) from error

    def _take(self) -> Connection:
        connection, self._idle = self._idle, None
        return connection or self.connect()

    def _give(self, connection: Connection) -> None:
        if self._idle is None and not connection.buffer:
            self._idle = connection
        else:
            connection.close()

    def close(self) -> None:
        """Close the kept connection."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    # -- requests ----------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        upload: Iterable[bytes] | int | None = None,
        headers: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> Response:
        """Send a request and return its answer with the body still to be read.

        :param body: a value to send as JSON.
        :param upload: bytes to send as they come (chunked), or the descriptor of an open file,
            which goes from the file to the socket within the kernel.
        :param check: raise for statuses of 400 and above.
        :raises APIError: when the daemon answers with an error.
        """
        if upload is not None:
            # What has been streamed cannot be sent a second time.
            self.negotiate()
        request = _Request(method, path, query=query, body=body, upload=upload, headers=headers)
        answer = self._exchange(request)
        if answer.status == 400 and not self._settled:
            message, hint = answer.error_text()
            # An answer to HEAD has no body that could say so.
            if "too new" not in message and method != "HEAD":
                if check:
                    raise APIError(400, message, hint=hint)
                return answer
            self.negotiate()
            answer = self._exchange(request)
        elif answer.status < 400:
            self._settled = True
        if check and answer.status >= 400:
            message, hint = answer.error_text()
            raise APIError(answer.status, message, hint=hint)
        return answer

    def _exchange(self, request: _Request) -> Response:
        connection = self._take()
        try:
            self._send(connection, request)
            return self._receive(connection, request)
        except (BrokenPipeError, ConnectionResetError, ProtocolError) as error:
            connection.close()
            if connection.used and request.method in ("GET", "HEAD") and not connection.buffer:
                # A kept connection that the daemon closed meanwhile; asking again harms nothing.
                return self._exchange(request)
            if isinstance(error, ProtocolError):
                raise
            raise ProtocolError(f"the daemon closed the connection: {error.strerror}") from error
        except BaseException:
            connection.close()
            raise

    def _send(self, connection: Connection, request: _Request) -> None:
        try:
            connection.sock.sendall(request.encode(self.address.host or "pannier", self.version))
            if request.upload is not None:
                _send_upload(connection.sock, request.upload)
        except (BrokenPipeError, ConnectionResetError):
            # The daemon may have refused before it had read everything, and said why.
            if not connection.fill():
                raise

    def _receive(self, connection: Connection, request: _Request) -> Response:
        status, headers = connection.head()
        connection.used = True
        return Response(connection, status, headers, method=request.method, release=self._give)

    def negotiate(self) -> None:
        """Agree on a version with a daemon that may be older than this client."""
        if self._settled:
            return
        self._settled = True
        answer = self._exchange(_Request("GET", "/_ping"))
        answer.read()
        theirs = answer.headers.get("api-version", MINIMUM_VERSION)
        if _number(theirs) < _number(self.version):
            self.version = theirs

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """GET a JSON value."""
        return self.request("GET", path, query=query).json()

    def post(self, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """POST and return the JSON answer, None where there is none."""
        return self.request("POST", path, query=query, body=body).json()

    def delete(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """DELETE and return the JSON answer, None where there is none."""
        return self.request("DELETE", path, query=query).json()

    def stream(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[Any]:
        """GET a stream of JSON values."""
        return self.request("GET", path, query=query).objects()

    def hijack(
        self, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> Stream:
        """POST and take the connection over (status 101 or 200).

        :raises APIError: when the daemon answers with an error.
        """
        self.negotiate()
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        request = _Request("POST", path, query=query, body=body, headers=upgrade)
        connection = self.connect()
        try:
            self._send(connection, request)
            answer = self._receive(connection, request)
        except OSError as error:
            connection.close()
            raise ProtocolError(f"the daemon closed the connection: {error}") from error
        if answer.status not in (101, 200):
            message, hint = answer.error_text()
            raise APIError(answer.status, message, hint=hint)
        kind = answer.headers.get("content-type", "")
        multiplexed = True if "multiplexed" in kind else None
        return Stream(connection.sock, bytes(connection.buffer), multiplexed=multiplexed)

    def defer(self, method: str, path: str, *, query: Mapping[str, Any] | None = None) -> Deferred:
        """Send a request on a connection of its own and read its answer later."""
        self.negotiate()
        request = _Request(method, path, query=query)
        connection = self.connect()
        self._send(connection, request)
        return Deferred(connection, lambda: self._receive(connection, request))


class Deferred:
    """A request that was sent and whose answer is read later."""

    def __init__(self, connection: Connection, receive: Callable[[], Response]) -> None:
        self._connection = connection
        self._receive = receive
        self._response: Response | None = None

    def fileno(self) -> int:
        """Return the socket's descriptor: readable when there is something of the answer."""
        return self._connection.sock.fileno()

    def accepted(self, seconds: float) -> None:
        """Wait until the daemon has answered the head, for at most ``seconds``.

        :raises APIError: when it answered with an error.
        """
        if select.select([self._connection.sock], [], [], seconds)[0]:
            self._head()

    def settled(self, seconds: float) -> None:
        """Wait, for at most ``seconds``, until there is something of the answer to read."""
        if not self._connection.buffer:
            select.select([self._connection.sock], [], [], seconds)

    def _head(self) -> Response:
        if self._response is None:
            self._response = self._receive()
            if self._response.status >= 400:
                message, hint = self._response.error_text()
                raise APIError(self._response.status, message, hint=hint)
        return self._response

    def json(self) -> Any:
        """Wait for the answer and return it.

        :raises APIError: when it is an error.
        """
        return self._head().json()

    def close(self) -> None:
        """Give the request up."""
        self._connection.close()


class _Request:
    """What is asked; encoded when it is sent, since the version may be agreed on meanwhile."""

    def __init__(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        upload: Iterable[bytes] | int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.method = method
        self.path = path + _query(query)
        self.body = body
        self.upload = upload
        self.headers = headers

    def encode(self, host: str, version: str) -> bytes:
        """Return the head, and the body unless it is streamed."""
        prefix = "" if self.path == "/_ping" else f"/v{version}"
        fields = {"Host": host, "User-Agent": "pannier"}
        fields.update(self.headers or {})
        payload = b""
        if isinstance(self.upload, int):
            fields.setdefault("Content-Type", "application/x-tar")
            fields["Content-Length"] = str(_left_in(self.upload))
        elif self.upload is not None:
            fields.setdefault("Content-Type", "application/x-tar")
            fields["Transfer-Encoding"] = "chunked"
        elif self.body is not None:
            payload = json.dumps(self.body, separators=(",", ":")).encode()
            fields["Content-Type"] = "application/json"
            fields["Content-Length"] = str(len(payload))
        elif self.method in ("POST", "PUT"):
            fields["Content-Length"] = "0"
        return encode_head(self.method, prefix + self.path, fields) + payload


def _left_in(descriptor: int) -> int:
    return os.fstat(descriptor).st_size - os.lseek(descriptor, 0, os.SEEK_CUR)


def _send_upload(sock: socket.socket, upload: Iterable[bytes] | int) -> None:
    if isinstance(upload, int):
        send_file(sock, upload, _left_in(upload))
        return
    for piece in upload:
        if piece:
            sock.sendall(b"%x\r\n" % len(piece))
            sock.sendall(piece)
            sock.sendall(b"\r\n")
    sock.sendall(b"0\r\n\r\n")


def read_pieces(descriptor: int) -> Iterator[bytes]:
    """Yield what a descriptor holds, in large pieces, for an upload."""
    while data := os.read(descriptor, CHUNK):
        yield data
