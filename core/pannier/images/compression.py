"""Compressed streams: told apart by their first bytes, opened for reading, kept from exploding.

gzip goes through ISA-L where the package ``isal`` is installed, which inflates about twice as fast
as zlib; zstd needs Python 3.14 or the package ``backports.zstd``. Memory stays bounded whatever the
stream says: a decompressor that wants a larger window is refused.
"""

from __future__ import annotations

import importlib
import io
import lzma
import zlib
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from pannier.errors import ImageInvalid, UnsupportedOperation

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

__all__ = ["DEFAULT_LIMITS", "Compression", "Limits", "detect", "open_stream"]

CHUNK = 1 << 20
_INPUT = 256 << 10
_MAX_WINDOW = 128 << 20
_HEAD = 6


class Compression(StrEnum):
    """How a stream is compressed; the value is the suffix that OCI media types use."""

    PLAIN = ""
    GZIP = "gzip"
    ZSTD = "zstd"
    XZ = "xz"
    BZIP2 = "bzip2"


_MAGIC = {
    b"\x1f\x8b": Compression.GZIP,
    b"\x28\xb5\x2f\xfd": Compression.ZSTD,
    b"\xfd7zXZ\x00": Compression.XZ,
    b"BZh": Compression.BZIP2,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a stream may grow.

    :param size: bytes that may come out.
    :param ratio: how many bytes may come out for each one that goes in; looked at only once more
        than *floor* bytes came out, so that a small layer of zeros is none the worse.
    :param floor: bytes.
    """

    size: int = 1 << 40
    ratio: int = 200
    floor: int = 1 << 30


DEFAULT_LIMITS = Limits()


def detect(head: bytes) -> Compression:
    """Tell a stream's compression from its first six bytes; PLAIN where nothing is known."""
    for magic, compression in _MAGIC.items():
        if head.startswith(magic):
            return compression
    # A zstd stream may begin with a skippable frame (0x184D2A50 to 0x184D2A5F).
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return Compression.ZSTD
    return Compression.PLAIN


class _Decoder(Protocol):
    """One decompressor: bounded output for whatever input."""

    def decode(self, data: bytes, room: int) -> bytes:
        """Return at most *room* bytes; *data* is empty while :attr:`hungry` is False."""

    @property
    def hungry(self) -> bool:
        """Whether it needs input to go on."""

    @property
    def at_boundary(self) -> bool:
        """Whether the stream may end here."""


class _Zlib:
    """gzip, with as many members as there are."""

    def __init__(self) -> None:
        try:
            module: Any = importlib.import_module("isal.isal_zlib")
        except ImportError:
            module = zlib
        self._new: Callable[[], Any] = lambda: module.decompressobj(wbits=31)
        self._errors = (zlib.error, module.error)
        self._object: Any = None
        self._left = b""
        self._ended = False
        self._begun = False

    @property
    def hungry(self) -> bool:
        return not self._left

    @property
    def at_boundary(self) -> bool:
        return self._begun and self._object is None

    def decode(self, data: bytes, room: int) -> bytes:
        data = self._left + data if self._left else data
        self._left = b""
        if self._object is None:
            if self._begun and (self._ended or not data.startswith(b"\x1f")):
                # gzip(1) ignores what follows the last member; so do we, as padding is common.
                self._ended = True
                return b""
            self._object, self._begun = self._new(), True
        try:
            out: bytes = self._object.decompress(data, room)
        except self._errors as error:
            raise ValueError(str(error)) from None
        if self._object.eof:
            self._left = self._object.unused_data
            self._object = None
        else:
            self._left = self._object.unconsumed_tail
        return out


class _Standard:
    """xz, bzip2 and zstd, through the interface that Python's modules share."""

    def __init__(self, new: Callable[[], Any], *errors: type[Exception]) -> None:
        self._new = new
        self._errors: tuple[type[Exception], ...] = (OSError, EOFError, lzma.LZMAError, *errors)
        self._object: Any = None
        self._left = b""
        self._begun = False

    @property
    def hungry(self) -> bool:
        if self._object is None:
            return not self._left
        return bool(self._object.needs_input)

    @property
    def at_boundary(self) -> bool:
        return self._begun and self._object is None

    def decode(self, data: bytes, room: int) -> bytes:
        if self._object is None:
            data = self._left + data
            self._left = b""
            if self._begun and not data.strip(b"\0"):
                return b""  # xz pads a stream with zeros
            self._object, self._begun = self._new(), True
        try:
            out: bytes = self._object.decompress(data, room)
        except self._errors as error:
            raise ValueError(str(error)) from None
        if self._object.eof:
            self._left = self._object.unused_data
            self._object = None
        return out


class _Inflating(io.RawIOBase):
    """Reads plain bytes out of a compressed stream."""

    def __init__(self, raw: BinaryIO, decoder: _Decoder, name: str, limits: Limits) -> None:
        self._raw = raw
        self._decoder = decoder
        self._name = name
        self._limits = limits
        self._in = 0
        self._out = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        if not view:
            return 0
        while not self._ended:
            data = b""
            if self._decoder.hungry:
                data = self._raw.read(_INPUT)
                self._in += len(data)
                if not data:
                    self._end()
                    break
            try:
                out = self._decoder.decode(data, len(view))
            except ValueError as error:
                raise ImageInvalid(f"the {self._name} stream is broken: {error}") from None
            if out:
                self._count(len(out))
                view[: len(out)] = out
                return len(out)
        return 0

    def _end(self) -> None:
        if not self._decoder.at_boundary:
            raise ImageInvalid(
                f"the {self._name} stream ends too early", hint="was the file copied whole?"
            )
        self._ended = True

    def _count(self, size: int) -> None:
        self._out += size
        limits = self._limits
        if self._out > limits.size or self._out > max(limits.floor, self._in * limits.ratio):
            raise ImageInvalid(
                f"the {self._name} stream unpacks to more than is allowed: "
                f"{self._out} bytes out of {self._in} compressed ones",
                hint="this looks like a decompression bomb; unpack it yourself if it is not",
            )


class _Prefixed(io.RawIOBase):
    """A stream whose first bytes were looked at already."""

    def __init__(self, head: bytes, raw: BinaryIO) -> None:
        self._head = head
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        if self._head:
            data = self._head[: len(view)]
            self._head = self._head[len(data) :]
        else:
            data = self._raw.read(len(view))
        view[: len(data)] = data
        return len(data)


def _read_head(raw: BinaryIO) -> bytes:
    head = b""
    while len(head) < _HEAD:
        more = raw.read(_HEAD - len(head))
        if not more:
            break
        head += more
    return head


def open_stream(
    raw: BinaryIO, limits: Limits = DEFAULT_LIMITS
) -> tuple[io.BufferedReader, Compression]:
    """Return a buffered reader of the plain bytes of *raw*, and how it was compressed.

    Reads only forwards; *raw* need not be seekable and stays open.

    :raises UnsupportedOperation: no library for this compression is installed.
    :raises ImageInvalid: later, while reading: the stream is broken, cut short, or a bomb.
    """
    head = _read_head(raw)
    compression = detect(head)
    source = io.BufferedReader(_Prefixed(head, raw), _INPUT)
    if compression is Compression.PLAIN:
        return io.BufferedReader(_Prefixed(head, raw), CHUNK), compression
    opened = _Inflating(source, _decoder(compression), compression.value, limits)
    return io.BufferedReader(opened, CHUNK), compression


def _decoder(compression: Compression) -> _Decoder:
    if compression is Compression.GZIP:
        return _Zlib()
    if compression is Compression.XZ:
        return _Standard(
            lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=2 * _MAX_WINDOW)
        )
    if compression is Compression.ZSTD:
        return _zstd_decoder()
    bz2: Any = importlib.import_module("bz2")
    return _Standard(bz2.BZ2Decompressor)


def _zstd_decoder() -> _Decoder:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            zstd: Any = importlib.import_module(name)
        except ImportError:
            continue
        # The window is given as a power of two.
        options = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW.bit_length() - 1}
        return _Standard(partial(zstd.ZstdDecompressor, options=options), zstd.ZstdError)
    raise UnsupportedOperation(
        "the stream is compressed with zstd, which this Python cannot read",
        hint="install the Python package 'backports.zstd' beside Pannier",
    )
