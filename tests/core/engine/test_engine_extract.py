"""Archives on their way into a container: what they may do there, and that it stays there."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from pannier.drivers.base import IdMap, IdMapping
from pannier.engine.extract import Extraction
from pannier.errors import ImageInvalid, InvalidRequest, PannierError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root


def _tar(*members: tuple[str, bytes, dict[str, Any]]) -> bytes:
    """Return an archive of (name, content, fields of TarInfo)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            info.mtime = 1000
            info.mode = 0o640
            for field, value in fields.items():
                setattr(info, field, value)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


DIR = {"type": tarfile.DIRTYPE, "mode": 0o750}


def _link(target: str, kind: bytes = tarfile.SYMTYPE) -> dict[str, Any]:
    return {"type": kind, "linkname": target}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a root folder with a folder ``in`` to unpack in, and something beside the root."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("untouched")
    folder = tmp_path / "root"
    (folder / "in").mkdir(parents=True)
    return folder


def _extract(
    root: Path,
    data: bytes,
    *,
    place: str = "in",
    idmap: IdMap | None = None,
    owner: tuple[int, int] | None = None,
    keep_types: bool = False,
) -> None:
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        Extraction(descriptor, place, idmap, owner, keep_types=keep_types).run(io.BytesIO(data))
    finally:
        os.close(descriptor)


def test_everything_that_a_file_has_comes_along(root: Path) -> None:
    """Owners, modes, times, links of both kinds, fifos; compressed or not."""
    data = _tar(
        ("d", b"", DIR),
        ("d/file", b"content", {"uid": 5, "gid": 6, "mode": 0o4755}),
        ("d/hard", b"", _link("d/file", tarfile.LNKTYPE)),
        ("soft", b"", {**_link("/etc/passwd"), "uid": 7}),
        ("fifo", b"", {"type": tarfile.FIFOTYPE}),
    )
    for archive in (data, gzip.compress(data)):
        _extract(root, archive)
        found = (root / "in/d/file").stat()
        assert (found.st_uid, found.st_gid) == (5, 6)
        assert stat.S_IMODE(found.st_mode) == 0o4755
        assert found.st_mtime == 1000
        assert (root / "in/d/hard").stat().st_ino == found.st_ino
        assert (root / "in/d").stat().st_mtime == 1000
        assert stat.S_IMODE((root / "in/d").stat().st_mode) == 0o750
        assert str((root / "in/soft").readlink()) == "/etc/passwd"
        assert (root / "in/soft").lstat().st_uid == 7
        assert stat.S_ISFIFO((root / "in/fifo").lstat().st_mode)


def test_owners_are_those_inside(root: Path) -> None:
    """In a user namespace they are mapped; or all is given to one account."""
    maps = (IdMapping(0, 100000, 1000),)
    _extract(root, _tar(("a/b", b"x", {"uid": 5, "gid": 6})), idmap=IdMap(maps, maps))
    assert (root / "in/a/b").stat().st_uid == 100005
    assert (root / "in/a").stat().st_uid == 100000
    _extract(root, _tar(("c", b"x", {"uid": 5})), owner=(33, 44))
    assert ((root / "in/c").stat().st_uid, (root / "in/c").stat().st_gid) == (33, 44)
    with pytest.raises(InvalidRequest, match="is not mapped"):
        _extract(root, _tar(("e", b"x", {"uid": 5000})), idmap=IdMap(maps, maps))


def test_the_folder_itself_stays_as_it_is(root: Path) -> None:
    """An entry for ``.`` changes neither mode nor owner of what was there (CVE-2021-41089)."""
    before = (root / "in").stat()
    _extract(root, _tar(("./", b"", {**DIR, "uid": 9, "mode": 0o777}), ("./x", b"", {})))
    after = (root / "in").stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    assert (root / "in/x").exists()


def test_replacing(root: Path) -> None:
    """Files are replaced, not written through; folders are merged; types change if allowed."""
    (root / "in/file").write_text("old")
    (root / "in/link").symlink_to("../file-in-root")
    (root / "file-in-root").write_text("kept")
    (root / "in/tree/deep").mkdir(parents=True)
    _extract(
        root,
        _tar(("file", b"new", {}), ("link", b"plain", {}), ("tree", b"", DIR), ("tree/f", b"", {})),
    )
    assert (root / "in/file").read_text() == "new"
    assert (root / "in/link").read_text() == "plain"
    assert not (root / "in/link").is_symlink()
    assert (root / "file-in-root").read_text() == "kept"
    assert (root / "in/tree/deep").is_dir()
    with pytest.raises(InvalidRequest, match="cannot overwrite directory"):
        _extract(root, _tar(("tree", b"x", {})), keep_types=True)
    with pytest.raises(InvalidRequest, match="cannot overwrite non-directory"):
        _extract(root, _tar(("file", b"", DIR)), keep_types=True)
    _extract(root, _tar(("tree", b"x", {}), ("file", b"", DIR)))
    assert (root / "in/tree").read_text() == "x"
    assert (root / "in/file").is_dir()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "..", "/../evil"])
def test_climbing_names_are_refused(name: str, root: Path) -> None:
    """An entry that leads out of the folder ends the whole."""
    with pytest.raises(ImageInvalid, match="leads out of its folder"):
        _extract(root, _tar((name, b"x", {})))
    assert not (root / "evil").exists()


@pytest.mark.parametrize("target", ["/outside", "../../outside", "../../../../../../outside"])
def test_links_lead_inside_only(target: str, root: Path) -> None:
    """What is written through a link, the archive's own or the container's, stays in the root."""
    data = _tar(("way", b"", _link(target)), ("way/file", b"evil", {}))
    try:
        _extract(root, data)
    except PannierError:
        pass
    else:
        # Made where a process in the container would have found it.
        assert (root / "outside/file").read_text() == "evil"
    assert (root.parent / "outside/file").read_text() == "untouched"


@pytest.mark.parametrize("target", ["../../outside/file", "/outside/file", "way/file"])
def test_hard_links_lead_inside_only(target: str, root: Path) -> None:
    """A hard link to a file outside is not made."""
    (root / "in/way").symlink_to(root.parent / "outside")
    with pytest.raises(PannierError):
        _extract(root, _tar(("hard", b"", _link(target, tarfile.LNKTYPE))))
    assert (root.parent / "outside/file").stat().st_nlink == 1


def test_what_is_no_archive(root: Path) -> None:
    """Random bytes and archives that break off are refused."""
    for data in (b"no archive" * 100, _tar(("file", b"x" * 9000, {}))[:5000]):
        with pytest.raises(ImageInvalid):
            _extract(root, data)
