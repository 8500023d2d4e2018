"""What the layer unpacker makes of archives that mean well."""

from __future__ import annotations

import io
import os
import random
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from pannier.errors import ImageInvalid
from pannier.images.pack import pack_tree
from pannier.images.unpack import UnpackLimits, unpack_layer
from pannier.linux.trees import DIRECTORY
from support.layers import archive, entry, snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.images.unpack import UnpackedUsage

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give an empty folder to unpack into."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def unpack(stream: io.BytesIO, root: Path, limits: UnpackLimits | None = None) -> UnpackedUsage:
    """Unpack over a tree that is all there is, as a driver of whole copies does."""
    return unpack_layer(stream, root, whiteouts="apply", limits=limits)


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Describe what is below a folder."""
    descriptor = os.open(root, DIRECTORY)
    try:
        return snapshot(descriptor)
    finally:
        os.close(descriptor)


def fill(source: Path) -> None:
    """Make a tree that has one of everything."""
    (source / "folder").mkdir(mode=0o2750)
    (source / "folder" / "file").write_bytes(b"content")
    os.chown(source / "folder" / "file", 3_000_000, 4_000_000)
    (source / "setuid").write_bytes(b"x" * 5000)
    (source / "setuid").chmod(0o6711)
    os.setxattr(source / "setuid", "user.empty", b"")
    os.setxattr(source / "setuid", "user.binary", bytes(range(256)))
    os.setxattr(source / "setuid", "trusted.own", b"1")
    (source / "link").symlink_to("../" * 40 + "nowhere")
    os.mkfifo(source / "fifo", 0o620)
    os.mknod(source / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.link(source / "setuid", source / "twin")
    (source / os.fsdecode(b"not-utf8-\xff\xfe")).touch()
    long = source / ("n" * 200) / ("m" * 200)
    long.mkdir(parents=True)
    (long / ("f" * 255)).write_bytes(b"deep")
    for path in (source / "setuid", source / "fifo", source / "folder"):
        os.utime(path, ns=(0, 1_234_567_890_123_456_789))
    os.utime(source / "link", ns=(0, -5_000_000_001), follow_symlinks=False)


def test_what_is_packed_is_unpacked_the_same(tmp_path: Path, root: Path) -> None:
    """Kinds, modes, owners, times, attributes, links and every sort of name survive."""
    source = tmp_path / "source"
    source.mkdir()
    fill(source)
    out = io.BytesIO()
    pack_tree(source, out)
    out.seek(0)
    unpack(out, root)
    assert tree(root) == tree(source)
    assert (root / "setuid").stat().st_ino == (root / "twin").stat().st_ino


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7", "oldgnu"])
def test_archives_of_gnu_tar(tmp_path: Path, root: Path, form: str) -> None:
    """Every format that GNU tar writes is read."""
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "file").write_bytes(b"content" * 1000)
    (source / "link").symlink_to("folder/file")
    os.link(source / "folder" / "file", source / "hard")
    name = ("n" * 90) if form in {"v7", "ustar"} else "n" * 180
    (source / name).write_bytes(b"long")
    done = subprocess.run(
        ["tar", "-C", source, f"--format={form}", "--numeric-owner", "-cf", "-", "."],
        check=True,
        capture_output=True,
    )
    unpack(io.BytesIO(done.stdout), root)
    whole = {path: (*facts[:4], facts[5]) for path, facts in tree(root).items()}
    assert whole == {path: (*facts[:4], facts[5]) for path, facts in tree(source).items()}


@pytest.mark.parametrize(
    "form",
    [
        ["--format=gnu"],
        ["--format=pax", "--sparse-version=0.0"],
        ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
    ],
)
@pytest.mark.parametrize("pieces", [0, 1, 3, 40])
def test_sparse_files_of_gnu_tar(tmp_path: Path, root: Path, form: list[str], pieces: int) -> None:
    """Holes stay holes, in each of the four ways to write them."""
    source = tmp_path / "source"
    source.mkdir()
    step = 1 << 20
    with (source / "sparse").open("wb") as file:
        for number in range(pieces):
            file.seek(number * step + step // 2)
            file.write(b"%d" % number * 700)
        file.truncate((pieces + 1) * step)
    (source / "after").write_bytes(b"the next entry")
    done = subprocess.run(
        ["tar", "-C", source, "--sparse", *form, "-cf", "-", "sparse", "after"],
        check=True,
        capture_output=True,
    )
    unpack(io.BytesIO(done.stdout), root)
    assert (root / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert (root / "sparse").stat().st_blocks <= (source / "sparse").stat().st_blocks + 8
    assert (root / "after").read_bytes() == b"the next entry"


def test_missing_parents_are_made(root: Path) -> None:
    """A folder that the archive leaves out is root's, mode 0755."""
    unpack(archive(entry("a/b/c", uid=7)), root)
    status = (root / "a" / "b").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, 0)


def test_the_root_has_an_entry_too(root: Path) -> None:
    """An entry ./ sets the root's own mode, owner and time."""
    unpack(archive(entry("./", mode=0o700, uid=5), entry("./file")), root)
    status = root.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, 5)
    assert status.st_mtime == 1_600_000_000


def test_the_last_of_several_entries_wins(root: Path) -> None:
    """Files, folders and links replace one another; folders keep what is in them."""
    unpack(
        archive(
            entry("one", b"first"),
            entry("one", b"second"),
            entry("two/"),
            entry("two/inside"),
            entry("two", b"a file now"),
            entry("three", b"x"),
            entry("three/"),
            entry("three/inside"),
            entry("four/"),
            entry("four/inside"),
            entry("four/", mode=0o700),
        ),
        root,
    )
    assert (root / "one").read_bytes() == b"second"
    assert (root / "two").read_bytes() == b"a file now"
    assert (root / "three" / "inside").exists()
    assert (root / "four" / "inside").exists()
    assert stat.S_IMODE((root / "four").stat().st_mode) == 0o700


