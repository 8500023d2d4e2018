"""What the layer unpacker makes of archives that do not mean well: nothing outside is touched."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pannier.errors import ImageInvalid
from pannier.images.unpack import UnpackLimits, unpack_layer
from pannier.linux.trees import DIRECTORY
from support.layers import Member, archive, entry, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

Form = Literal["overlay", "apply"]
LIMITS = UnpackLimits(entries=1000, total_bytes=1 << 22, file_bytes=1 << 22)


class Arena:
    """A root to unpack into, beside a canary tree that must stay as it is."""

    def __init__(self, base: Path) -> None:
        self.root = base / "root"
        self.outside = base / "outside"
        self.root.mkdir()
        (self.outside / "folder").mkdir(parents=True)
        (self.outside / "file").write_bytes(b"canary")
        (self.outside / "folder" / "file").write_bytes(b"canary")
        self._before = self._look()

    def _look(self) -> tuple[object, ...]:
        descriptor = os.open(self.outside, DIRECTORY)
        try:
            links = (self.outside / "file").stat().st_nlink
            return (snapshot(descriptor), self.outside.stat().st_mtime_ns, links)
        finally:
            os.close(descriptor)

    def unpack(self, stream: io.BytesIO, form: Form = "apply") -> None:
        """Unpack, and see that the canary tree is untouched, whatever happens."""
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted only
        try:
            unpack_layer(stream, self.root, whiteouts=form, limits=LIMITS)
        finally:
            assert self._look() == self._before
            assert sorted(os.listdir(self.root.parent)) == ["outside", "root"]  # noqa: PTH208
            assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - no descriptor leaks


@contextlib.contextmanager
def new_arena() -> Iterator[Arena]:
    """Give an arena that goes at the end."""
    with tempfile.TemporaryDirectory(prefix="pannier-test-") as base:
        yield Arena(Path(base))


@pytest.fixture
def arena() -> Iterator[Arena]:
    """Give an arena."""
    with new_arena() as fresh:
        yield fresh


@pytest.mark.parametrize("form", ["overlay", "apply"])
@pytest.mark.parametrize(
    "hostile",
    [
        entry("../outside/file", b"x"),
        entry("a/../../outside/file", b"x"),
        entry(".."),
        entry("../outside/new/"),
        entry("a/b/.."),
        entry("hard", type=tarfile.LNKTYPE, linkname="../outside/file"),
        entry("hard", type=tarfile.LNKTYPE, linkname="/../outside/file"),
        entry("hard", type=tarfile.LNKTYPE, linkname="nowhere"),
        entry("hard", type=tarfile.LNKTYPE, linkname="hard"),
        entry("hard", type=tarfile.LNKTYPE, linkname=""),
        entry("link", type=tarfile.SYMTYPE, linkname=""),
        entry(".wh..."),
        entry(".wh.."),
        entry(".wh."),
        entry("../.wh.outside"),
        entry(".wh.x/file"),
        entry("zero", type=tarfile.CHRTYPE, devmajor=0, devminor=0),
        entry("device", type=tarfile.CHRTYPE, devmajor=5000, devminor=0),
        entry("n" * 256),
        entry("/".join("n" * 200 for _ in range(30))),
        entry("volume", type=b"M"),
        entry("unknown", type=b"Z"),
    ],
    ids=repr,
)
def test_hostile_entries_are_refused(arena: Arena, hostile: Member, form: Form) -> None:
    """Names that lead out, links to nothing, impossible devices and whiteouts of no file."""
    with pytest.raises(ImageInvalid):
        arena.unpack(archive(hostile), form)


def test_absolute_names_are_refused(arena: Arena) -> None:
    """A name with a leading slash is no layer's; "/" itself is the root, as some builders say."""
    absolute = entry("x", b"x")
    absolute.name = str(arena.outside / "file")
    with pytest.raises(ImageInvalid, match="absolute"):
        arena.unpack(archive(absolute))
    arena.unpack(archive(entry("/", mode=0o755)))


@pytest.mark.parametrize("form", ["overlay", "apply"])
@pytest.mark.parametrize("target", ["outside", "../outside", "relative"])
def test_writing_through_a_link_stays_inside(arena: Arena, target: str, form: Form) -> None:
    """A link to a folder outside, and then an entry through it: it lands below the root."""
    where = {
        "outside": str(arena.outside),
        "../outside": "../outside",
        "relative": "../../../../../../" + str(arena.outside),
    }[target]
    arena.unpack(
        archive(
            entry("link", type=tarfile.SYMTYPE, linkname=where),
            entry("link/file", b"hostile"),
            entry("link/folder/"),
            entry("link/.wh.gone"),
            entry("link/sub/.wh..wh..opq"),
        ),
        form,
    )
    assert (arena.root / "link").is_symlink()


