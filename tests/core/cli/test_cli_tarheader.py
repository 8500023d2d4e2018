"""Headers made by hand are read by tarfile as what they were made of."""

from __future__ import annotations

import io
import tarfile

import pytest

from pannier.cli.tarheader import BLOCK, member_header


def read(data: bytes) -> tarfile.TarInfo:
    """Return the member that a header says."""
    assert len(data) % BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        found = archive.next()
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["a", "n" * 100, "n" * 101, "ü/" * 60 + "x", "y" * 975])
@pytest.mark.parametrize("link", ["", "l" * 100, "l" * 101])
def test_names_of_any_length(name: str, link: str) -> None:
    """Those that do not fit into 100 bytes are kept whole, too."""
    found = read(member_header(name.encode(), b"2", 0o777, 0, link=link.encode()))
    assert (found.name, found.linkname, found.type) == (name, link, tarfile.SYMTYPE)


@pytest.mark.parametrize(
    "mtime", [0, 1, 1_600_000_000_250_000_000, -1, -1_500_000_000, -2_000_000_000, 1 << 64]
)
def test_times_before_1970_and_below_a_second(mtime: int) -> None:
    """As exactly as tarfile itself can tell."""
    assert read(member_header(b"a", b"0", 0o4755, mtime)).mtime == pytest.approx(mtime / 1e9)


@pytest.mark.parametrize("size", [0, 1, (8 << 30) - 1, 8 << 30])
def test_files_of_any_size(size: int) -> None:
    """Eleven octal digits end below 8 GiB."""
    found = read(member_header(b"a", b"0", 0o4755, 0, size=size))
    assert (found.size, found.mode, found.uid, found.gid) == (size, 0o4755, 0, 0)


def test_devices() -> None:
    """With both numbers."""
    found = read(member_header(b"a", b"3", 0o600, 0, device=(7, 300)))
    assert (found.ischr(), found.devmajor, found.devminor) == (True, 7, 300)
