"""``cp`` packs and unpacks faithfully, and a hostile archive cannot leave its place."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from pannier.cli.hosttar import Count, pack, unpack
from pannier.errors import InvalidRequest, PannierError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def _tree(folder: Path) -> Path:
    root = folder / "src"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_bytes(b"a" * 1_000_000)
    (root / "sub" / "b").write_text("b")
    (root / "sub" / "b").chmod(0o640)
    (root / "link").symlink_to("sub/b")
    os.link(root / "a", root / "z-hard")
    os.mkfifo(root / "pipe")
    os.utime(root / "a", (1, 1_000_000_000))
    return root


def _archive(fill: Callable[[tarfile.TarFile], object]) -> Iterator[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        fill(archive)
    data = buffer.getvalue()
    return iter([data[i : i + 700] for i in range(0, len(data), 700)])


def _entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def test_a_tree_round_trips(tmp_path: Path) -> None:
    """Contents, links, hard links, fifos, modes and times survive both ways."""
    root = _tree(tmp_path)
    count = Count()
    unpack(count.over(pack(str(root), "src", contents=False)), str(tmp_path), "copy", owners=False)
    copy = tmp_path / "copy"
    assert (copy / "a").read_bytes() == (root / "a").read_bytes()
    assert (copy / "a").stat().st_mtime == 1_000_000_000
    assert (copy / "a").stat().st_ino == (copy / "z-hard").stat().st_ino
    assert str((copy / "link").readlink()) == "sub/b"
    assert stat.S_IMODE((copy / "sub" / "b").stat().st_mode) == 0o640
    assert stat.S_ISFIFO((copy / "pipe").stat().st_mode)
    assert count.bytes > 1_000_000


def test_contents_go_without_their_folder(tmp_path: Path) -> None:
    """``/.`` merges into a folder and leaves its own mode alone."""
    root = _tree(tmp_path)
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (target / "kept").write_text("kept")
    unpack(pack(str(root), "", contents=True), str(target), "", owners=False)
    assert (target / "sub" / "b").read_text() == "b"
    assert (target / "kept").read_text() == "kept"
    assert stat.S_IMODE(target.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["d/../../evil", "../evil", "d/sub/../../../evil"])
def test_a_path_cannot_climb_out(tmp_path: Path, name: str) -> None:
    """``..`` in an entry's name is refused."""
    inside = tmp_path / "in"
    inside.mkdir()
    with pytest.raises(InvalidRequest, match="leads out"):
        unpack(_archive(lambda one: one.addfile(_entry(name))), str(inside), "x", owners=False)
    assert not (tmp_path / "evil").exists()


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    """An entry behind a link that the archive made is refused, and the link's target untouched."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()

    def fill(archive: tarfile.TarFile) -> None:
        archive.addfile(_entry("d", tarfile.DIRTYPE, mode=0o755))
        archive.addfile(_entry("d/l", tarfile.SYMTYPE, str(outside)))
        archive.addfile(_entry("d/l/evil"))

    with pytest.raises(PannierError):
        unpack(_archive(fill), str(inside), "d", owners=False)
    assert list(outside.iterdir()) == []


def test_a_folder_entry_does_not_follow_a_link(tmp_path: Path) -> None:
    """A folder over an existing link to elsewhere neither follows it nor changes its target."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir(mode=0o700)
    (inside / "d").symlink_to(outside)

    def fill(archive: tarfile.TarFile) -> None:
        archive.addfile(_entry("d", tarfile.DIRTYPE, mode=0o777))

    with pytest.raises(PannierError):
        unpack(_archive(fill), str(inside), "d", owners=False)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700


def test_a_hard_link_stays_inside(tmp_path: Path) -> None:
    """A hard link names an entry of the archive, never a file of the host."""
    (tmp_path / "secret").write_text("secret")
    inside = tmp_path / "in"
    inside.mkdir()

    def absolute(archive: tarfile.TarFile) -> None:
        archive.addfile(_entry("d", tarfile.DIRTYPE, mode=0o755))
        archive.addfile(_entry("d/h", tarfile.LNKTYPE, str(tmp_path / "secret")))

    def climbing(archive: tarfile.TarFile) -> None:
        archive.addfile(_entry("d", tarfile.DIRTYPE, mode=0o755))
        archive.addfile(_entry("d/h", tarfile.LNKTYPE, "d/../../secret"))

    for fill in (absolute, climbing):
        with pytest.raises(PannierError):
            unpack(_archive(fill), str(inside), "d", owners=False)
    assert not (inside / "d" / "h").exists()


def test_a_file_replaces_a_link_instead_of_writing_through_it(tmp_path: Path) -> None:
    """A link where the file goes is replaced; what it led to stays as it was."""
    victim = tmp_path / "victim"
    victim.write_text("safe")
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "f").symlink_to(victim)
    unpack(_archive(lambda one: one.addfile(_entry("f"))), str(inside), "f", owners=False)
    assert victim.read_text() == "safe"
    assert not (inside / "f").is_symlink()


def test_set_uid_bits_do_not_become_ours(tmp_path: Path) -> None:
    """A container's set-uid program must not become one of who copies it."""
    fill = _archive(lambda one: one.addfile(_entry("f", mode=0o6755)))
    unpack(fill, str(tmp_path), "f", owners=False)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o755


def test_a_device_is_not_made(tmp_path: Path) -> None:
    """A container's device nodes are nothing for the host."""
    info = _entry("n", tarfile.CHRTYPE)
    info.devmajor, info.devminor = 1, 3
    unpack(_archive(lambda one: one.addfile(info)), str(tmp_path), "n", owners=False)
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("data", [b"garbage" * 200, b"\0" * 100])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    """Garbage is an error of the daemon's answer."""
    with pytest.raises(InvalidRequest, match="malformed"):
        unpack(iter([data]), str(tmp_path), "x", owners=False)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The file that stood in the way is in the message."""
    with pytest.raises(PannierError, match="none"):
        list(pack(str(tmp_path / "none"), "none", contents=False))
