"""HTTP/1.1 answers are read whatever their framing, and hostile ones are refused."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.client import ProtocolError, Response
from pannier.client.wire import Connection, encode_head

if TYPE_CHECKING:
    from collections.abc import Callable


def respond(data: bytes, use: Callable[[Response], object], *, method: str = "GET") -> object:
    """Send bytes as a server would, then let a function use the response."""
    ours, theirs = socket.socketpair()
    released: list[Connection] = []

    def send() -> None:
        try:
            theirs.sendall(data)
        except OSError:
            return
        theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        connection = Connection(ours)
        status, headers = connection.head()
        return use(Response(connection, status, headers, method=method, release=released.append))
    finally:
        ours.close()
        thread.join()
        theirs.close()


def body(data: bytes, *, method: str = "GET") -> object:
    """Return the body of an answer."""
    return respond(data, lambda response: response.read(), method=method)


OK = b"HTTP/1.1 200 OK\r\n"


def test_a_counted_body_is_read_to_its_length() -> None:
    """Content-Length bounds the body."""
    assert body(OK + b"Content-Length: 5\r\n\r\nhelloXX") == b"hello"


def test_a_chunked_body_is_joined() -> None:
    """Chunks, their extensions and trailers are taken apart."""
    data = OK + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n \r\n0\r\nT: v\r\n\r\n"
    assert body(data) == b"hello "


def test_a_body_without_length_ends_with_the_connection() -> None:
    """Neither length nor chunks: everything up to the end."""
    assert body(OK + b"\r\nall of it") == b"all of it"


@pytest.mark.parametrize(
    ("head", "method"),
    [(b"HTTP/1.1 204 X\r\n\r\n", "POST"), (OK + b"Content-Length: 9\r\n\r\n", "HEAD")],
)
def test_some_answers_have_no_body(head: bytes, method: str) -> None:
    """204 and HEAD have none, whatever their headers say."""
    assert body(head, method=method) == b""


def test_interim_answers_are_passed_over() -> None:
    """100 Continue is not the answer."""
    assert body(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx") == b"x"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        OK + b"A: b\r\n" * 1000 + b"\r\n",
        OK + b"A: " + b"x" * 100_000 + b"\r\n\r\n",
        b"x" * 100_000,
        b"",
        OK,
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 1_0\r\n\r\n",
        OK + b"Content-Length: 10\r\n\r\nshort",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"T: v\r\n" * 1000,
    ],
)
def test_malformed_answers_are_refused(data: bytes) -> None:
    """Every breach of the protocol is one kind of error, and nothing is read without bound."""
    with pytest.raises(ProtocolError):
        body(data)


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    """Whatever comes back, it is read or refused."""
    try:
        body(OK + b"Transfer-Encoding: chunked\r\n\r\n" + data)
    except ProtocolError:
        return


@given(st.lists(st.binary(min_size=1, max_size=50)))
def test_chunks_round_trip(pieces: list[bytes]) -> None:
    """What was cut into chunks comes back whole."""
    data = b"".join(b"%X\r\n%s\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"
    assert body(OK + b"Transfer-Encoding: chunked\r\n\r\n" + data) == b"".join(pieces)


def test_json_values_are_split_wherever_they_break() -> None:
    """A stream's values are found though chunks cut them, also within a character."""
    text = '{"a":"é"}\r\n{"b":2} {"c":[3]}'.encode()
    data = b"".join(b"1\r\n%s\r\n" % text[i : i + 1] for i in range(len(text))) + b"0\r\n\r\n"
    found = respond(
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + data,
        lambda response: list(response.objects()),
    )
    assert found == [{"a": "é"}, {"b": 2}, {"c": [3]}]


def test_an_error_that_is_no_json_is_shown_as_it_is() -> None:
    """A proxy's plain text is still an error's message."""
    data = b"HTTP/1.1 502 Bad\r\nContent-Length: 4\r\n\r\noops"
    assert respond(data, lambda response: response.error_text()) == ("oops", None)


def test_a_header_cannot_be_forged() -> None:
    """A line break in a value is refused before anything is sent."""
    with pytest.raises(ProtocolError):
        encode_head("GET", "/x", {"A": "b\r\nC: d"})