@pytest.mark.parametrize("form", ["overlay", "apply"])
def test_a_file_is_not_written_through_a_link_of_its_name(arena: Arena, form: Form) -> None:
    """An entry replaces a link of the same name; its target is not opened, chowned or touched."""
    where = str(arena.outside / "file")
    for last in (
        entry("x", b"hostile", uid=1, mode=0o777),
        entry("x", type=tarfile.FIFOTYPE, uid=1, mode=0o777),
        entry("x", type=tarfile.SYMTYPE, linkname=where, uid=1, mtime=5),
        entry("x/", uid=1, mode=0o777),
    ):
        with new_arena() as fresh:
            link = entry("x", type=tarfile.SYMTYPE, linkname=str(fresh.outside / "file"))
            fresh.unpack(archive(link, last), form)
    link = entry("x", type=tarfile.SYMTYPE, linkname=str(arena.outside / "folder"))
    arena.unpack(archive(link, entry("x/", uid=1, mode=0o777), entry("x/file", b"h")), form)
    assert not (arena.root / "x").is_symlink()


@pytest.mark.parametrize("form", ["overlay", "apply"])
def test_a_hard_link_to_a_link_links_the_link(arena: Arena, form: Form) -> None:
    """Linking through a symbolic link would give a name inside to a file outside."""
    arena.unpack(
        archive(
            entry("soft", type=tarfile.SYMTYPE, linkname=str(arena.outside / "file")),
            entry("hard", type=tarfile.LNKTYPE, linkname="soft"),
            entry("hard", b"hostile"),
        ),
        form,
    )
    assert (arena.root / "hard").read_bytes() == b"hostile"


@pytest.mark.parametrize("form", ["overlay", "apply"])
def test_a_hard_link_through_a_linked_folder_stays_inside(arena: Arena, form: Form) -> None:
    """The target's folders are looked up in the root as well."""
    with pytest.raises(ImageInvalid, match="not there"):
        arena.unpack(
            archive(
                entry("out", type=tarfile.SYMTYPE, linkname=str(arena.outside)),
                entry("hard", type=tarfile.LNKTYPE, linkname="out/file"),
            ),
            form,
        )


@pytest.mark.parametrize("form", ["overlay", "apply"])
def test_a_link_put_in_a_used_folders_place_is_not_followed_out(arena: Arena, form: Form) -> None:
    """Folders are remembered between entries; one that was replaced is looked up again."""
    arena.unpack(
        archive(
            entry("a/"),
            entry("a/one"),
            entry("a", type=tarfile.SYMTYPE, linkname=str(arena.outside)),
            entry("a/file", b"hostile"),
            entry("a/folder/file", b"hostile"),
        ),
        form,
    )
    assert (arena.root / "a").is_symlink()


@pytest.mark.parametrize("form", ["overlay", "apply"])
def test_whiteouts_do_not_follow_links(arena: Arena, form: Form) -> None:
    """Neither a deletion nor an opaque marker reaches through a link to outside."""
    arena.unpack(
        archive(
            entry("out", type=tarfile.SYMTYPE, linkname=str(arena.outside)),
            entry("out/.wh.file"),
            entry("out/.wh..wh..opq"),
        ),
        form,
    )


def test_links_in_a_circle_are_refused(arena: Arena) -> None:
    """A folder that is a link to itself is found by nobody."""
    with pytest.raises(ImageInvalid):
        arena.unpack(
            archive(
                entry("a", type=tarfile.SYMTYPE, linkname="b"),
                entry("b", type=tarfile.SYMTYPE, linkname="a"),
                entry("a/file"),
            )
        )


@pytest.mark.parametrize(
    "name", ["trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy"]
)
def test_attributes_of_overlayfs_are_left_out(arena: Arena, name: str) -> None:
    """An archive cannot redirect a lookup, or have a file's content taken from elsewhere."""
    arena.unpack(archive(entry("d/", xattrs={f"SCHILY.xattr.{name}": "y"})), "overlay")
    assert os.listxattr(arena.root / "d") == []


