"""Compressed streams: told apart, read through, stopped when they explode."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import importlib
import io
import lzma
import random
import sys
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pannier.errors import ImageInvalid, PannierError, UnsupportedOperation
from pannier.images.compression import Compression, Limits, detect, open_stream

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = random.Random(1).randbytes(300_000) + b"\0" * 3_000_000 + b"end"

KINDS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.PLAIN: bytes,
    Compression.GZIP: gzip.compress,
    Compression.XZ: lzma.compress,
    Compression.BZIP2: bz2.compress,
}
for name in ("compression.zstd", "backports.zstd"):
    with contextlib.suppress(ImportError):
        KINDS[Compression.ZSTD] = importlib.import_module(name).compress
CODECS = [kind for kind in KINDS if kind is not Compression.PLAIN]


def plain(data: bytes, limits: Limits | None = None) -> bytes:
    """Read a stream to its end."""
    source = io.BytesIO(data)
    stream, _ = open_stream(source, limits) if limits else open_stream(source)
    return stream.read()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_recognised_and_read(kind: Compression) -> None:
    """By its first bytes, whatever the name."""
    stream, found = open_stream(io.BytesIO(KINDS[kind](DATA)))
    assert found is kind
    assert stream.read() == DATA


@pytest.mark.parametrize("kind", CODECS)
def test_several_streams_in_a_row_are_one(kind: Compression) -> None:
    """As pigz and parallel xz write them."""
    compress = KINDS[kind]
    assert plain(compress(b"one") + compress(b"") + compress(b"two")) == b"onetwo"


@pytest.mark.parametrize("kind", CODECS)
def test_padding_after_the_end_is_no_error(kind: Compression) -> None:
    """Writers of tapes and blocks leave zeros."""
    assert plain(KINDS[kind](b"data") + b"\0" * 1024) == b"data"


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("cut", [7, 20, -1, -5])
def test_a_stream_that_ends_too_early_is_an_error(kind: Compression, cut: int) -> None:
    """Never taken for the whole."""
    with pytest.raises(ImageInvalid):
        plain(KINDS[kind](DATA)[:cut])


@pytest.mark.parametrize("kind", CODECS)
def test_a_bomb_is_stopped(kind: Compression) -> None:
    """By its size at once, by its ratio after a floor."""
    bomb = KINDS[kind](b"\0" * 20_000_000)
    with pytest.raises(ImageInvalid, match="unpacks to more than is allowed"):
        plain(bomb, Limits(size=1_000_000))
    with pytest.raises(ImageInvalid, match="unpacks to more than is allowed"):
        plain(bomb, Limits(floor=1_000_000))
    assert len(plain(bomb)) == 20_000_000


def test_memory_is_bounded_whatever_the_stream_asks_for() -> None:
    """An xz stream that wants a dictionary of 1 GiB is refused."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    data = bytearray(lzma.compress(b"x" * 1000, filters=filters))
    # The dictionary's size is one byte of the block header, which a CRC protects.
    start = 12
    length = (data[start] + 1) * 4
    data[start + 4] = 36  # 1 GiB
    crc = zlib.crc32(bytes(data[start : start + length - 4]))
    data[start + length - 4 : start + length] = crc.to_bytes(4, "little")
    with pytest.raises(ImageInvalid, match="xz stream is broken"):
        plain(bytes(data))


@pytest.mark.parametrize("missing", [("compression.zstd", "backports.zstd")])
def test_zstd_without_a_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    """A hint, not an ImportError."""
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedOperation, match="zstd") as caught:
        plain(b"\x28\xb5\x2f\xfd" + bytes(20))
    assert "backports.zstd" in str(caught.value.hint)


@pytest.mark.parametrize("missing", [(), ("isal",)], ids=["with ISA-L, if installed", "without"])
def test_gzip_needs_no_library(monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]) -> None:
    """Zlib does where ISA-L is not installed."""
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, f"{name}.isal_zlib", None)
    assert plain(gzip.compress(DATA)) == DATA


def test_zstd_may_begin_with_a_frame_to_skip() -> None:
    """As its seekable form does."""
    assert detect(b"\x50\x2a\x4d\x18\0\0") is Compression.ZSTD
    assert detect(b"\x5f\x2a\x4d\x18\0\0") is Compression.ZSTD
    assert detect(b"") is Compression.PLAIN


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(CODECS),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damage_is_an_error_or_no_harm(kind: Compression, damage: list[tuple[int, int]]) -> None:
    """Never another exception, a hang or endless output."""
    data = bytearray(KINDS[kind](b"some text, some text and more text" * 30))
    for position, value in damage:
        data[position % len(data)] = value
    with contextlib.suppress(PannierError):
        assert len(plain(bytes(data), Limits(size=100_000))) <= 100_000


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """What is not compressed comes through as it is."""
    try:
        found = plain(data)
    except PannierError:
        return
    if detect(data[:6]) is Compression.PLAIN:
        assert found == data
