"""Walking, measuring, copying and removing trees of any shape."""

from __future__ import annotations

import fcntl
import os
import stat
from typing import TYPE_CHECKING

import pytest

from pannier.linux.copying import copy_content, copy_node, copy_tree
from pannier.linux.trees import (
    DIRECTORY,
    PATH,
    Folders,
    measure_files,
    measure_tree,
    remove_tree,
    walk_tree,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DEPTH = 1500


@pytest.fixture
def here(tmp_path: Path) -> Iterator[int]:
    """Give a descriptor of an empty folder; no other may be left open."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted only
    descriptor = os.open(tmp_path, DIRECTORY)
    yield descriptor
    remove_tree(b"deep", descriptor)
    os.close(descriptor)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above


def dig(here: int, depth: int) -> None:
    """Make folders inside one another, deeper than a path can name."""
    os.mkdir("deep", dir_fd=here)
    inner = os.open("deep", PATH, dir_fd=here)
    for _ in range(depth):
        os.mkdir("deeper", dir_fd=inner)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
        below = os.open("deeper", PATH, dir_fd=inner)
        os.close(inner)
        inner = below
    os.close(inner)


def test_a_walk_is_sorted_and_does_not_follow_links(tmp_path: Path, here: int) -> None:
    """A folder comes before what is in it, and a link is only a link."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "z").touch()
    (tmp_path / "b" / "a").touch()
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b.c").touch()
    assert [found.path for found in walk_tree(here)] == [b"a", b"b", b"b/a", b"b/z", b"b.c"]


def test_trees_deeper_than_any_path(here: int) -> None:
    """A container can make them; they are walked, measured and removed all the same."""
    dig(here, _DEPTH)
    assert measure_tree(here) == (0, 2 * _DEPTH + 1)
    remove_tree(b"deep", here)
    assert list(walk_tree(here)) == []


def test_a_removal_may_be_held_up_before_each_folder(tmp_path: Path, here: int) -> None:
    """What is below has not gone by then, what was removed before has."""
    (tmp_path / "deep" / "one").mkdir(parents=True)
    (tmp_path / "deep" / "file").touch()
    seen = []
    remove_tree(b"deep", here, between=lambda: seen.append(sorted(tmp_path.rglob("*"))))
    top, one, file = tmp_path / "deep", tmp_path / "deep" / "one", tmp_path / "deep" / "file"
    assert seen == [[top, file, one], [top, one]]
    assert list(tmp_path.iterdir()) == []


def test_a_walk_that_is_given_up_closes_its_descriptors(here: int) -> None:
    """The fixture counts them."""
    dig(here, 100)
    walk = walk_tree(here)
    for _ in range(150):
        next(walk)
    walk.close()


def test_what_vanishes_during_a_walk_is_left_out(tmp_path: Path, here: int) -> None:
    """Files and whole folders may go meanwhile."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    seen = []
    for found in walk_tree(here):
        seen.append(found.path)
        if found.path == b"a":
            remove_tree(b"b", here)
            remove_tree(b"a", here)
    assert seen == [b"a", b"c", b"c/file"]


def test_measures_count_hard_links_once(tmp_path: Path, here: int) -> None:
    """Whole trees, or some files of them; a symbolic link has the bytes of its target's name."""
    (tmp_path / "one").write_bytes(b"12345")
    os.link(tmp_path / "one", tmp_path / "two")
    (tmp_path / "three").write_bytes(b"123")
    (tmp_path / "link").symlink_to("somewhere")
    assert measure_tree(here) == (17, 3)
    assert measure_files(here, [b"one", b"two", b"gone", b"gone/too", b"link"]) == (14, 2)


def test_removing_takes_anything_and_nothing(tmp_path: Path, here: int) -> None:
    """Files, links and folders go; their targets stay; what is not there is no error."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    (tmp_path / "link").symlink_to("outside")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to("../outside")
    for name in (b"link", b"folder", b"nothing"):
        remove_tree(name, here)
    assert (tmp_path / "outside" / "file").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside"]


def test_folders_are_not_found_through_links(tmp_path: Path, here: int) -> None:
    """Paths below a root have no links in them."""
    (tmp_path / "link").symlink_to("/")
    folders = Folders(here)
    try:
        with pytest.raises(OSError, match="symbolic"):
            folders.open(b"link/etc")
        with pytest.raises(OSError, match="cross-device"):
            folders.open(b"..")
    finally:
        folders.close()


@pytest.mark.parametrize("way", ["clone or range", "range", "by hand"])
def test_content_is_copied_with_its_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """By whichever way the filesystem has."""

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    if way != "clone or range":
        monkeypatch.setattr(fcntl, "ioctl", refuse)
    if way == "by hand":
        monkeypatch.setattr(os, "copy_file_range", refuse)
    size = 8 << 20
    with (tmp_path / "source").open("w+b") as source, (tmp_path / "target").open("w+b") as target:
        for offset in (1 << 20, 5 << 20):
            source.seek(offset)
            source.write(b"data" * 30_000)
        source.truncate(size)
        copy_content(source.fileno(), target.fileno(), size)
        assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
        used = os.fstat(source.fileno()).st_blocks
        assert os.fstat(target.fileno()).st_blocks <= used + 16


@pytest.mark.root
def test_one_node_of_each_kind_is_copied(tmp_path: Path, here: int) -> None:
    """From a descriptor that only names it."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0o4711)
    (tmp_path / "link").symlink_to("nowhere")
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(tmp_path / "fifo")
    for name in ("file", "link", "null", "fifo"):
        os.chown(tmp_path / name, 5, 6, follow_symlinks=False)
        if name == "file":
            (tmp_path / "file").chmod(0o4711)
        source = os.open(name, PATH, dir_fd=here)
        try:
            copy_node(source, here, name.encode() + b"-copy")
        finally:
            os.close(source)
        old, new = ((tmp_path / path).lstat() for path in (name, f"{name}-copy"))
        for field in ("st_mode", "st_uid", "st_gid", "st_rdev", "st_size", "st_mtime_ns"):
            assert getattr(new, field) == getattr(old, field), (name, field)


@pytest.mark.root
def test_a_tree_is_copied_between_descriptors_that_only_name(tmp_path: Path) -> None:
    """Folders' times survive what is put into them; the root's own mode is copied too."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "folder").mkdir(parents=True)
    target.mkdir()
    (source / "folder" / "file").write_bytes(b"x")
    os.link(source / "folder" / "file", source / "hard")
    source.chmod(0o1777)
    os.setxattr(source / "folder", "user.note", b"1")
    for path in (source / "folder", source):
        os.utime(path, ns=(1, 1_000_000_007))
    descriptors = [os.open(path, PATH) for path in (source, target)]
    try:
        copy_tree(*descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    assert (target / "folder").stat().st_mtime_ns == target.stat().st_mtime_ns == 1_000_000_007
    assert stat.S_IMODE(target.stat().st_mode) == 0o1777
    assert os.getxattr(target / "folder", "user.note") == b"1"
    assert (target / "hard").stat().st_ino == (target / "folder" / "file").stat().st_ino