@pytest.mark.parametrize("cut", [0, 100, 512, 700, 1211, 2047, 2560, 3071])
def test_truncated_archives_are_refused(arena: Arena, cut: int) -> None:
    """Wherever the stream ends within something, it is an error that says so."""
    whole = archive(entry("a", b"x" * 700), entry("b"), entry("c", b"y" * 700)).getvalue()
    with pytest.raises(ImageInvalid, match="truncated"):
        arena.unpack(io.BytesIO(whole[:cut]))


@pytest.mark.parametrize("cut", [1212, 1300, 1536, 2048, 3260, 3584, 4096])
def test_a_layer_needs_no_end_marker(arena: Arena, cut: int) -> None:
    """One that ends behind an entry is whole: its digest says so. umoci writes such layers."""
    whole = archive(entry("a", b"x" * 700), entry("b"), entry("c", b"y" * 700)).getvalue()
    arena.unpack(io.BytesIO(whole[:cut]))
    assert (arena.root / "a").read_bytes() == b"x" * 700


@pytest.mark.parametrize("cut", [1212, 1536, 2048, 3584])
def test_other_archives_do(arena: Arena, cut: int) -> None:
    """What no digest vouches for, a build's context, may have been cut off."""
    whole = archive(entry("a", b"x" * 700), entry("b"), entry("c", b"y" * 700)).getvalue()
    with pytest.raises(ImageInvalid, match="truncated"):
        unpack_layer(io.BytesIO(whole[:cut]), arena.root, whiteouts="none")


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "99999999999999999999999"},
        {"size": "-1"},
        {"uid": "4294967295"},
        {"uid": "x"},
        {"mtime": "soon"},
        {"path": "a\0b"},
        {"GNU.sparse.major": "1", "GNU.sparse.realsize": "5", "GNU.sparse.name": "s"},
        {"GNU.sparse.map": "0,5,3,5", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "0,500", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "0", "GNU.sparse.size": "10"},
        {"GNU.sparse.name": "../out", "GNU.sparse.map": "0,1", "GNU.sparse.size": "1"},
        {"path": "../outside/file"},
        {"linkpath": "../outside/file"},
    ],
    ids=repr,
)
def test_hostile_extended_headers_are_refused(arena: Arena, headers: dict[str, str]) -> None:
    """Sizes, ids, times, names and sparse maps out of their bounds."""
    kind: dict[str, Any] = {"type": tarfile.LNKTYPE} if "linkpath" in headers else {}
    with pytest.raises(ImageInvalid):
        arena.unpack(archive(entry("s", b"x" * 10, xattrs=headers, **kind)))


def test_a_huge_extended_header_is_refused(arena: Arena) -> None:
    """Nothing but content may be larger than a buffer."""
    with pytest.raises(ImageInvalid, match="exceeds the limit"):
        arena.unpack(archive(entry("x", xattrs={"comment": "c" * (2 << 20)})))


def test_an_endless_stream_after_the_end_is_refused(arena: Arena) -> None:
    """A few bytes of a compressed archive can become any number of zeroes."""

    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(size) or bytes(1 << 18)

    limits = UnpackLimits(total_bytes=1 << 40)
    stream = Endless(archive(entry("a")).getvalue())
    with pytest.raises(ImageInvalid, match="after its end marker"):
        unpack_layer(stream, arena.root, whiteouts="apply", limits=limits)


_NAMES = st.sampled_from(["a", "b", "link", "..", ".", "", ".wh.a", ".wh..wh..opq", "outside"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map("/".join)


@st.composite
def _hostile(draw: st.DrawFn) -> Member:
    path = draw(_PATHS)
    kinds = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
    kind = draw(st.sampled_from(kinds))
    member = entry(path, draw(st.binary(max_size=600)) if kind == tarfile.REGTYPE else b"")
    member.name, member.type = path, kind
    member.uid = draw(st.integers(0, 1 << 33))
    member.mode = draw(st.integers(0, 0o7777))
    member.linkname = draw(st.sampled_from(["", "/", "..", "../outside", "/outside/file"]) | _PATHS)
    return member


@settings(max_examples=300, deadline=None)
@given(members=st.lists(_hostile(), max_size=12), form=st.sampled_from(["overlay", "apply"]))
def test_random_entries_reach_nothing_outside(members: list[Member], form: Form) -> None:
    """Any archive is unpacked or refused, and the canary tree stays as it is."""
    with new_arena() as arena, contextlib.suppress(ImageInvalid):
        arena.unpack(archive(*members), form)


@settings(max_examples=300, deadline=None)
@given(
    members=st.lists(_hostile(), min_size=1, max_size=5),
    changes=st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(0, 255)), max_size=8),
    mend=st.booleans(),
    form=st.sampled_from(["overlay", "apply"]),
)
def test_random_bytes_are_refused_or_unpacked(
    members: list[Member], changes: list[tuple[int, int]], mend: bool, form: Form
) -> None:
    """Changed bytes, with checksums mended or not, raise nothing but ImageInvalid."""
    data = bytearray(archive(*members).getvalue())
    for position, value in changes:
        data[position % len(data)] = value
    if mend:
        for start in range(0, len(data) - 512, 512):
            header = bytes(data[start : start + 512])
            if header[257:262] == b"ustar":
                total = sum(header[:148]) + 256 + sum(header[156:])
                data[start + 148 : start + 156] = b"%06o\0 " % total
    with new_arena() as arena, contextlib.suppress(ImageInvalid):
        arena.unpack(io.BytesIO(bytes(data)), form)


