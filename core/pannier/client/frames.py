"""The frames in which stdout and stderr share one stream.

Source: Docker Engine API, ContainerAttach, "Stream format": eight bytes of header (the stream's
number, three zero bytes, the payload's length as a big-endian 32-bit number), then the payload.
"""

from __future__ import annotations

from pannier.client.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["STDERR", "STDIN", "STDOUT", "Demultiplexer", "demultiplex"]

STDIN, STDOUT, STDERR = 0, 1, 2
_HEADER = 8


class Demultiplexer:
    """Cuts a stream into the payloads of its frames, without ever holding a whole frame.

    :param write: called with the stream's number (1 or 2) and a piece of its payload.
    """

    def __init__(self, write: Callable[[int, memoryview], None]) -> None:
        self._write = write
        self._header = bytearray()
        self._stream = STDOUT
        self._left = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next piece of the stream.

        :raises ProtocolError: where a header names no stream.
        """
        view = memoryview(data)
        position, size = 0, len(view)
        while position < size:
            if self._left:
                end = min(position + self._left, size)
                self._write(self._stream, view[position:end])
                self._left -= end - position
                position = end
                continue
            end = min(position + _HEADER - len(self._header), size)
            self._header += view[position:end]
            position = end
            if len(self._header) == _HEADER:
                self._begin()

    def _begin(self) -> None:
        self._stream = self._header[0]
        if self._stream not in (STDIN, STDOUT, STDERR) or any(self._header[1:4]):
            raise ProtocolError("the daemon's stream is not in frames")
        self._left = int.from_bytes(self._header[4:], "big")
        self._header.clear()


def demultiplex(pieces: Iterable[bytes], write: Callable[[int, memoryview], None]) -> None:
    """Feed all of a stream's pieces to ``write``."""
    demultiplexer = Demultiplexer(write)
    for piece in pieces:
        demultiplexer.feed(piece)
