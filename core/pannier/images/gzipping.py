"""Compressing layers for registries: gzip, fast, and the same bytes every time.

The stream is cut into blocks of one MiB, each deflated on its own and ended on a byte's border
(RFC 1951, an empty stored block), so that several cores can work on one layer; together they are
one ordinary gzip member (RFC 1952) without a name or time. What comes out depends on the input and
the library alone, not on the number of threads.
"""

from __future__ import annotations

import contextlib
import importlib
import struct
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future, ThreadPoolExecutor
    from io import RawIOBase

__all__ = ["compress"]

_BLOCK: Final = 1 << 20
_LEVEL: Final = 1
_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
"""Deflate, no flags, no time, the fastest algorithm, an unknown system."""
_LAST: Final = b"\x03\x00"
"""An empty deflate block that is the last one."""


def compress(
    source: BinaryIO | RawIOBase, pool: ThreadPoolExecutor, ahead: int, check: Callable[[], None]
) -> Iterator[bytes]:
    """Yield the gzip form of *source*, read to its end.

    :param pool: where blocks are deflated.
    :param ahead: how many blocks may be in work.
    :param check: called between blocks; what it raises ends the work.
    """
    zlib_module = _zlib()
    yield _HEADER
    checksum = size = 0
    work: deque[Future[bytes]] = deque()
    try:
        while block := source.read(_BLOCK):
            check()
            checksum = zlib_module.crc32(block, checksum)
            size += len(block)
            work.append(pool.submit(_deflate, zlib_module, block))
            if len(work) > ahead:
                yield work.popleft().result()
        while work:
            yield work.popleft().result()
    finally:
        for future in work:
            future.cancel()
    yield _LAST + struct.pack("<II", checksum, size & 0xFFFFFFFF)


def _deflate(module: Any, block: bytes) -> bytes:
    deflater = module.compressobj(_LEVEL, module.DEFLATED, -15)
    return bytes(deflater.compress(block) + deflater.flush(module.Z_FULL_FLUSH))


def _zlib() -> Any:
    """Return ISA-L, which is several times as fast, or else zlib: their interfaces are one."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("isal.isal_zlib")
    return zlib
