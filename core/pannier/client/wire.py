"""HTTP/1.1 on a socket: heads, bodies of every framing, and hijacked connections.

Source: RFC 9112 (message syntax). Only what a client needs is here, with a limit on everything
that the other side decides.
"""

from __future__ import annotations

import json
import os
import socket

from pannier.client.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["CHUNK", "Connection", "Response", "Stream", "encode_head", "send_file"]

#: Bytes asked of the kernel at a time. Large, since every read of a stream costs a turn of the
#: interpreter.
CHUNK = 512 * 1024
_HEAD_LIMIT = 64 * 1024
_HEADERS_LIMIT = 128
_LINE_LIMIT = 8 * 1024
_SIZE_DIGITS = 16
_SIZE_LIMIT = _SIZE_DIGITS + 4
_ERROR_BODY_LIMIT = 1024 * 1024


def encode_head(method: str, target: str, headers: dict[str, str]) -> bytes:
    """Return a request's head.

    :raises ProtocolError: where a part holds a line break, which would forge a second header.
    """
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ProtocolError("a request's header holds a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Connection:
    """One socket to the daemon and what was read from it but not used yet."""

    __slots__ = ("buffer", "sock", "used")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.used = False

    def close(self) -> None:
        """Close the socket; a second time is no error."""
        self.sock.close()

    def fill(self) -> bool:
        """Read once more into the buffer; return False at the end of the stream."""
        data = self.sock.recv(CHUNK)
        self.buffer += data
        return bool(data)

    def take(self, limit: int) -> bytes:
        """Return some bytes, at most ``limit``; empty at the end of the stream."""
        if not self.buffer:
            return self.sock.recv(min(limit, CHUNK))
        data = bytes(self.buffer[:limit])
        del self.buffer[:limit]
        return data

    def line(self) -> bytes:
        """Return one line without its end.

        :raises ProtocolError: when it is too long, or the stream ends in it.
        """
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > _LINE_LIMIT:
                raise ProtocolError("the daemon's answer has an overlong line")
            if not self.fill():
                raise ProtocolError("the daemon closed the connection within an answer")
        if end > _LINE_LIMIT:
            raise ProtocolError("the daemon's answer has an overlong line")
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line.removesuffix(b"\r")

    def head(self) -> tuple[int, dict[str, str]]:
        """Read an answer's head: its status and its headers, names in lower case.

        Interim answers (100 Continue) are passed over.
        """
        while True:
            status, headers = self._one_head()
            if status == 101 or status >= 200:
                return status, headers

    def _one_head(self) -> tuple[int, dict[str, str]]:
        first = self.line()
        parts = first.split(None, 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not _is_status(parts[1]):
            raise ProtocolError(
                f"what answers is no HTTP server: {first[:60]!r}",
                hint="check the address given by --host or PANNIER_HOST",
            )
        headers: dict[str, str] = {}
        size, count = len(first), 0
        while line := self.line():
            size += len(line)
            count += 1
            name, colon, value = line.partition(b":")
            if size > _HEAD_LIMIT or count > _HEADERS_LIMIT or not colon:
                raise ProtocolError("the daemon's answer has malformed headers")
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        return int(parts[1]), headers


def _is_status(word: bytes) -> bool:
    return len(word) == 3 and word.isdigit()


class Response:
    """An answer: its status, its headers, and its body, read once and in pieces.

    :param release: called with the connection when the body has been read to its end and the
        connection may carry another request.
    """

    def __init__(
        self,
        connection: Connection,
        status: int,
        headers: dict[str, str],
        *,
        method: str,
        release: Callable[[Connection], None],
    ) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection
        self._release = release
        self._done = False
        self._bodyless = method == "HEAD" or status in (204, 304)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces as they arrive; the connection is given back at the end.

        :raises ProtocolError: where the connection ends before the body does.
        """
        if self._done:
            return
        try:
            yield from self._pieces()
        finally:
            # Left early, by an error or by its reader, the connection holds half an answer.
            self.close()

    def _pieces(self) -> Iterator[bytes]:
        until_close = False
        if self._bodyless:
            pass
        elif "chunked" in self.headers.get("transfer-encoding", "").lower():
            yield from self._chunked()
        elif (length := self.headers.get("content-length")) is not None:
            if not (length.isascii() and length.isdigit()):
                raise ProtocolError(f"the daemon's answer has a bad length: {length!r}")
            yield from self._counted(int(length))
        else:
            until_close = True
            while data := self._connection.take(CHUNK):
                yield data
        self._done = True
        if until_close or self.headers.get("connection", "").lower() == "close":
            self._connection.close()
        else:
            self._release(self._connection)

    def _counted(self, left: int) -> Iterator[bytes]:
        while left:
            data = self._connection.take(left)
            if not data:
                raise ProtocolError("the daemon closed the connection within an answer")
            left -= len(data)
            yield data

    def _chunked(self) -> Iterator[bytes]:
        while True:
            yield from self._whole_chunks()
            size = _chunk_size(self._connection.line())
            if not size:
                break
            yield from self._counted(size)
            if self._connection.line():
                raise ProtocolError("the daemon's answer has a chunk longer than announced")
        trailers = 0
        while self._connection.line():
            trailers += 1
            if trailers > _HEADERS_LIMIT:
                raise ProtocolError("the daemon's answer has too many trailers")

    def _whole_chunks(self) -> Iterator[bytes]:
        """Yield, as one piece, the chunks that the buffer holds whole.

        Some daemons send a line a chunk, and taking each by itself would cost more than reading.
        """
        buffer = self._connection.buffer
        data = bytes(buffer)
        pieces: list[bytes] = []
        position = 0
        while (end := data.find(b"\r\n", position, position + _SIZE_LIMIT)) > 0:
            start = end + 2
            after = start + _chunk_size(data[position:end])
            if after == start or data[after : after + 2] != b"\r\n":
                break
            pieces.append(data[start:after])
            position = after + 2
        if pieces:
            del buffer[:position]
            yield b"".join(pieces)

    def read(self, limit: int | None = None) -> bytes:
        """Return the whole body, or its first ``limit`` bytes (the connection is then closed)."""
        pieces, size = [], 0
        for piece in self.chunks():
            pieces.append(piece)
            size += len(piece)
            if limit is not None and size > limit:
                self.close()
                break
        body = b"".join(pieces)
        return body if limit is None else body[:limit]

    def json(self) -> Any:
        """Return the body as JSON; None where it is empty.

        :raises ProtocolError: where it is something else.
        """
        body = self.read()
        if not body.strip():
            return None
        try:
            return json.loads(body)
        except ValueError as error:
            raise ProtocolError(f"the daemon's answer is no JSON: {error}") from error

    def objects(self) -> Iterator[Any]:
        """Yield each JSON value of a stream of them, as they arrive."""
        decoder = json.JSONDecoder()
        text = ""
        pending = b""
        for piece in self.chunks():
            # A piece may end within a character; each value ends with a line break in practice,
            # but the specification promises none, so the decoder finds the ends.
            pending += piece
            try:
                text += pending.decode()
                pending = b""
            except UnicodeDecodeError as error:
                text += pending[: error.start].decode()
                pending = pending[error.start :]
            text = text.lstrip()
            while text:
                try:
                    value, end = decoder.raw_decode(text)
                except ValueError:
                    break
                yield value
                text = text[end:].lstrip()

    def error_text(self) -> tuple[str, str | None]:
        """Return the message and the hint of an error's body."""
        body = self.read(_ERROR_BODY_LIMIT)
        try:
            value = json.loads(body)
        except ValueError:
            value = None
        if isinstance(value, dict) and isinstance(value.get("message"), str):
            hint = value.get("hint")
            return value["message"].rstrip("\n"), hint if isinstance(hint, str) else None
        return body.decode(errors="replace").strip() or f"status {self.status}", None

    def close(self) -> None:
        """Drop the answer, and its connection with it unless the body was read."""
        if not self._done:
            self._done = True
            self._connection.close()


def _chunk_size(line: bytes) -> int:
    """Return the size that a chunk's first line announces.

    :raises ProtocolError: where it is no number; int() alone would also take a sign, an
        underscore or a prefix.
    """
    word = line.partition(b";")[0].strip()
    if word.isalnum() and len(word) <= _SIZE_DIGITS and word[1:2].lower() != b"x":
        try:
            return int(word, 16)
        except ValueError:
            pass
    raise ProtocolError(f"the daemon's answer has a bad chunk: {word[:20]!r}")


class Stream:
    """A hijacked connection: raw bytes both ways, and what was read past the answer's head.

    :param multiplexed: the output comes in frames of stdout and stderr (see
        :mod:`pannier.client.frames`); None where the daemon did not say (before API 1.42).
    """

    def __init__(
        self, sock: socket.socket, leftover: bytes, *, multiplexed: bool | None = None
    ) -> None:
        self.sock = sock
        self.leftover = leftover
        self.multiplexed = multiplexed

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self.sock.fileno()

    def close_write(self) -> None:
        """Say that no more input comes; output may still follow."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            # The other side may have gone first.
            return

    def close(self) -> None:
        """Close the connection; a second time is no error."""
        self.sock.close()


def send_file(sock: socket.socket, descriptor: int, size: int) -> None:
    """Send ``size`` bytes of an open file without carrying them through this process."""
    offset = os.lseek(descriptor, 0, os.SEEK_CUR)
    end = offset + size
    while offset < end:
        sent = os.sendfile(sock.fileno(), descriptor, offset, min(end - offset, 1 << 26))
        if not sent:
            raise ProtocolError("the file became shorter while it was sent")
        offset += sent
