"""The frames in which stdout and stderr share one stream.

Source: Docker Engine API, ContainerAttach, "Stream format": eight bytes of header (the stream's
number, three zero bytes, the payload's length as a big-endian 32-bit number), then the payload.
"""

from __future__ import annotations

import struct

from pannier.client.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["STDERR", "STDIN", "STDOUT", "Demultiplexer", "demultiplex"]

STDIN, STDOUT, STDERR = 0, 1, 2
_HEADER = 8
_UNPACK: Callable[..., tuple[int, int]] = struct.Struct(">LL").unpack_from
#: The first four bytes of a header, as a number, to the stream.
_MARKS = {number << 24: number for number in (STDIN, STDOUT, STDERR)}


class Demultiplexer:
    """Cuts a stream into the payloads of its frames, without ever holding a whole frame.

    Neighbouring frames of one stream are written together: a log has a frame for every line, and
    a write for each of them would cost a hundred times the work of finding them.

    :param write: called with the stream's number (1 or 2) and a piece of its payload.
    """

    def __init__(self, write: Callable[[int, bytes | memoryview], None]) -> None:
        self._write = write
        self._header = b""
        self._stream = STDOUT
        self._left = 0
        self._pieces: list[memoryview] = []

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next piece of the stream; what it holds is written before this returns.

        :raises ProtocolError: where a header names no stream.
        """
        view = memoryview(data)
        position, size = self._resume(view), len(view)
        stream, pieces = self._stream, self._pieces
        # The loop runs once a frame, a million times for a long log: nothing in it is a call of
        # ours, and a header is two numbers read in place.
        while position + _HEADER <= size:
            mark, length = _UNPACK(view, position)
            found = _MARKS.get(mark)
            if found is None:
                raise ProtocolError("the daemon's stream is not in frames")
            if found != stream:
                self._flush(stream)
                self._stream = stream = found
            position += _HEADER
            end = position + length
            if end > size:
                self._left = end - size
                end = size
            pieces.append(view[position:end])
            position = end
        self._header += view[position:]
        self._flush(stream)

    def _resume(self, view: memoryview) -> int:
        """Finish the frame or the header that the last piece ended in; return the new position."""
        position = min(self._left, len(view))
        if position:
            self._pieces.append(view[:position])
            self._left -= position
        if self._left or not self._header:
            return position
        taken = min(_HEADER - len(self._header), len(view))
        header = self._header + view[:taken]
        if len(header) < _HEADER:
            self._header = header
            return taken
        self._header = b""
        mark, length = _UNPACK(header)
        found = _MARKS.get(mark)
        if found is None:
            raise ProtocolError("the daemon's stream is not in frames")
        self._stream = found
        end = min(taken + length, len(view))
        self._pieces.append(view[taken:end])
        self._left = taken + length - end
        return end

    def _flush(self, stream: int) -> None:
        pieces = self._pieces
        if len(pieces) == 1:
            self._write(stream, pieces[0])
        elif pieces:
            self._write(stream, b"".join(pieces))
        pieces.clear()


def demultiplex(pieces: Iterable[bytes], write: Callable[[int, bytes | memoryview], None]) -> None:
    """Feed all of a stream's pieces to ``write``."""
    demultiplexer = Demultiplexer(write)
    for piece in pieces:
        demultiplexer.feed(piece)
