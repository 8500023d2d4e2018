"""Being told when files change: inotify(7)."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING, Final

from pannier.linux.libc import check, libc

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["IN_CREATE", "IN_DELETE_SELF", "IN_MODIFY", "IN_MOVED_TO", "Inotify"]

IN_MODIFY: Final = 0x00000002
IN_MOVED_TO: Final = 0x00000080
IN_CREATE: Final = 0x00000100
IN_DELETE_SELF: Final = 0x00000400
IN_ONLYDIR: Final = 0x01000000

_EVENT: Final = struct.Struct("iIII")
_BUFFER: Final = 65536

# Indexing makes function objects of our own, whose types no other module changes.
_add_watch = libc["inotify_add_watch"]
_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_init = libc["inotify_init1"]
_init.argtypes = [ctypes.c_int]


class Inotify:
    """A queue of changes; its descriptor polls readable when there are some."""

    def __init__(self) -> None:
        self._descriptor = check(_init(os.O_CLOEXEC | os.O_NONBLOCK))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._descriptor

    def watch(self, path: str | os.PathLike[str], mask: int) -> int:
        """Add a file or folder, or change what of it is told; return the watch's number.

        :raises OSError: ENOENT where there is none, ENOSPC where the user's watches are used up.
        """
        return check(_add_watch(self._descriptor, os.fsencode(path), mask), path)

    def read(self) -> list[tuple[int, int, bytes]]:
        """Return the (watch, mask, name) of each change since the last call; never blocks.

        The name is that of a file in a watched folder, else empty.
        """
        found: list[tuple[int, int, bytes]] = []
        try:
            data = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return found
        position = 0
        while position < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size
            found.append((number, mask, data[position : position + length].rstrip(b"\0")))
            position += length
        return found

    def close(self) -> None:
        """Close the queue. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