def test_folder_times_are_those_of_the_archive(root: Path) -> None:
    """Though files are put into a folder after its entry."""
    unpack(archive(entry("a/"), entry("a/b/"), entry("a/b/c"), entry("a/d")), root)
    for path in ("a", "a/b"):
        assert (root / path).stat().st_mtime == 1_600_000_000


def test_whiteouts_apply_to_the_layers_below_only(root: Path) -> None:
    """Whatever the order, what the layer itself has stays."""
    unpack(archive(entry("d/"), entry("d/old"), entry("d/older"), entry("e")), root)
    unpack(
        archive(
            entry("d/new"),
            entry("d/.wh..wh..opq"),
            entry("d/newer"),
            entry("f"),
            entry(".wh.f"),
            entry(".wh.e"),
            entry(".wh.nothing"),
        ),
        root,
    )
    assert set(tree(root)) == {"d", "d/new", "d/newer", "f"}


def test_a_whiteout_of_a_folder_spares_what_is_new_in_it(root: Path) -> None:
    """A folder deleted and made again in one layer has only the new content."""
    unpack(archive(entry("d/"), entry("d/sub/"), entry("d/sub/old")), root)
    unpack(archive(entry("d/sub/new"), entry(".wh.d")), root)
    assert set(tree(root)) == {"d", "d/sub", "d/sub/new"}


def test_whiteouts_in_overlay_form(root: Path) -> None:
    """A deletion is the device 0/0, an opaque folder an attribute."""
    stream = archive(entry("d/"), entry("d/.wh..wh..opq"), entry("d/.wh.gone"), entry(".wh.e"))
    unpack_layer(stream, root, whiteouts="overlay")
    for path in ("d/gone", "e"):
        status = (root / path).lstat()
        assert stat.S_ISCHR(status.st_mode)
        assert status.st_rdev == 0
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"


def test_bookkeeping_of_aufs_is_left_out(root: Path) -> None:
    """Old images have .wh..wh.plnk and its like."""
    unpack(
        archive(
            entry(".wh..wh.plnk/"),
            entry(".wh..wh.plnk/1.2"),
            entry(".wh..wh.aufs"),
            entry("not.wh..wh.one"),
        ),
        root,
    )
    assert set(tree(root)) == {"not.wh..wh.one"}


def test_usage_counts_hard_links_once(root: Path) -> None:
    """Bytes and files, with parents that were made."""
    stream = archive(
        entry("a/one", b"12345"),
        entry("two", type=tarfile.LNKTYPE, linkname="a/one"),
        entry("three", type=tarfile.LNKTYPE, linkname="/a/one"),
    )
    usage = unpack(stream, root)
    assert (usage.size, usage.inodes) == (5, 2)


def test_usage_leaves_out_what_was_replaced(root: Path) -> None:
    """For overlay the measure is of what is there in the end."""
    stream = archive(entry("a", b"12345"), entry("a", b"123"), entry("b/c"), entry("b", b"1"))
    usage = unpack_layer(stream, root, whiteouts="overlay")
    assert (usage.size, usage.inodes) == (4, 2)


def test_a_stream_is_read_to_its_end(root: Path) -> None:
    """Its owner wants to know the digest of all of it."""
    stream = io.BytesIO(archive(entry("a")).getvalue() + b"rubbish" * 100_000)
    unpack(stream, root)
    assert not stream.read()


def test_small_reads_do(root: Path) -> None:
    """A stream may give a few bytes at a time, as a pipe does."""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 1, 7) if size != -1 else 7)

    unpack(Slow(archive(entry("a", b"x" * 3000), entry("b/")).getvalue()), root)
    assert (root / "a").read_bytes() == b"x" * 3000


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (UnpackLimits(entries=2), "over 2 entries"),
        (UnpackLimits(file_bytes=10), "limit for a file is 10"),
        (UnpackLimits(total_bytes=4096), "limit of 4096"),
    ],
)
def test_limits(root: Path, limits: UnpackLimits, word: str) -> None:
    """Each bound is named when it is exceeded."""
    stream = archive(entry("a", b"x" * 2000), entry("b", b"x" * 2000), entry("c"))
    with pytest.raises(ImageInvalid, match=word):
        unpack(stream, root, limits)


def test_holes_count_towards_the_limit(tmp_path: Path, root: Path) -> None:
    """A small archive cannot make a huge file unseen."""
    source = tmp_path / "source"
    source.mkdir()
    with (source / "huge").open("wb") as file:
        file.truncate(1 << 40)
    out = io.BytesIO()
    pack_tree(source, out)
    assert len(out.getvalue()) < 10_000
    out.seek(0)
    with pytest.raises(ImageInvalid, match="limit for a file"):
        unpack(out, root, UnpackLimits(file_bytes=1 << 30))


def test_large_files(tmp_path: Path, root: Path) -> None:
    """Files of many buffers arrive whole."""
    source = tmp_path / "source"
    source.mkdir()
    content = random.Random(1).randbytes(5_000_001)
    (source / "file").write_bytes(content)
    out = io.BytesIO()
    pack_tree(source, out)
    out.seek(0)
    unpack(out, root)
    assert (root / "file").read_bytes() == content


def test_an_entry_costs_little(root: Path) -> None:
    """Besides its system calls; 20 to 30 microseconds are usual on a quiet machine."""
    count = 4000
    stream = archive(*(entry(f"folder{i % 40}/file{i}", b"x" * 100) for i in range(count)))
    begin = os.times().user
    unpack(stream, root)
    assert (os.times().user - begin) / count < 0.0002
