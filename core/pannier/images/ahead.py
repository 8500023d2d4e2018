"""Reading ahead: a stream is inflated and hashed on one core while it is unpacked on another."""

from __future__ import annotations

import io
import queue
import threading
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from _typeshed import WriteableBuffer

__all__ = ["ReadAhead"]

_PIECE: Final = 1 << 20
"""As much as the tar reader asks for, so that pieces are handed on whole."""
_AHEAD: Final = 4
"""Pieces, so four MiB: enough to bridge a large file being written, or a slow read."""


class ReadAhead(io.BufferedIOBase):
    """A stream that a thread reads ahead of its reader. Use it in a ``with`` block.

    What the source raises is raised where its place in the stream is read. At the end of the block
    the thread has ended, wherever in the stream the reader stopped.

    :param source: its ``read`` gives as much as is asked for, except at the end; it stays open.
    """

    def __init__(self, source: BinaryIO | io.BufferedIOBase) -> None:
        self._source = source
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._left = b""
        self._position = 0
        self._end: BaseException | bytes | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        # Whatever it waits to hand over, it may.
        while self._thread.is_alive():
            try:
                self._pieces.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                piece = self._source.read(_PIECE)
                self._pieces.put(piece)
                if not piece:
                    return
        except BaseException as error:  # noqa: BLE001 - raised where it is read
            self._pieces.put(error)

    def readable(self) -> bool:
        """Return True."""
        return True

    def _fill(self) -> bool:
        """Have the next piece; False at the end."""
        if self._end is None:
            piece = self._pieces.get()
            if piece and isinstance(piece, bytes):
                self._left, self._position = piece, 0
                return True
            self._end = piece
        if isinstance(self._end, BaseException):
            raise self._end
        return False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read *size* bytes, or all; less only at the end."""
        if size is None or size < 0:
            size = 1 << 62
        found: list[bytes] = []
        while size:
            available = len(self._left) - self._position
            if not available:
                if not self._fill():
                    break
                available = len(self._left)
            if available <= size and not self._position:
                piece, self._left = self._left, b""  # whole, and not copied
            else:
                piece = self._left[self._position : self._position + min(size, available)]
                self._position += len(piece)
            found.append(piece)
            size -= len(piece)
        return found[0] if len(found) == 1 else b"".join(found)

    def read1(self, size: int = -1, /) -> bytes:
        """Read at most *size* bytes, from one piece."""
        if self._position == len(self._left) and not self._fill():
            return b""
        room = len(self._left) - self._position
        return self.read(room if size < 0 else min(size, room))

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into a buffer; less than its length only at the end."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)
