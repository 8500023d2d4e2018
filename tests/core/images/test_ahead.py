"""Reading ahead on a thread: the same bytes, errors in their place, no thread left behind."""

from __future__ import annotations

import io
import threading

import pytest

from pannier.images.ahead import ReadAhead

PIECE = 1 << 20


class Broken(io.RawIOBase):
    """Gives some bytes, then fails."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # as BufferedReader calls it
        """Read zeros."""
        if not self.left:
            raise OSError("broken")
        count = min(len(buffer), self.left)
        self.left -= count
        return count


@pytest.mark.parametrize("total", [0, 1, PIECE, PIECE + 1, 30 * PIECE + 7])
@pytest.mark.parametrize("size", [PIECE, 1000, PIECE + 1, -1])
def test_the_same_bytes(total: int, size: int) -> None:
    """Whatever sizes are asked for; only the last answer is short."""
    data = bytes(number % 251 for number in range(total % 10_000)) * (total // 10_000 + 1)
    data = data[:total].ljust(total, b"x")
    with ReadAhead(io.BytesIO(data)) as stream:
        answers = []
        while answer := stream.read(size):
            answers.append(answer)
    assert b"".join(answers) == data
    if size > 0:
        assert all(len(answer) == size for answer in answers[:-1])


def test_other_ways_to_read() -> None:
    """Into a buffer, and whatever is there."""
    data = bytes(range(256)) * 4096
    with ReadAhead(io.BytesIO(data)) as stream:
        buffer = bytearray(300_000)
        assert stream.readinto(buffer) == 300_000
        first = stream.read1(10)
        rest = first + stream.read1()
        while more := stream.read1():
            rest += more
    assert bytes(buffer) + rest == data


def test_an_error_comes_in_its_place() -> None:
    """After the bytes before it, and again when it is read again."""
    source = io.BufferedReader(Broken(2 * PIECE), PIECE)
    with ReadAhead(source) as stream:
        assert len(stream.read(2 * PIECE)) == 2 * PIECE
        for _ in range(2):
            with pytest.raises(OSError, match="broken"):
                stream.read(1)


def test_a_reader_that_stops_leaves_no_thread() -> None:
    """However much was to come."""
    before = threading.active_count()
    with ReadAhead(io.BytesIO(bytes(100 * PIECE))) as stream:
        stream.read(10)
    assert threading.active_count() == before
