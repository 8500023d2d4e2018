"""Frames of stdout and stderr are taken apart wherever the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.client import ProtocolError
from pannier.client.frames import Demultiplexer, demultiplex


def _frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40))),
    st.integers(min_value=1, max_value=17),
)
def test_each_stream_keeps_its_bytes(frames: list[tuple[int, bytes]], cut: int) -> None:
    """However the stream is cut, each byte arrives once, in order, on its own stream."""
    data = b"".join(_frame(number, payload) for number, payload in frames)
    found = {1: b"", 2: b""}

    def write(number: int, piece: bytes | memoryview) -> None:
        found[number] += bytes(piece)

    demultiplex((data[i : i + cut] for i in range(0, len(data), cut)), write)
    assert found == {
        number: b"".join(payload for one, payload in frames if one == number) for number in (1, 2)
    }


@pytest.mark.parametrize("header", [b"\x07\0\0\0\0\0\0\x01", b"\x01\0\x01\0\0\0\0\x01"])
def test_what_is_no_frame_is_refused(header: bytes) -> None:
    """A terminal's bytes are not taken for frames."""
    with pytest.raises(ProtocolError):
        Demultiplexer(lambda *_: None).feed(header)


def test_a_line_a_frame_is_few_writes() -> None:
    """Neighbouring frames of a stream are written together, and the order between streams holds."""
    written: list[tuple[int, bytes]] = []
    data = _frame(1, b"a\n") * 1000 + _frame(2, b"e\n") + _frame(1, b"b\n") * 10
    Demultiplexer(lambda number, piece: written.append((number, bytes(piece)))).feed(data)
    assert written == [(1, b"a\n" * 1000), (2, b"e\n"), (1, b"b\n" * 10)]


def test_nothing_is_held_back() -> None:
    """What arrived of a frame is written at once, before its end arrives."""
    written: list[bytes] = []
    demultiplexer = Demultiplexer(lambda _, piece: written.append(bytes(piece)))
    demultiplexer.feed(_frame(1, b"hello")[:11])
    assert written == [b"hel"]
    demultiplexer.feed(b"lo")
    assert written == [b"hel", b"lo"]
