"""What the packer writes, as the standard library's tarfile and GNU tar read it."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.base import IdMap, IdMapping
from pannier.drivers.storage import Change, ChangeKind
from pannier.images.pack import pack_changes, pack_tree
from pannier.linux.trees import DIRECTORY, PATH

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

pytestmark = pytest.mark.root

IDMAP = IdMap((IdMapping(0, 100000, 1000),), (IdMapping(0, 200000, 1000),))


def packed(root: Path, **options: object) -> bytes:
    """Pack a tree."""
    out = io.BytesIO()
    pack_tree(root, out, **options)  # type: ignore[arg-type] # handed through
    return out.getvalue()


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    """Read an archive with the standard library."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar}


def layer(root: Path, changes: Iterable[Change]) -> bytes:
    """Pack changes."""
    out = io.BytesIO()
    descriptor = os.open(root, DIRECTORY)
    try:
        pack_changes(descriptor, changes, out, idmap=None)
    finally:
        os.close(descriptor)
    return out.getvalue()


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    """Neither the order of creation nor access times show."""
    for name, order in (("one", "abc"), ("two", "cab")):
        (tmp_path / name).mkdir()
        for letter in order:
            (tmp_path / name / letter).write_text(letter)
            os.utime(tmp_path / name / letter, ns=(len(order), 5))
    first = packed(tmp_path / "one")
    (tmp_path / "two" / "a").read_text()
    assert first == packed(tmp_path / "two")
    assert list(members(first)) == ["a", "b", "c"]


def test_gnu_tar_reads_it(tmp_path: Path) -> None:
    """Long names, times, ids, links and holes, extracted by another program."""
    source, target = tmp_path / "source", tmp_path / "target"
    deep = source / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    target.mkdir()
    (deep / "file").write_bytes(b"content")
    (source / "link").symlink_to("x" * 150)
    os.link(deep / "file", source / "hard")
    os.chown(source / "hard", 5_000_000, 6_000_000)
    os.utime(source / "hard", ns=(0, 1_234_567_890_000_000_321))
    with (source / "sparse").open("wb") as file:
        for offset in (0, 10 << 20, 30 << 20):
            file.seek(offset)
            file.write(b"data" * 100)
        file.truncate(64 << 20)
    data = packed(source)
    assert len(data) < 1 << 20
    subprocess.run(["tar", "-xf", "-", "-C", target], input=data, check=True)
    status = (target / "hard").stat()
    assert (status.st_uid, status.st_gid) == (5_000_000, 6_000_000)
    assert status.st_mtime_ns == 1_234_567_890_000_000_321
    assert (target / deep.relative_to(source) / "file").stat().st_ino == status.st_ino
    assert (target / "link").readlink() == (source / "link").readlink()
    assert (target / "sparse").read_bytes() == (source / "sparse").read_bytes()


def test_a_prefix_names_the_root(tmp_path: Path) -> None:
    """As docker cp wants it: a folder's last component, or a file's, begins every name."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("folder")
    assert list(members(packed(tmp_path / "folder", prefix="name"))) == ["name", "name/file"]
    assert list(members(packed(tmp_path / "folder" / "file", prefix="file"))) == ["file"]
    link = members(packed(tmp_path / "link", prefix="link"))["link"]
    assert (link.type, link.linkname) == (tarfile.SYMTYPE, "folder")


def test_a_descriptor_that_only_names_is_enough(tmp_path: Path) -> None:
    """O_PATH descriptors, as fsmount(2) and openat2(2) give them."""
    (tmp_path / "file").write_bytes(b"x")
    for path, prefix, names in ((tmp_path, "", ["file"]), (tmp_path / "file", "f", ["f"])):
        descriptor = os.open(path, PATH)
        try:
            out = io.BytesIO()
            pack_tree(descriptor, out, prefix=prefix)
            assert list(members(out.getvalue())) == names
        finally:
            os.close(descriptor)


def test_changes_become_entries_and_whiteouts(tmp_path: Path) -> None:
    """Added and modified files are written, sorted; deleted ones are .wh. files."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "a").write_bytes(b"a")
    data = layer(
        tmp_path,
        [
            Change("/usr/gone", ChangeKind.DELETED),
            Change("/etc/a", ChangeKind.ADDED),
            Change("/top", ChangeKind.DELETED),
            Change("/etc", ChangeKind.MODIFIED),
            Change("/vanished", ChangeKind.ADDED),
        ],
    )
    assert list(members(data)) == ["etc", "etc/a", ".wh.top", "usr/.wh.gone"]


def test_changes_do_not_run_through_links(tmp_path: Path) -> None:
    """What a container put in a folder's place meanwhile does not lead outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"x")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "etc").symlink_to("../outside")
    with pytest.raises(OSError, match="symbolic"):
        layer(tmp_path / "root", [Change("/etc/secret", ChangeKind.ADDED)])


def test_ids_are_translated_back(tmp_path: Path) -> None:
    """Owners, capabilities and access lists are written with the container's ids."""
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 100007, 200008)
    (tmp_path / "stray").touch()
    acl = struct.pack("<I", 2)
    for tag, number in ((1, 2**32 - 1), (2, 100005), (4, 2**32 - 1), (8, 200006), (16, 2**32 - 1)):
        acl += struct.pack("<HHI", tag, 6, number)
    acl += struct.pack("<HHI", 32, 4, 2**32 - 1)
    try:
        os.setxattr(path, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"this filesystem has no access lists ({error}); mount it with acl")
    found = members(packed(tmp_path, idmap=IDMAP))
    assert (found["file"].uid, found["file"].gid) == (7, 8)
    assert (found["stray"].uid, found["stray"].gid) == (65534, 65534)
    written = found["file"].pax_headers["SCHILY.xattr.system.posix_acl_access"]
    value = written.encode("utf-8", "surrogateescape")
    assert struct.pack("<HHI", 2, 6, 5) in value
    assert struct.pack("<HHI", 8, 6, 6) in value


def test_a_file_that_shrinks_is_filled_up(tmp_path: Path) -> None:
    """The archive stays readable when a running container truncates a log being packed."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * 3_000_000)
    (tmp_path / "next").write_bytes(b"next")

    class Shrinking(io.BytesIO):
        def write(self, data: object, /) -> int:
            os.truncate(path, 1_500_000)
            return super().write(data)  # type: ignore[arg-type] # handed through

    out = Shrinking()
    pack_tree(tmp_path, out)
    found = members(out.getvalue())
    assert found["log"].size == 3_000_000
    assert "next" in found