_NUMBERS = st.sampled_from(["0", "1", "5", "10", "-1", "512", "99999999999", "4294967295", "", "x"])
_VALUES = st.one_of(
    _PATHS,
    _NUMBERS,
    st.lists(_NUMBERS, max_size=6).map(",".join),
    st.text("0123456789.,-/ab\0\n", max_size=12),
)
_KEYS = st.sampled_from(
    [
        *("path", "linkpath", "size", "uid", "gid", "mtime", "hdrcharset", "comment"),
        *("GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize"),
        *("GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.numblocks", "GNU.sparse.offset"),
        *("GNU.sparse.numbytes", "SCHILY.xattr.user.a", "SCHILY.xattr.security.capability"),
        *("SCHILY.xattr.trusted.overlay.opaque", "SCHILY.xattr.system.posix_acl_access"),
    ]
)


@st.composite
def _extended(draw: st.DrawFn) -> Member:
    member = draw(_hostile())
    member.pax_headers = draw(st.dictionaries(_KEYS, _VALUES, max_size=4))
    return member


@settings(max_examples=150, deadline=None)
@given(
    members=st.lists(_extended(), min_size=1, max_size=6),
    form=st.sampled_from(["overlay", "apply"]),
)
def test_random_extended_headers_are_refused_or_unpacked(members: list[Member], form: Form) -> None:
    """PAX records of any kind, sparse maps and attributes among them, with any value."""
    with new_arena() as arena, contextlib.suppress(ImageInvalid):
        arena.unpack(archive(*members), form)


def _block(kind: bytes, name: bytes, body: bytes, magic: bytes, size: int | None = None) -> bytes:
    """Return a header and its content, as no writer would make them."""
    length = len(body) if size is None else size
    header = bytearray(512)
    header[:100] = name[:100].ljust(100, b"\0")
    header[100:148] = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % length + b"%011o\0" % 0
    header[156:157] = kind
    header[257:265] = magic
    header[148:156] = b"%06o\0 " % (sum(header) + 8 * 32)
    return bytes(header) + body + bytes(-len(body) % 512)


_KINDS = st.sampled_from([b"0", b"\0", b"1", b"2", b"5", b"7", b"L", b"K", b"S", b"x", b"g", b"X"])
_BODIES = st.one_of(
    st.binary(max_size=80),
    _PATHS.map(str.encode),
    st.lists(st.tuples(_KEYS, _VALUES), max_size=3).map(
        lambda pairs: b"".join(
            b"%d %s=%s\n" % (len(key) + len(value) + 5, key.encode(), value.encode())
            for key, value in pairs
        )
    ),
)
_MAGICS = st.sampled_from([b"ustar\x0000", b"ustar  \0", bytes(8)])


@settings(max_examples=150, deadline=None)
@given(
    blocks=st.lists(
        st.builds(
            _block,
            *(_KINDS, _PATHS.map(str.encode), _BODIES, _MAGICS),
            st.none() | st.integers(0, 2000),
        ),
        max_size=8,
    ),
    form=st.sampled_from(["overlay", "apply"]),
)
def test_random_headers_are_refused_or_unpacked(blocks: list[bytes], form: Form) -> None:
    """GNU's long names and sparse files, PAX headers and plain ones in any order and size."""
    with new_arena() as arena, contextlib.suppress(ImageInvalid):
        arena.unpack(io.BytesIO(b"".join(blocks) + bytes(1024)), form)
